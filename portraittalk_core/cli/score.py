"""What `portraittalk score` does: two videos, two folders or a CSV of pairs become numbers and a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .arguments import Command, add_mesh, check_output, open_asked_mesh, print_table
from .progress import progress_bar

if TYPE_CHECKING:
    from ..evaluation.items import ScoreItem
    from ..evaluation.many import BatchTools
    from ..evaluation.options import CompareOptions
    from ..evaluation.result import ScoredRow
    from ..evaluation.score_report import ScoreBook

EXIT_SOME_FAILED = 3
MOST_LINES = 40  # rows shown on the terminal
EXAMPLES = """examples:
  portraittalk score --generated made.mp4 --target real.mp4
  portraittalk score --generated made.mp4 --target real.mp4 --out report.html --align --crop face
  portraittalk score --generated made_folder --target real_folder --out scores
  portraittalk score --pairs pairs.csv --out scores
  portraittalk score --reference-free --generated made.mp4 --portrait me.jpg --face-models models/insightface

Folders are matched by name; a CSV has the columns generated,target and, if wanted, name. With a folder as --out, a job
that was stopped goes on where it was.
exit codes: as always, and 3: some rows could not be measured, the others were"""


def add_score(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The options of the command; returns the group of those about faces."""
    path = {"type": Path}
    parser.add_argument("--generated", metavar="IN", **path, help="video that was made, or a folder of such")
    parser.add_argument("--target", metavar="IN", **path, help="real video of the same moment, or a folder of such")
    parser.add_argument("--pairs", metavar="IN.csv", **path, help="table with the columns generated, target, [name]")
    parser.add_argument(
        "--reference-free", action="store_true", help="measure what needs no real video: sync, jitter, blinks, identity"
    )
    parser.add_argument("--portrait", metavar="PICTURE", **path, help="who it should be; needs --face-models")
    parser.add_argument(
        "--face-models", metavar="FOLDER", **path, help="folder with InsightFace's buffalo_l: who generated faces are"
    )
    parser.add_argument(
        "--metric-models", metavar="FOLDER", **path, help="folder with SyncNet, LPIPS, FID's Inception or FVD's I3D"
    )
    out = parser.add_argument_group("output")
    out.add_argument(
        "--out", metavar="OUT", **path, help="folder for report.json, .csv and .html, or one file that ends so"
    )
    out.add_argument("--json", metavar="OUT.json", **path, help="file for the numbers of a single pair")
    out.add_argument("--no-resume", action="store_true", help="measure rows anew that are finished in OUT")
    how = parser.add_argument_group("comparison")
    how.add_argument("--align", action="store_true", help="take a leading offset (within 0.5 s) out; else only told")
    how.add_argument("--crop", choices=("whole", "face"), default="whole", help="what PSNR and SSIM look at")
    how.add_argument("--margin", metavar="X", type=float, default=0.2, help="around the face crop, of the face's size")
    how.add_argument("--max-frames", metavar="N", type=int, help="compare at most so many frames from the start")
    face = parser.add_argument_group("face")
    face.add_argument("--face-index", metavar="N", type=int, default=0, help="which face, 0 is the largest")
    return face


def score(args: argparse.Namespace) -> int:
    """Measure, show the numbers, write the report; 3 if some rows failed."""
    items = _items(args)
    options = _options(args)
    folder = _check_outputs(args, items)
    from ..evaluation.many import score_items
    from ..evaluation.report.write import write_report
    from ..evaluation.score_report import ScoreBook, environment

    with _tools(args) as tools, progress_bar("scoring") as on_progress:
        try:
            rows = score_items(items, options, tools, folder, on_progress, _say_row if len(items) > 1 else None)
        except KeyboardInterrupt:
            if folder is not None:
                print(f"finished rows are kept in {folder}; the same command goes on from there", file=sys.stderr)
            raise
    if len(rows) == 1 and rows[0].error and not rows[0].values and args.pairs is None:
        raise InputError(rows[0].error)
    book = ScoreBook(rows, _settings(args), args.reference_free, environment=environment())
    _show(book)
    if args.out:
        files = write_report(book, args.out)
        print("The report is in " + ", ".join(map(str, files)))
    if args.json:
        _write_flat(rows[0], args.json)
    return EXIT_SOME_FAILED if book.failed else 0


def _items(args: argparse.Namespace) -> list[ScoreItem]:
    if args.pairs is not None and (args.generated or args.target):
        raise InputError("give either --pairs, or --generated and --target.")
    if args.pairs is None and args.generated is None:
        raise InputError("score needs --generated and --target, or --pairs with a CSV of both.")
    if args.reference_free and args.target is not None:
        raise InputError("--reference-free compares with no true video; leave --target out, or --reference-free.")
    if not args.reference_free and args.pairs is None and args.target is None:
        raise InputError("score needs --target: the real video of the same moment; without one, add --reference-free.")
    from ..evaluation.items import items_of_csv, items_of_paths

    if args.pairs is not None:
        return items_of_csv(args.pairs, args.reference_free, args.portrait)
    return items_of_paths(args.generated, args.target, args.portrait)


def _options(args: argparse.Namespace) -> CompareOptions:
    from ..evaluation.options import CompareOptions

    names = ("align", "crop", "margin", "face_index", "max_frames")
    return CompareOptions(**{name: getattr(args, name) for name in names})


def _check_outputs(args: argparse.Namespace, items: list[ScoreItem]) -> Path | None:
    """Check before long work that the results can be written; the folder that keeps finished rows, if there is one."""
    from ..evaluation.report.write import report_files
    from ..media.atomic import explain_write_errors

    read = [path for item in items for path in (item.generated, item.target, item.portrait) if path and path.is_file()]
    if args.json:
        if len(items) > 1:
            raise InputError(f"--json holds the numbers of one pair, and there are {len(items)}; use --out FOLDER.")
        check_output(args.json, read, ())
    if args.out is None:
        return None
    files, is_folder = report_files(args.out), len(report_files(args.out)) > 1
    if is_folder:
        with explain_write_errors(args.out):
            args.out.mkdir(parents=True, exist_ok=True)
    for path in files:
        check_output(path, read + ([args.pairs] if args.pairs else []), ())
    return args.out if is_folder and not args.no_resume else None


@contextmanager
def _tools(args: argparse.Namespace) -> Iterator[BatchTools]:
    from ..evaluation.many import BatchTools
    from ..evaluation.network_scores import open_networks

    if args.metric_models is not None and not args.metric_models.is_dir():
        raise InputError(
            f"--metric-models {args.metric_models} is no folder; give the one that holds the weight files."
        )
    with ExitStack() as stack:
        mesh = stack.enter_context(open_asked_mesh(args))
        networks = open_networks([args.metric_models] if args.metric_models else [])
        if args.face_models is None:
            yield BatchTools(mesh, networks=networks)
            return
        from ..evaluation.identity_scores import likeness_to
        from ..face.identity.encoder import FaceEncoder, find_face_models

        files = find_face_models([args.face_models])
        encoder = stack.enter_context(FaceEncoder(files))
        told = {"face models": [(p.name, p.stat().st_size) for p in (files.detector, files.recogniser)]}
        yield BatchTools(mesh, partial(likeness_to, encoder), networks, told)


def _settings(args: argparse.Namespace) -> dict[str, object]:
    told = {
        "aligned": f"a leading offset was {'taken out (--align)' if args.align else 'told, not taken out'}",
        "pictures": "face crop" if args.crop == "face" else "whole frames",
        "face crop margin": args.margin,
        "face": args.face_index,
        "at most frames": args.max_frames or "all",
    }
    for name in ("aligned", "pictures") if args.reference_free else ():
        del told[name]
    return told


def _say_row(row: ScoredRow, kept: bool) -> None:
    said = "failed: " + row.error if row.error else "kept from before" if kept else f"{row.seconds_taken:.1f} s"
    print(f"{row.name}: {said}", file=sys.stderr)


def _show(book: ScoreBook) -> None:
    rows = []
    for name, definition in book.table.items():
        if name in book.columns:
            summary, own = book.summary(name), book.summary(f"target:{name}")
            spread = "" if summary.std is None else f" ± {_shown(summary.std)}"
            mean = _shown(summary.mean if summary.num else float("inf")) + spread
            target = f"target {_shown(own.mean)}" if own.num else ""
            rows.append((name, definition.title, mean, definition.unit, target))
    title = f"scores of {len(book.rows)} rows, {len(book.failed)} failed" if len(book.rows) > 1 else "scores"
    print_table(title, rows)
    if len(book.rows) == 1:
        row = book.rows[0]
        counts = [(name, str(value)) for name, value in row.counts.items()]
        print_table("measured on", [*counts, *(("note", note) for note in row.notes)])
    lacking = [
        (name, "not measured", "; ".join(reasons))
        for name, reasons in book.unavailable().items()
        if name not in book.columns
    ]
    if lacking:
        print_table("not available", lacking)
    for row in book.failed[:MOST_LINES]:
        print(f"{row.name}: {row.error}", file=sys.stderr)


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"


def _write_flat(row: ScoredRow, path: Path) -> None:
    import json

    from ..evaluation.result import plain
    from ..media.atomic import whole_file

    found = {name: plain(value) for name, value in row.values.items()} | dict.fromkeys(row.missing) | dict(row.counts)
    with whole_file(path) as part:
        text = json.dumps(found | {"note": "; ".join(row.notes)}, indent=2, ensure_ascii=False)
        part.write_text(text + "\n", encoding="utf-8")
    print(f"The numbers are in {path}")


def _add(parser: argparse.ArgumentParser) -> None:
    add_mesh(add_score(parser))


COMMAND = Command(
    "score", "measure made videos against real ones, or by themselves, with a report", EXAMPLES, _add, score
)
