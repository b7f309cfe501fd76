"""Samples to evaluate: from two files, two folders matched by name, or a CSV of pairs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError
from ..media.text_files import MAX_TABLE_BYTES, parse_csv, read_text

MAX_SHOWN = 400  # letters of a path in a message
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".gif")


@dataclass(frozen=True)
class Sample:
    """A pair to evaluate, or one video without ground truth."""

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
    generated_videos = _videos(generated)
    if target is None:
        return [Sample(path.name, path, None, portrait) for paths in generated_videos.values() for path in paths]
    target_videos = _videos(target)
    if not generated_videos.keys() & target_videos.keys():
        raise InputError(
            f"no video of {generated} ({_some(generated_videos)}) has the name of one of {target} "
            f"({_some(target_videos)}); pairs are matched by their names without the ending. Rename them, or give a "
            "CSV with --pairs."
        )
    folders = generated, target
    return [
        _matched(stem, generated_videos.get(stem, []), target_videos.get(stem, []), folders, portrait)
        for stem in dict.fromkeys([*generated_videos, *target_videos])
    ]


def samples_of_csv(path: Path, reference_free: bool = False, portrait: Path | None = None) -> list[Sample]:
    """Samples of a CSV with the columns generated, target and, if wanted, name and portrait; one sample a line.

    Paths count from the CSV's folder. A file that is missing is a problem of its line only.

    Raises:
        InputError: not readable, a column is missing, or no line holds anything.
    """
    text = read_text(path, "the CSV of pairs", "save it as CSV in UTF-8", MAX_TABLE_BYTES)
    table = parse_csv(text, f"the CSV of pairs {path}")
    first, columns = table.first, table.columns
    needed = ("generated",) if reference_free else ("generated", "target")
    if missing := [name for name in needed if name not in columns]:
        actual = f"the first line is {first[:120]!r}" if first else "it is empty"
        raise InputError(
            f"{path} lacks the column{'s' * (len(missing) > 1)} {' and '.join(missing)}: {actual}. The first line must "
            "name the columns: generated,target and, if wanted, name and portrait."
        )
    rows = [cells for _, cells in table.rows]
    if not rows:
        raise InputError(f"{path} names no pair below its first line.")
    samples = [_of_line(number, line, path.parent, reference_free, portrait) for number, line in enumerate(rows, 2)]
    return _named_apart(samples)


def _of_line(number: int, line: Mapping[str, str], folder: Path, reference_free: bool, portrait: Path | None) -> Sample:
    paths = {what: folder / line[what] for what in ("generated", "target", "portrait") if line.get(what)}
    needed = ("generated",) if reference_free else ("generated", "target")
    problems = [f"line {number} names no {what} video" for what in needed if what not in paths]
    needed_paths = {k: v for k, v in paths.items() if not (reference_free and k == "target")}
    problems += [f"the {what} {_shown(p)} does not exist" for what, p in needed_paths.items() if not os.path.isfile(p)]
    name = line.get("name") or (paths["generated"].name if "generated" in paths else f"line {number}")
    return Sample(
        name,
        paths.get("generated", Path()),
        None if reference_free else paths.get("target", Path()),
        paths.get("portrait", portrait),
        "; ".join(problems) or None,
    )


def _shown(path: Path) -> str:
    return str(path) if len(str(path)) <= MAX_SHOWN else f"{str(path)[:MAX_SHOWN]}…"


def _named_apart(samples: list[Sample]) -> list[Sample]:
    """Number the samples of equal names."""
    totals, counts = Counter(sample.name for sample in samples), Counter()
    named = []
    for sample in samples:
        counts[sample.name] += 1
        several = totals[sample.name] > 1
        named.append(replace(sample, name=f"{sample.name} ({counts[sample.name]})") if several else sample)
    return named


def _videos(folder: Path) -> dict[str, list[Path]]:
    """Videos of a folder by their stems."""
    videos: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not path.name.startswith("."):
            videos.setdefault(path.stem, []).append(path)
    if not videos:
        raise InputError(f"the folder {folder} holds no video ({', '.join(VIDEO_SUFFIXES)}).")
    return videos


def _matched(
    stem: str, generated: list[Path], target: list[Path], folders: tuple[Path, Path], portrait: Path | None
) -> Sample:
    problems = []
    for paths, folder, what in ((generated, folders[0], "generated"), (target, folders[1], "target")):
        if not paths:
            problems.append(f"there is no {what} video named {stem} in {folder}")
        elif len(paths) > 1:
            problems.append(f"several {what} videos are named {stem}: {', '.join(p.name for p in paths)}")
    places = [paths[0] if paths else folder / stem for paths, folder in zip((generated, target), folders, strict=True)]
    return Sample(stem, *places, portrait, "; ".join(problems) or None)


def _some(stems: Iterable[str]) -> str:
    names = sorted(stems)
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
