"""The command `prepare`: training clips of a folder of videos, and a report of dropped videos."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..training.data.options import PrepareOptions
from .arguments import Command, add_file, add_options, options_from
from .process import goes_on_from
from .progress import progress_bar

if TYPE_CHECKING:
    from ..speech.windows import WaveEncoderLike
    from ..style.expression_source import ExpressionSource

EXAMPLES = """examples:
  portraittalk prepare --videos my_videos --out clips
  portraittalk prepare --videos my_videos --out clips --size 256 --picture-format jpg --workers 2
  portraittalk prepare --videos my_videos --out clips --hubert chinese-hubert-large.safetensors
  portraittalk prepare --videos my_videos --out clips --face-recon epoch_20.pth
  portraittalk prepare --videos lipread_mp4 --layout lrw --min-seconds 1 --size 256 --out clips
  portraittalk train animatenet --config animatenet.toml        (see docs/training.md)"""


def add_prepare(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_file(parser, "--videos", "FOLDER", "videos; sub-folders too")
    add_file(parser, "--out", "FOLDER", "clips and reports are written here", folder=True)
    add_options(parser, PrepareOptions)
    help_text = "speech encoder whose rows `train sync` and `train audio2exp` hear; kept beside the clips"
    add_file(parser, "--hubert", "FILE", help_text, False)
    help_text = (
        "measures expressions for `train style` with expression 3dmm or blendshapes, kept beside the clips: a 3DMM "
    )
    help_text += "encoder (epoch_20.pth), a task file of MediaPipe with blendshapes, or the folder of a BFM"
    add_file(parser, "--face-recon", "FILE|FOLDER", help_text, False)
    parser.add_argument("--silent-too", action="store_true", help="keep videos without sound")
    parser.add_argument("--workers", metavar="N", type=int, default=1, help="processes")


def prepare(args: argparse.Namespace) -> None:
    """Prepare training clips, and print which videos were dropped and why."""
    from ..training.data.prepare import prepare_videos

    options = options_from(args, PrepareOptions, needs_sound=not args.silent_too)
    encoder = None if args.hubert is None else _open_hubert(args.hubert)
    source = None if args.face_recon is None else _open_source(args.face_recon)
    with progress_bar("preparing") as on_progress, goes_on_from(args.out, "finished clips"):
        report = prepare_videos(args.videos, args.out, options, args.workers, on_progress)
    print(report.text().rstrip())
    print(f"{report.num_old} were finished before. The report is in {args.out}.")
    if encoder is not None and report.kept:
        from ..training.data.speech_rows import read_rows
        from ..training.data.video_clips import read_videos

        with progress_bar("hearing") as on_progress:
            read_rows(args.out, read_videos(args.out, 1).videos, encoder, on_progress)
        print(f"Rows of {encoder.name} are kept beside the clips.")
    if source is not None and report.kept:
        _measure_expressions(args.out, source)


def _measure_expressions(folder: Path, source: ExpressionSource) -> None:
    from ..training.data.expressions import measure_expressions
    from ..training.data.video_clips import read_videos

    with progress_bar("measuring expressions") as on_progress:
        failed = measure_expressions(folder, read_videos(folder, 1), source, on_progress)
    for name, reason in failed:
        print(f"{name} has no expressions: {reason}.")
    print(f"Expressions ({source.feature}) by {source.name} are kept beside the clips.")


def _open_source(path: Path) -> ExpressionSource:
    """What measures expressions, opened before the long work."""
    from ..style.expression_source import open_expression_source

    return open_expression_source(path)


def _open_hubert(path: Path) -> WaveEncoderLike:
    """Speech encoder of a file, opened before the long work."""
    from ..training.data.speech_rows import open_row_encoder

    return open_row_encoder(path)


COMMAND = Command(
    "prepare",
    "make training clips of a folder of videos: faces, landmarks, speech, and a report of the rest",
    EXAMPLES,
    add_prepare,
    prepare,
)
