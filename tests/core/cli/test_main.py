from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from portraittalk_core.cli import arguments as cli_asked
from portraittalk_core.cli import main as cli
from portraittalk_core.cli import motion as cli_motion
from portraittalk_core.errors import InputError, OutputError
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.options import options_of

COMMANDS = tuple(command.name for command in cli.COMMANDS)


def parse(*words: str):
    return cli.build_parser().parse_args([str(word) for word in words])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_of_the_command(command, capsys):
    assert cli.main([command, "--help"]) == 0
    assert f"  portraittalk {command}" in capsys.readouterr().out


def test_usage_names_what_is_needed_and_no_more(capsys):
    usages = {}
    for command in COMMANDS:
        assert cli.main([command, "--help"]) == 0
        usages[command] = " ".join(capsys.readouterr().out.partition("\n\n")[0].split())
    source = "(--portrait PICTURE | --source PICTURE|VIDEO)"
    assert usages["talk"] == f"usage: portraittalk talk {source} --speech IN --out OUT.mp4 [options]"
    assert usages["batch"] == "usage: portraittalk batch MANIFEST.csv --out DIR [options]"
    assert usages["doctor"] == "usage: portraittalk doctor [options]"
    assert max(map(len, usages.values())) < 200


def test_every_example_of_the_help_can_be_parsed():
    texts = [cli.EPILOG, *(command.examples for command in cli.COMMANDS)]
    texts = [text.replace("\\\n", "") for text in texts]  # one that goes on in the next line
    lines = [line.partition("  (")[0] for text in texts for line in text.splitlines()]
    lines = [line.split() for line in lines if line.startswith("  portraittalk")]
    assert {words[1] for words in lines} == set(COMMANDS)
    for words in lines:
        parse(*words[1:])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "commands:"),
        (["sing"], "'sing' is none of talk, dub, "),
        (["tlak"], "; did you mean talk?\n"),
        (
            ["talk", "--portrait", "a", "--speech", "b", "--out", "c.mp4", "--mouthgain=1"],
            "; did you mean --mouth-gain?",
        ),
        (
            ["talk", "--portrait", "a", "--speech", "b", "--out", "c.mp4", "--emotion", "hapy"],
            "; did you mean happy?\n",
        ),
        (["talk", "--portrait", "a", "--speech", "b", "--out", "c.mp4", "more"], "unrecognized arguments: more\n"),
        (["talk", "--portrait", "a.png"], "--speech, --out"),
        (["talk", "--portrait", "a", "--speech", "b", "--out", "c.mp4", "--seed", "x"], "--seed"),
        (["track", "--video", "a", "--out", "b.safetensors", "--on-missing", "guess"], "interpolate"),
        (["score", "--generated", "a.mp4"], "--target"),
    ],
)
def test_words_that_cannot_be_parsed_exit_2_and_are_named(words, said, capsys):
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert said in captured.err and "Traceback" not in captured.err and not captured.out


def test_an_error_of_words_is_short_and_shows_an_example(capsys):
    """argparse alone would print ninety flags of `talk` before it."""
    assert cli.main(["talk", "--portrait", "a.png"]) == 2
    error, example, more = capsys.readouterr().err.splitlines()
    assert error == "portraittalk talk: error: the following arguments are required: --speech, --out"
    assert example == f"example: {cli.COMMANDS[0].examples.splitlines()[1].strip()}"
    assert more == "All options: portraittalk talk --help"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("{}/hallo.wav", "--speech {}/hallo.wav does not exist; did you mean {}/hello.wav?"),
        ("{}/other.mp3", "--speech {}/other.mp3 does not exist; check the path."),
        ("{}/none/a.wav", "--speech {}/none/a.wav does not exist, nor does the folder {}/none; check the path."),
        ("https://a.org/a.wav", "--speech https:/a.org/a.wav is an address, not a file; download it first."),
        ("~/a.wav", "--speech ~/a.wav does not exist; your shell has not put your home folder for ~"),
    ],
)
def test_a_file_that_is_not_there_is_named_with_its_flag(tmp_path, capsys, path, said):
    (tmp_path / "hello.wav").touch()
    words = ["--portrait", str(tmp_path / "face.png"), "--speech", path.format(tmp_path)]
    assert cli.main(["landmarks", *words, "--out", str(tmp_path / "o.safetensors")]) == 2
    assert capsys.readouterr().err.startswith(f"portraittalk: {said.replace('{}', str(tmp_path))}")


def test_motion_defaults_are_those_of_motion_options():
    args = parse("talk", "--portrait", "p", "--speech", "s", "--out", "o.mp4")
    assert cli_motion.motion_options(args) == MotionOptions()
    # every option is a flag; the curve of gains comes from a file of points
    assert {one.name for one in options_of(MotionOptions)} | {"gain_points"} <= set(vars(args))


MOTION = (
    "fps mouth_gain head_motion blink_rate silence_gate_db smoothing offset_ms seed emotion emotion_strength gaze "
    "gaze_yaw gaze_pitch eye_motion brow_motion breath idle_motion gain_points emotion_points gaze_points"
)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("talk", MOTION),
        ("landmarks", MOTION),
        ("dub", "mouth_gain silence_gate_db smoothing offset_ms seed"),  # the rest is the film's
    ],
)
def test_motion_flags_are_those_of_old(command, words, capsys):
    assert cli.main([command, "--help"]) == 0
    motion = capsys.readouterr().out.partition("\nmotion:\n")[2].partition("motion engine:")[0]
    assert re.findall(r"^  --([a-z-]+)", motion, re.M) == words.replace("_", "-").split()


@pytest.mark.parametrize(
    ("word", "rate"),
    [("25", Fraction(25)), ("29.97", Fraction(30000, 1001)), ("30000/1001", Fraction(30000, 1001)), ("12.5", "25/2")],
)
def test_fps_accepts_whole_ntsc_and_fraction(word, rate):
    args = parse("landmarks", "--portrait", "p", "--speech", "s", "--out", "o.safetensors", "--fps", word)
    assert cli_motion.motion_options(args).fps == Fraction(rate)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--fps", "fast", "'fast'"),
        ("--fps", "0", "--fps must lie between 1 and 240"),
        ("--fps", "1e309", "--fps must be a number"),
        ("--mouth-gain", "1e309", "--mouth-gain must be a number from 0 to 2, not inf"),
        ("--seed", "1" + 400 * "0", "--seed must be a number"),
        ("--fps", "1/0", "'1/0'"),
        ("--mouth-gain", "3", "--mouth-gain must lie between 0 and 2, but is 3"),
        ("--head-motion", "-1", "--head-motion must"),
        ("--blink-rate", "nan", "--blink-rate must"),
        ("--smoothing", "2", "--smoothing must"),
        ("--offset-ms", "9999", "--offset-ms must"),
        ("--seed", "-1", "--seed must"),
        ("--crf", "99", "--crf must"),
    ],
)
def test_option_out_of_range_exits_2_and_says_the_range(option, value, said, tmp_path, capsys):
    out = tmp_path / "out.mp4"
    words = ["talk", "--portrait", "p.png", "--speech", "s.wav", "--out", str(out), f"{option}={value}"]
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_output_in_a_missing_folder_is_refused_with_its_name(tmp_path):
    with pytest.raises(OutputError, match="nowhere.*does not exist"):
        cli_asked.check_output(tmp_path / "nowhere" / "o.mp4", [], (".mp4",))


def test_output_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / "o.mp4").mkdir()
    with pytest.raises(OutputError, match=r"it is a folder; give a file name, such as .*/o.mp4/out\.mp4\."):
        cli_asked.check_output(tmp_path / "o.mp4", [], (".mp4",))
    with pytest.raises(OutputError, match=r"it is a folder; give a file name, such as .*/out\.mp4\."):
        cli_asked.check_output(tmp_path, [], (".mp4",))


def test_output_with_an_unknown_ending_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"o\.avi must end in \.mp4 or \.mov"):
        cli_asked.check_output(tmp_path / "o.avi", [], (".mp4", ".mov"))
    assert cli_asked.check_output(tmp_path / "o.MP4", [], (".mp4",)) == tmp_path / "o.MP4"


@pytest.mark.parametrize("kind", ["same", "dots", "symlink", "hardlink"])
def test_output_that_is_an_input_is_refused_and_left_alone(kind, tmp_path):
    source = tmp_path / "in.mp4"
    source.write_bytes(b"kept")
    out = tmp_path / "out.mp4"
    if kind == "symlink":
        out.symlink_to(source)
    elif kind == "hardlink":
        out.hardlink_to(source)
    else:
        out = source if kind == "same" else tmp_path / ".." / tmp_path.name / "in.mp4"
    with pytest.raises(InputError, match="is also the input"):
        cli_asked.check_output(out, [source], (".mp4",))
    assert source.read_bytes() == b"kept"


def test_doctor_json_can_be_read_back(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    sections = json.loads(capsys.readouterr().out)
    assert {line["name"] for line in sections["Versions"]} >= {"python", "torch", "av", "mediapipe"}


def test_doctor_table_tells_the_running_python(capsys):
    assert cli.main(["doctor"]) == 0
    assert sys.version.split()[0] in capsys.readouterr().out


def test_module_runs_and_help_does_not_load_torch():
    code = (
        "import sys; from portraittalk_core.cli.main import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    )
    root = Path(cli.__file__).parents[2]
    for words in (["--help"], ["talk", "--help"]):
        told = subprocess.run([sys.executable, "-c", code, *words], cwd=root, capture_output=True, check=False)
        assert (told.returncode, told.stderr) == (0, b"") and b"usage: portraittalk" in told.stdout
    shown = subprocess.run(
        [sys.executable, "-m", "portraittalk_core", "--version"], cwd=root, capture_output=True, text=True, check=False
    )
    assert shown.stdout.startswith("portraittalk ")


@pytest.mark.parametrize(("code", "said"), [(130, "handlers ran"), (2, "handlers ran, taken apart")])
def test_a_stopped_command_ends_without_taking_libraries_apart(code, said):
    script = f"""
import atexit
from portraittalk_core.cli import main as cli

class Library:
    def __del__(self):
        print(", taken apart", end="")

library = Library()
atexit.register(print, "handlers ran", end="")
cli.main = lambda: {code}
raise SystemExit(cli.console())
"""
    root = Path(cli.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, said, "")


@pytest.mark.slow
def test_a_terminal_without_unicode_is_no_fault():
    done = subprocess.run(
        [sys.executable, "-m", "portraittalk_core", "doctor"],
        cwd=Path(cli.__file__).parents[2],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
