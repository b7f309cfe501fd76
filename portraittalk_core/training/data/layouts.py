"""Folders of public video corpora: which of their videos are taken, where their sound is, and what is held out.

Nothing is downloaded; the user has the corpus, as it is handed out. Its people's licences say what may be done with it.
Sources: LRS2 (Afouras et al. 2018) and LRW (Chung & Zisserman 2016), www.robots.ox.ac.uk/~vgg/data/lip_reading; HDTF
(Zhang et al. 2021), github.com/MRzzm/HDTF; MEAD (Wang et al. 2020), wywu.github.io/projects/MEAD.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...media.files import files_below, is_hidden
from ..mouth.speaker import VIDEO_SUFFIXES

TRAIN, HELD_OUT = "train.txt", "held_out.txt"  # lists of clips that are written beside the clips
OFFICIAL = ("test", "val")  # of the corpora's own splits, what is held out
HELD_OUT_EVERY = 10  # people, in the order of their names, where a corpus has no split of its own
SOUND_SUFFIXES = (".m4a", ".wav", ".aac", ".mp3")


@dataclass(frozen=True)
class Layout:
    """How a corpus lays its videos out."""

    pattern: re.Pattern[str]  # of a video's path below the folder, without its suffix; group `who`: the speaker
    shape: str  # for messages
    split: str | None = None  # group of the pattern that is "train", "val" or "test"
    lists: bool = False  # train.txt, val.txt, test.txt name clips by the pattern's group `clip`
    sound: tuple[str, str] | None = None  # what of a path becomes what for its sound, which lies in a file of its own


LAYOUTS = {
    "lrs2": Layout(
        re.compile(r"(?:.*/)?(?:main|pretrain)/(?P<clip>(?P<who>[^/]+)/\d+)$"), "main/SPEAKER/00001.mp4", lists=True
    ),
    "lrw": Layout(
        re.compile(r"(?:.*/)?(?P<who>[^/]+)/(?P<split>train|val|test)/[^/]+$"), "WORD/train/WORD_00001.mp4", "split"
    ),
    "hdtf": Layout(re.compile(r"(?:.*/)?(?P<who>(?:RD|WDA|WRA)_[^/]*?)_\d+$"), "RD_Name_000.mp4"),
    "mead": Layout(
        re.compile(r"(?:.*/)?(?P<who>[MW]\d+)/video/front/[^/]+/level_\d+/\d+$"),
        "M003/video/front/happy/level_1/001.mp4", sound=("/video/front/", "/audio/"),
    ),
}  # fmt: skip
ANY = "any"  # of the options' choices, the one that is no corpus


def video_names(videos: Path, out: Path, layout: str = ANY) -> list[str]:
    """Paths of a folder's videos below it, in order.

    Args:
        videos: the folder; sub-folders are searched too.
        out: what lies in it is left out.
        layout: of `PrepareOptions`; videos elsewhere than in the corpus's own places are left out.

    Raises:
        InputError: no folder, or no such video in it.
    """
    if not videos.is_dir():
        raise InputError(f"{videos} is not a folder; give one with videos.")
    paths = [p for p in files_below(videos) if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()]
    paths = [path for path in paths if not is_hidden(path)]
    if not paths:
        raise InputError(f"{videos} holds no video ({', '.join(VIDEO_SUFFIXES)}); put some there.")
    names = [path.relative_to(videos).as_posix() for path in paths if not path.is_relative_to(out)]
    if layout == ANY:
        return names
    matching = [name for name in names if _match(name, layout)]
    if not matching:
        raise InputError(
            f"{videos} holds {len(names)} videos, but none where {layout.upper()} has them ({LAYOUTS[layout].shape}); "
            "give the corpus's own folder, or take all videos with --layout any."
        )
    return matching


def sound_of(videos: Path, name: str, layout: str) -> Path | None:
    """File with a video's sound, where its layout keeps it beside the video; None where there is none."""
    swap = LAYOUTS[layout].sound if layout != ANY else None
    if swap is None:
        return None
    stem = videos / f"/{_stem(name)}".replace(*swap)[1:]
    files = (stem.with_name(f"{stem.name}{suffix}") for suffix in SOUND_SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def split_lists(videos: Path, names: Sequence[str], layout: str) -> tuple[list[str], list[str]]:
    """Clips to train on and clips to hold out: the corpus's own test and validation parts, or every tenth speaker.

    Of fewer than ten speakers the last one is held out, of a single one nothing.

    Args:
        videos: the folder.
        names: of the clips that are kept.
        layout: not "any".

    Raises:
        InputError: a list of the corpus cannot be read.
    """
    rule, matches = LAYOUTS[layout], {name: _match(name, layout) for name in names}
    if rule.split is not None:
        held_out = {name for name, match in matches.items() if match[rule.split] in OFFICIAL}
    elif rule.lists:
        listed = _listed(videos)
        held_out = {name for name, match in matches.items() if match["clip"] in listed}
    else:
        people = sorted({match["who"] for match in matches.values()})
        others = people[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY] or people[1:][-1:]  # of a few people one
        held_out = {n for n, m in matches.items() if m["who"] in others}
    return [name for name in names if name not in held_out], [name for name in names if name in held_out]


def _listed(videos: Path) -> Collection[str]:
    """First words of the lines of LRS2's test.txt and val.txt, wherever they lie in the folder's first two levels."""
    names: set[str] = set()
    for part in OFFICIAL:
        for path in (*videos.glob(f"{part}.txt"), *videos.glob(f"*/{part}.txt")):
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"the list {path} cannot be read ({error}); take the corpus's own file.") from error
            names |= {line.split()[0] for line in lines if line.strip()}
    return names


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _match(name: str, layout: str) -> re.Match[str] | None:
    return LAYOUTS[layout].pattern.match(_stem(name))
