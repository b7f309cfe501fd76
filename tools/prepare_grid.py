"""Prepare a user's GRID folder for training a small keypoint renderer: ``python tools/prepare_grid.py --grid FOLDER``.

GRID (Cooke, Barker, Cunningham, Shao; DOI 10.5281/zenodo.3625687; CC BY 4.0) is 34 speakers with 1,000 clips of 3 s.
The folder holds one folder a speaker (s1/*.mpg, s4/*.mpg, …), as the corpus is handed out. Face crops, landmarks and
speech go where `portraittalk prepare` would put them; beside them are two lists for `train … clips`:

    train.txt     clips to learn from
    held_out.txt  every fifth clip of the same speakers, and all clips of speakers that are not trained on

The lists depend on nothing but the clips' names, so that two machines split alike.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from portraittalk_core.training.data.options import PrepareOptions  # noqa: E402
from portraittalk_core.training.data.prepare import PrepareReport, prepare_videos  # noqa: E402

TRAIN, HELD_OUT = "train.txt", "held_out.txt"
HELD_OUT_EVERY = 5  # of a trained speaker's clips, in the order of their names
MARGIN = 1.4  # side of the crop over that of the box in which the face moves: face-vid2vid's rule of crops


def split(names: Sequence[str], speakers: Sequence[str]) -> tuple[list[str], list[str]]:
    """Clips to train on and held-out ones.

    Args:
        names: of all clips, "s1/bbaf2n.mpg".
        speakers: folders that are trained on.
    """
    train, held_out = [], []
    for speaker in sorted({name.partition("/")[0] for name in names}):
        own = sorted(name for name in names if name.startswith(f"{speaker}/"))
        kept = own[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY] if speaker in speakers else own
        held_out += kept
        train += sorted(set(own) - set(kept))
    return train, held_out


def prepare_grid(
    grid: Path,
    out: Path,
    speakers: Sequence[str],
    size: int = 128,
    workers: int = 1,
    margin: float = MARGIN,
    on_progress: Callable[[int, int], None] | None = None,
) -> PrepareReport:
    """Prepare all clips of a GRID folder, and write the two lists; returns the report."""
    report = prepare_videos(grid, out, PrepareOptions(size=size, margin=margin), workers, on_progress)
    lists = split([video.name for video in report.kept], speakers)
    for name, clips in zip((TRAIN, HELD_OUT), lists, strict=True):
        (out / name).write_text("".join(f"{clip}\n" for clip in clips), encoding="utf-8")
    return report


def main() -> int:
    """Prepare what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=Path, required=True, help="folder with a folder of videos for each speaker")
    parser.add_argument("--out", type=Path, required=True, help="clips and lists are written here")
    parser.add_argument("--speakers", nargs="+", default=["s1", "s4"], help="trained on; the others are held out")
    parser.add_argument("--size", type=int, default=128, help="pixels a side of the crops")
    parser.add_argument("--margin", type=float, default=MARGIN, help="side of the crop over that of the face's box")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    args = parser.parse_args()

    def show(done: int, total: int) -> None:
        sys.stderr.write(f"\r{done} of {total}")

    report = prepare_grid(args.grid, args.out, args.speakers, args.size, args.workers, args.margin, show)
    sys.stdout.write(f"\n{report.text()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
