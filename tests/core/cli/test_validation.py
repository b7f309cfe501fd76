"""What every command refuses before it runs: outputs that are inputs, and values that no declaration allows."""

import argparse
import os
from pathlib import Path

import pytest

from portraittalk_core.cli import main as cli
from portraittalk_core.cli.arguments import add_file, add_options
from portraittalk_core.cli.validation import OutputAction, check_arguments
from portraittalk_core.errors import InputError
from portraittalk_core.style.options import StyleUse


def subparsers() -> dict[str, argparse.ArgumentParser]:
    (commands,) = (a for a in cli.build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return commands.choices


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    add_file(made, "--in", "IN", "read", False)
    add_file(made, "--many", "FILE", "read", False)
    made.add_argument("--lora", metavar="FILE[:X]", action="append")
    made.add_argument("--prompt", metavar="TEXT")
    made.add_argument("--rate", type=float)
    add_file(made, "--out", "OUT", "written", False)
    add_file(made, "--table", "DIR", "written", False, files=lambda folder: (folder / "table.csv",))
    add_file(made, "--clips", "FOLDER", "written", False, folder=True)
    return made


def check(*words: object) -> None:
    made = parser()
    check_arguments(made, made.parse_args([str(word) for word in words]))


@pytest.fixture
def film(tmp_path) -> Path:
    (tmp_path / "a.mp4").write_bytes(b"kept")
    return tmp_path / "a.mp4"


@pytest.mark.parametrize("how", ["same", "dots", "link", "hard", "link to the folder"])
@pytest.mark.parametrize("flag", ["--in", "--many", "--lora", "--lora with strength"])
def test_an_output_that_is_any_input_is_refused(flag, how, film):
    out = film.with_name("out.mp4")
    if how == "link":
        out.symlink_to(film.name)
    elif how == "hard":
        out.hardlink_to(film)
    elif how == "link to the folder":
        (film.parent / "folder").symlink_to(".")
        out = film.parent / "folder" / film.name
    else:
        out = film if how == "same" else film.parent / ".." / film.parent.name / film.name
    value = f"{film}:0.5" if "strength" in flag else film
    with pytest.raises(InputError, match=rf"is also the input .*a\.mp4 \({flag.split()[0]}\)"):
        check(flag.split()[0], value, "--out", out)
    check(flag.split()[0], value, "--out", film.with_name("other.mp4"))


def test_a_text_that_happens_to_be_a_files_name_is_no_input(film):
    check("--prompt", film, "--out", film)


def test_fixed_names_in_an_output_folder_count(tmp_path):
    (tmp_path / "table.csv").write_text("read")
    with pytest.raises(InputError, match=r"table\.csv is also the input"):
        check("--in", tmp_path / "table.csv", "--table", tmp_path)
    check("--in", tmp_path / "other.csv", "--table", tmp_path)


def test_two_outputs_may_not_be_one_file(tmp_path):
    with pytest.raises(InputError, match="--out and --table would both write"):
        check("--out", tmp_path / "table.csv", "--table", tmp_path)


def test_an_output_folder_holds_no_input_folder(tmp_path):
    (tmp_path / "clips" / "videos").mkdir(parents=True)
    for read in (tmp_path / "clips", tmp_path / "clips" / "videos"):
        with pytest.raises(InputError, match="--in"):
            check("--in", read, "--clips", tmp_path / "clips")
    check("--in", tmp_path, "--clips", tmp_path / "clips")  # prepare passes over its own folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "nan"], "--rate must be a finite number"),
        (["--rate", "1e309"], "--rate must be a finite number"),
        (["--prompt", "a\udcff"], "--prompt holds bytes that are no text"),
        (["--prompt", "x" * 30_000], "30000 letters"),
        (["--in", "x" * 300], "too long a name"),
        (["--in", "a\0b"], "NUL"),
    ],
)
def test_values_that_nothing_can_take_are_refused(words, said):
    with pytest.raises(InputError, match=said):
        check(*words)


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_link_that_leads_to_itself_is_told(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match="leads to itself"):
        check("--in", tmp_path / "loop")


def test_a_name_of_bytes_that_are_no_letters_is_a_name(tmp_path):
    check("--in", tmp_path / "a\udcff.wav")


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "2.5"])
@pytest.mark.parametrize("flag", ["--style-strength", "--style-noise"])
def test_a_declared_range_is_held_even_where_the_command_does_not_look(flag, value):
    made = argparse.ArgumentParser()
    add_options(made, StyleUse)
    with pytest.raises(InputError, match=rf"{flag} must"):
        check_arguments(made, made.parse_args([f"{flag}={value}"]))
    check_arguments(made, made.parse_args([f"{flag}=2"]))


def test_every_command_declares_what_it_writes():
    """By its name or its metavar a flag tells that it is an output; both must agree, in every command."""
    for name, command in subparsers().items():
        for action in command._actions:
            named = action.option_strings[:1] == ["--out"] or str(action.metavar).startswith("OUT")
            assert isinstance(action, OutputAction) == named, (name, action.option_strings)


@pytest.mark.slow
def test_every_input_of_every_command_is_safe_from_its_output(tmp_path, capsys):
    """Goes over what the parsers declare: a flag that is added tomorrow is tried, too."""
    tried = 0
    for name, command in subparsers().items():
        outputs = [a for a in command._actions if isinstance(a, OutputAction) and not a.folder]
        inputs = [a for a in command._actions if a.option_strings and _reads_file(a)]
        for out in outputs:
            suffix = Path(str(out.metavar)).suffix or {"score": ".html"}.get(name, ".csv")
            for read in inputs:
                path = tmp_path / f"kept{suffix}"
                path.write_bytes(b"kept")
                needed = [a for a in command._actions if a.required and a.option_strings]
                needed += _one_of_each(command, read)
                given = {a.option_strings[0]: "x" for a in needed}
                given |= {read.option_strings[0]: str(path), out.option_strings[0]: str(path)}
                positional = ["mouth"] if name == "train" else []
                if name == "batch":
                    continue  # writes fixed names in a folder
                words = [name, *positional, *(f"{flag}={value}" for flag, value in given.items())]
                assert cli.main(words) == 2, words
                assert "is also the input" in capsys.readouterr().err, words
                assert path.read_bytes() == b"kept"
                tried += 1
    assert tried > 60


def _one_of_each(command: argparse.ArgumentParser, wanted: argparse.Action) -> list[argparse.Action]:
    """One flag of every group that needs one and takes no second: the wanted one where it is in there."""
    groups = [group._group_actions for group in command._mutually_exclusive_groups if group.required]
    return [wanted if wanted in actions else actions[0] for actions in groups]


def _reads_file(action: argparse.Action) -> bool:
    return not isinstance(action, OutputAction) and (
        action.type is Path or action.option_strings[0] in ("--style", "--lora")
    )


def test_a_manifest_is_safe_from_the_batchs_own_tables(tmp_path, capsys):
    (tmp_path / "batch.csv").write_text("job,out\n")
    assert cli.main(["batch", str(tmp_path / "batch.csv"), "--out", str(tmp_path)]) == 2
    assert "is also the input" in capsys.readouterr().err
    assert (tmp_path / "batch.csv").read_text() == "job,out\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--encoder", "{tmp}/e.pt"], "--encoder cannot be used with the engine embedded"),
        (["--face-model", "{tmp}"], "--face-model cannot be used with the engine embedded"),
        (["--style-strength", "0.5"], "--style-strength needs --style"),
    ],
)
def test_options_that_nothing_heeds_are_told(words, said, tmp_path, capsys):
    given = [word.replace("{tmp}", str(tmp_path)) for word in words]
    base = ["landmarks", "--portrait", "p.png", "--speech", "s.wav", "--out", str(tmp_path / "o.safetensors")]
    assert cli.main([*base, *given]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["identity", "--config", "x.toml", "--seed", "3"], "--seed cannot be used in train identity"),
        (["mouth", "--out", "{tmp}/a.safetensors", "--base", "b"], "--base cannot be used in train mouth without"),
        (["mouth", "--config", "x.toml", "--hours", "3"], "--hours cannot be used in train mouth with --config"),
        (["mouth", "--out", "{tmp}/a.safetensors", "--videos", "{tmp}", "--hours", "3"], "--hours cannot be used"),
        (["mouth", "--out", "{tmp}/a.safetensors", "--seed", "-1"], "--seed must lie between"),
        (["mouth", "--out", "{tmp}/a.safetensors", "--hours", "nan"], "--hours must be a finite number"),
    ],
)
def test_train_takes_only_what_it_heeds(words, said, tmp_path, capsys):
    assert cli.main(["train", *(word.replace("{tmp}", str(tmp_path)) for word in words)]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
