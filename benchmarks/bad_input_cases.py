"""Cases of the bad-input benchmark: every option of every command with every bad value, as the parsers declare them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .bad_films import words_of_cases
from .bad_input_files import bad_files
from .bad_portraits import words_of_portraits
from .bad_processes import SURROUNDINGS

# what each command needs at least, as flag → value; the positional argument has no dashes
GOOD: dict[str, dict[str, str]] = {
    "talk": {"--portrait": "portrait.png", "--speech": "speech.wav", "--out": "out/o.mp4"},
    "landmarks": {"--portrait": "portrait.png", "--speech": "speech.wav", "--out": "out/o.safetensors"},
    "live": {"--portrait": "portrait.png", "--speech": "speech.wav", "--output": "http", "--port": "0"},
    "render": {"--portrait": "portrait.png", "--track": "track.safetensors", "--out": "out/o.mp4"},
    "dub": {"--video": "film.mp4", "--speech": "speech.wav", "--out": "out/o.mp4"},
    "track": {"--video": "film.mp4", "--out": "out/o.safetensors"},
    "style": {"--video": "film.mp4", "--out": "out/o.safetensors"},
    "plot": {"--track": "track.safetensors", "--out": "out/o.png"},
    "score": {"--generated": "film.mp4", "--target": "real.mp4", "--out": "out/scores"},
    "batch": {"manifest": "jobs.csv", "--out": "out/made"},
    "prepare": {"--videos": "videos", "--out": "out/clips"},
    "train": {"what": "style", "--config": "style.toml"},
    "doctor": {},
}
# the words a flag needs beside it, where its command does not have them
_MOUTH = {"what": "mouth", "--config": "", "--videos": "videos", "--out": "out/o.safetensors"}
BESIDE: dict[str, dict[str, str]] = {
    "score --pairs": {"--generated": "", "--target": ""},
    "score --json": {"--out": ""},
    **{f"train {flag}": _MOUTH for flag in ("--out", "--videos", "--base", "--steps", "--seed")},
}
SHARED_STEP = 8  # of the bad values of a flag that an earlier command has too, so many are passed over
# flags whose files the same reader reads as those of another flag
FEW_FILES = ("--style", "--vae", "--clip-vision", "--controlnet", "--motion-module", "--animatenet")
NUMBERS = ("nan", "inf", "-1e309", "1e309", "9" * 400, "-1", "0x10", "1e400/7", "", "\ud800")
TEXTS = ("\udcff", "a" * 60_000, "", "\n", "<script>", "\u202e")
OUTPUTS = (
    "out",
    "out/none/o{suffix}",
    "out/o.exe",
    "out/{long}{suffix}",
    "/dev/null",
    "/proc/o{suffix}",
    "out/loop{suffix}",
)


@dataclass(frozen=True)
class Case:
    """One command line."""

    name: str
    words: tuple[str, ...]
    taken: str = ""  # an input that the output would destroy: exit code 2 is demanded
    surroundings: str = ""  # of a process of its own, see `bad_processes`


def cases() -> Iterator[Case]:
    """Every case, from the parsers of all commands; a flag that commands share is tried fully in the first of them."""
    from portraittalk_core.cli.main import build_parser

    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))  # noqa: SLF001
    seen: set[str] = set()
    for command, parser in commands.choices.items():
        for action in parser._actions:  # noqa: SLF001
            name = f"{_flag(action)} {action.metavar}"
            yield from _cases_of(command, action, SHARED_STEP if name in seen else 1)
            seen.add(name)
    for command, good in GOOD.items():
        yield from _destroying(command, good, commands.choices[command])
    yield from _settings_of_stages(commands.choices["train"])
    yield from _blends()
    yield from (Case(name, words) for listed in (words_of_cases(), words_of_portraits()) for name, words in listed)
    for surroundings in SURROUNDINGS:
        words = ("landmarks", *(f"{flag}={value}" for flag, value in GOOD["landmarks"].items()))
        yield Case(f"landmarks with {surroundings}", words, surroundings=surroundings)


def _cases_of(command: str, action: argparse.Action, step: int) -> Iterator[Case]:
    from portraittalk_core.cli.validation import OutputAction

    flag = _flag(action)
    if action.nargs == 0 or flag in ("-h", "--corpus"):  # which would begin to synthesise hours of speech
        return
    if isinstance(action, OutputAction):
        suffix = Path(GOOD[command].get(flag, f"x{_suffix(action)}")).suffix
        for k, value in enumerate(OUTPUTS):
            yield _case(command, flag, value.format(suffix=suffix, long="x" * 300), f"output {k}")
    elif action.choices is not None:
        yield _case(command, flag, "nonsense", "choice")
    elif action.type is Path or flag in ("--style", "--lora"):
        for name in _bad_files_for(flag, str(action.metavar))[::step]:
            yield _case(command, flag, name, name)
        for value in ("absent.bin", "x" * 300, "a\udcffb.wav")[::step]:
            yield _case(command, flag, value, ascii(value[:9]))
    else:
        values = TEXTS if action.type in (None, str) and "RATE" not in str(action.metavar) else NUMBERS
        for value in values[::step]:
            yield _case(command, flag, value, ascii(value[:9]))


def _settings_of_stages(parser: argparse.ArgumentParser) -> Iterator[Case]:
    """Every bad settings file in every stage of `train`; that of GOOD has them by its flag."""
    (stages,) = (action.choices for action in parser._actions if action.dest == "what")  # noqa: SLF001
    names = [name for name in bad_files()["texts"] if name.endswith(".toml")]
    for stage in stages:
        if stage != GOOD["train"]["what"]:
            yield from (Case(f"train {stage} {name}", ("train", stage, f"--config={name}")) for name in names)


def _blends() -> Iterator[Case]:
    """Bad files as one of the two styles of a blend, a flag with two values."""
    for name in ("noise.wav", "track.safetensors", "one_tensor.safetensors", "absent.bin", "nonsense", ""):
        words = ("style", "--blend", name, "lively", "--out=out/o.safetensors")
        yield Case(f"style --blend {name or 'nothing'}", words)


def _flag(action: argparse.Action) -> str:
    return action.option_strings[0] if action.option_strings else action.dest


def _bad_files_for(flag: str, metavar: str) -> list[str]:
    """Names of the bad files for a flag: those that are bad for everything, then those of the kind it takes."""
    groups = bad_files()
    kinds = {".csv": ["texts"], ".json": ["texts"], ".toml": ["texts"], ".safetensors": ["tracks", "weights"]}
    by_words = {"PICTURE": ["media"], "IN": ["media"], "FILE": ["weights"], "FOLDER": [], "STYLE": ["media", "tracks"]}
    wanted = kinds.get(Path(metavar).suffix, by_words.get(re.split(r"\W", metavar)[0], []))
    names = [name for kind in ("anything", *wanted) for name in groups[kind]]
    if flag in FEW_FILES:
        names = names[::SHARED_STEP]
    return [name for name in names if name.endswith((".csv", ".bin")) or Path(metavar).suffix != ".csv"]


def _suffix(action: argparse.Action) -> str:
    return Path(str(action.metavar)).suffix


def _case(command: str, flag: str, value: str, what: str, taken: str = "") -> Case:
    """The good words of a command with one flag's value replaced."""
    words = {**GOOD[command], **BESIDE.get(f"{command} {flag}", {}), **_of_renderer(flag, command)}
    words[flag] = value
    listed = [command]
    for name, text in words.items():
        if name == flag or text:
            listed += [text] if not name.startswith("--") else [f"{name}={text}"]
    return Case(f"{command} {flag} {what}", tuple(listed), taken)


def _of_renderer(flag: str, command: str) -> Mapping[str, str]:
    """The words with which a renderer's option is heeded."""
    if command not in ("talk", "render", "dub"):
        return {}
    from portraittalk_core.options import options_of
    from portraittalk_core.renderers.registry import DEFAULT, renderer_specs

    of_default = {o.flag for spec in renderer_specs() if spec.name == DEFAULT for o in options_of(spec.options)}
    for spec in renderer_specs():
        if flag not in of_default and any(option.flag == flag for option in options_of(spec.options)):
            needed = {"--checkpoint": "one_tensor.safetensors"} if spec.name == "identitynet" else {}
            return {"--renderer": spec.name, **needed}
    return {}


def _destroying(command: str, good: Mapping[str, str], parser: argparse.ArgumentParser) -> Iterator[Case]:
    """Every input of a command as its output: by name, by another spelling, by a link and by a hard link."""
    from portraittalk_core.cli.validation import OutputAction

    samples = {".mp4": "film.mp4", ".safetensors": "engine.safetensors", ".png": "portrait.png", ".json": "gain.json"}
    outputs = [a for a in parser._actions if isinstance(a, OutputAction) and not a.folder]  # noqa: SLF001
    inputs = [a for a in parser._actions if a.type is Path and not isinstance(a, OutputAction)]  # noqa: SLF001
    inputs += [a for a in parser._actions if a.option_strings[:1] in (["--style"], ["--lora"])]  # noqa: SLF001
    for out in outputs:
        flag = out.option_strings[0]
        suffix = Path(good.get(flag, "")).suffix or _suffix(out)
        if suffix not in samples:
            continue
        for action in inputs:
            read = action.option_strings[0] if action.option_strings else action.dest
            hows = ("same", "dots", "link", "hard")
            for how in hows if read in (*good, "--style", "--engine", "--mesh-model") else hows[:1]:
                name = {"same": samples[suffix], "dots": f"./videos/../{samples[suffix]}"}.get(how, f"{how}{suffix}")
                case = _case(command, flag, name, f"is {read}, {how}", samples[suffix])
                yield Case(case.name, (*case.words, f"{read}={samples[suffix]}") if read.startswith("--") else
                           tuple(samples[suffix] if word == good.get(read) else word for word in case.words),
                           samples[suffix])  # fmt: skip
