"""The command `prepare`: training clips of a folder of videos, and a report of dropped videos."""

from __future__ import annotations

import argparse

from ..training.data.options import PrepareOptions
from .arguments import Command, add_file, add_options, options_from
from .progress import progress_bar

EXAMPLES = """examples:
  portraittalk prepare --videos my_videos --out clips
  portraittalk prepare --videos my_videos --out clips --size 256 --picture-format jpg --workers 2
  portraittalk train animatenet --config animatenet.toml        (see docs/training.md)"""


def add_prepare(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_file(parser, "--videos", "FOLDER", "videos; sub-folders too")
    add_file(parser, "--out", "FOLDER", "clips and reports are written here", folder=True)
    add_options(parser, PrepareOptions)
    parser.add_argument("--silent-too", action="store_true", help="keep videos without sound")
    parser.add_argument("--workers", metavar="N", type=int, default=1, help="processes")


def prepare(args: argparse.Namespace) -> None:
    """Prepare training clips, and print which videos were dropped and why."""
    from ..training.data.prepare import prepare_videos

    options = options_from(args, PrepareOptions, needs_sound=not args.silent_too)
    with progress_bar("preparing") as on_progress:
        report = prepare_videos(args.videos, args.out, options, args.workers, on_progress)
    print(report.text().rstrip())
    print(f"{report.num_old} were finished before. The report is in {args.out}.")


COMMAND = Command(
    "prepare",
    "make training clips of a folder of videos: faces, landmarks, speech, and a report of the rest",
    EXAMPLES,
    add_prepare,
    prepare,
)
