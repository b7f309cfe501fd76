"""What is to be evaluated: two files, two folders matched by name, or a CSV of pairs, as one list of samples."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".gif")


@dataclass(frozen=True)
class Sample:
    """A pair to be evaluated, or one video where there is no ground truth."""

    name: str
    generated: Path
    target: Path | None = None
    portrait: Path | None = None
    problem: str | None = None  # why it cannot be scored, known before any work


def samples_of_paths(generated: Path, target: Path | None, portrait: Path | None = None) -> list[Sample]:
    """Samples of two files, of two folders matched by file stem, or of one of them without a target.

    Raises:
        InputError: a file and a folder, a folder without videos, or nothing that matches.
    """
    for path, what in ((generated, "--generated"), (target, "--target")):
        if path is not None and not path.exists():
            raise InputError(f"{what} {path} does not exist; give a video or a folder of videos.")
    if target is not None and generated.is_dir() != target.is_dir():
        kinds = ["folder" if path.is_dir() else "file" for path in (generated, target)]
        raise InputError(f"{generated} is a {kinds[0]}, {target} is a {kinds[1]}; give two videos or two folders.")
    if not generated.is_dir():
        return [Sample(generated.name, generated, target, portrait)]
    made = _videos(generated)
    if target is None:
        return [Sample(path.name, path, None, portrait) for paths in made.values() for path in paths]
    true = _videos(target)
    if not made.keys() & true.keys():
        raise InputError(
            f"no video of {generated} ({_some(made)}) has the name of one of {target} ({_some(true)}); pairs are "
            "matched by their names without the ending. Rename them, or give a CSV with --pairs."
        )
    return [_matched(stem, made.get(stem, []), true.get(stem, []), (generated, target), portrait) for stem in
            dict.fromkeys([*made, *true])]  # fmt: skip


def samples_of_csv(path: Path, reference_free: bool = False, portrait: Path | None = None) -> list[Sample]:
    """Samples of a CSV with the columns generated, target and, if wanted, name and portrait; one sample a line.

    Paths count from the CSV's folder. A file that is missing is a problem of its line only.

    Raises:
        InputError: not readable, a column is missing, or no line holds anything.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a CSV of pairs ({error}); save it as CSV in UTF-8.") from error
    first = text.splitlines()[0] if text.strip() else ""
    delimiter = max(",;\t", key=first.count)
    lines = list(csv.DictReader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True))
    columns = [(name or "").strip().lower() for name in next(csv.reader([first], delimiter=delimiter), [])]
    needed = ("generated",) if reference_free else ("generated", "target")
    if lacks := [name for name in needed if name not in columns]:
        found = f"the first line is {first[:120]!r}" if first else "it is empty"
        raise InputError(
            f"{path} lacks the column{'s' * (len(lacks) > 1)} {' and '.join(lacks)}: {found}. The first line must name "
            "the columns: generated,target and, if wanted, name and portrait."
        )
    cells = [_cells(line) for line in lines]
    wanted = [line for line in cells if any(line.values())]
    if not wanted:
        raise InputError(f"{path} names no pair below its first line.")
    samples = [_of_line(number, line, path.parent, reference_free, portrait) for number, line in enumerate(wanted, 2)]
    return _named_apart(samples)


def _cells(line: dict[str | None, object]) -> dict[str, str]:
    return {str(k).strip().lower(): v.strip() for k, v in line.items() if k is not None and isinstance(v, str)}


def _of_line(number: int, line: dict[str, str], folder: Path, reference_free: bool, portrait: Path | None) -> Sample:
    given = {what: folder / line[what] for what in ("generated", "target", "portrait") if line.get(what)}
    needed = ("generated",) if reference_free else ("generated", "target")
    problems = [f"line {number} names no {what} video" for what in needed if what not in given]
    wanted = {k: v for k, v in given.items() if not (reference_free and k == "target")}
    problems += [f"the {what} {path} does not exist" for what, path in wanted.items() if not path.is_file()]
    name = line.get("name") or (given["generated"].name if "generated" in given else f"line {number}")
    return Sample(
        name,
        given.get("generated", Path()),
        None if reference_free else given.get("target", Path()),
        given.get("portrait", portrait),
        "; ".join(problems) or None,
    )


def _named_apart(samples: list[Sample]) -> list[Sample]:
    """Samples of one name get numbers."""
    totals, seen = Counter(sample.name for sample in samples), Counter()
    named = []
    for sample in samples:
        seen[sample.name] += 1
        several = totals[sample.name] > 1
        named.append(replace(sample, name=f"{sample.name} ({seen[sample.name]})") if several else sample)
    return named


def _videos(folder: Path) -> dict[str, list[Path]]:
    """Videos of a folder by their stems."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not path.name.startswith("."):
            found.setdefault(path.stem, []).append(path)
    if not found:
        raise InputError(f"the folder {folder} holds no video ({', '.join(VIDEO_SUFFIXES)}).")
    return found


def _matched(
    stem: str, made: list[Path], true: list[Path], folders: tuple[Path, Path], portrait: Path | None
) -> Sample:
    problems = []
    for paths, folder, what in ((made, folders[0], "generated"), (true, folders[1], "target")):
        if not paths:
            problems.append(f"there is no {what} video named {stem} in {folder}")
        elif len(paths) > 1:
            problems.append(f"several {what} videos are named {stem}: {', '.join(p.name for p in paths)}")
    places = [paths[0] if paths else folder / stem for paths, folder in zip((made, true), folders, strict=True)]
    return Sample(stem, *places, portrait, "; ".join(problems) or None)


def _some(found: Iterable[str]) -> str:
    names = sorted(found)
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
