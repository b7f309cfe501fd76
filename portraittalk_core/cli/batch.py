"""The command `batch`: runs the talk, dub and score jobs of a manifest on one worker or many."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..batch.options import BatchOptions
from ..errors import InputError
from .arguments import Command, add_file, add_mesh, add_options, options_from
from .process import goes_on_from
from .progress import progress_bar

if TYPE_CHECKING:
    from ..batch.run import Item

EXIT_SOME_FAILED = 3
EXAMPLES = """examples:
  portraittalk batch manifest.csv --out made
  portraittalk batch manifest.csv --out made --workers 8
  portraittalk batch manifest.csv --out /shared/made --address ray://head:10001

manifest.csv (paths count from its folder; options in columns of their names, or as JSON in the column options):
  job,out,portrait,speech,style,seed
  talk,anna,anna.jpg,hello.wav,lively,3
  talk,bert,bert.jpg,hello.wav,,
or
  job,out,portrait,speech,generated,target,options
  talk,anna,anna.jpg,hello.wav,,,
  score,anna_score,,,anna.mp4,real/anna.mp4,"{""align"": true}"

Columns: job (talk, dub or score), out (a file name; .mp4 or .json is added), portrait, speech, video (of dub, in place
of portrait), source (a picture or a video, in place of either), driving (a video whose head the portrait takes over),
also (further faces and what they say), style (a name or a .safetensors file), renderer, engine (a file), generated,
target (without it: what needs no ground truth), options, note (free text). docs/formats.md tells of each.
A video that another line makes is named as it is there, or by its path in DIR; that line's job is done first. If it
fails, the line that needs it is skipped and says so.

DIR/batch.csv has one line for each item that ended: done, skipped (finished before), failed and why, or blocked (what
it needs was not made). DIR/scores.html shows all scores, the worst first, with a page for each. The same command makes
only what is not finished. One batch at a time runs in DIR. One worker runs in this process; more, or a cluster, need
Ray (pip install ray); an address that begins with ray:// needs its client, too (pip install "ray[client]"), and
--address auto, on a machine of the cluster, does not. A machine may be lost: its jobs go to the others; without any
CPU for --cpu-wait seconds, what is left fails and says so.
exit codes: as always, and 3: some items failed, or were skipped because of those; the others did not"""


def add_batch(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options of the command; returns the group of face options."""
    parser.add_argument("manifest", metavar="MANIFEST.csv", type=Path, help="table with one job a line")
    add_file(parser, "--out", "DIR", "folder for the results and batch.csv", files=_tables)
    add_options(parser, BatchOptions)
    parser.add_argument(
        "--metric-models", metavar="FOLDER", type=Path, help="folder with SyncNet, LPIPS, Inception or I3D, for score"
    )
    parser.add_argument(
        "--face-models",
        metavar="FOLDER",
        type=Path,
        help="folder with InsightFace's buffalo_l, to compare faces by ArcFace instead of dlib's descriptor, for score",
    )
    return parser.add_argument_group("face")


def _tables(out: Path) -> tuple[Path, ...]:
    """Files of a batch whose names are fixed."""
    return out / "batch.csv", out / "scores.html"


def batch(args: argparse.Namespace) -> int:
    """Run the jobs of a manifest; returns 3 if some failed."""
    if args.metric_models is not None and not args.metric_models.is_dir():
        raise InputError(f"--metric-models {args.metric_models} is no folder; give the one with the weight files.")
    if args.face_models is not None:
        from ..face.identity.encoder import find_face_models

        find_face_models([args.face_models])  # fails now rather than for every line
    from ..batch.jobs import BatchSettings
    from ..batch.run import run_batch

    paths = (args.mesh_model, args.metric_models, args.face_models)
    models = [None if path is None else path.resolve() for path in paths]
    settings = BatchSettings(args.out, args.mesh_backend, *models)
    options = options_from(args, BatchOptions)
    with progress_bar("batch") as on_progress, goes_on_from(args.out, "finished items"):
        result = run_batch(args.manifest, settings, options, on_progress=on_progress, on_item=_print_item)
    workers = "1 worker" if result.workers == 1 else f"{result.workers} workers"
    blocked = f"{result.blocked} skipped (what they need was not made), " if result.blocked else ""
    print(
        f"{result.table}: {result.done} done, {result.skipped} skipped (finished before), {result.failed} failed, "
        f"{blocked}in {result.seconds:.1f} s with {workers}"
    )
    if result.report:
        print(result.report)
    return EXIT_SOME_FAILED if result.failed or result.blocked else 0


def _print_item(item: Item) -> None:
    outcome, tries = item.outcome, f" after {item.attempts} attempts" if item.attempts > 1 else ""
    message = f"{outcome.status}, {outcome.seconds:.1f} s{tries}"
    if outcome.reason:
        message = f"{'skipped' if item.job.unmade else 'failed'}{tries}: {outcome.reason}"
    print(f"line {item.job.line}, {item.job.out or 'no name'}: {message}", file=sys.stderr)


def _add(parser: argparse.ArgumentParser) -> None:
    add_mesh(add_batch(parser))


COMMAND = Command(
    "batch",
    "work off a table of talk, dub and score jobs, on one worker or many; finished ones are kept",
    EXAMPLES,
    _add,
    batch,
)
