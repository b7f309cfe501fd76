"""The command `score`: evaluates two videos, two folders or a CSV of pairs, and writes a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..evaluation.options import EvaluationOptions
from .arguments import (
    Command,
    add_file,
    add_mesh,
    add_options,
    check_new_folder,
    check_output,
    open_chosen_mesh,
    options_from,
    print_table,
)
from .process import goes_on_from
from .progress import progress_bar

if TYPE_CHECKING:
    from ..evaluation.many import EvaluationTools
    from ..evaluation.result import EvaluationResult
    from ..evaluation.samples import Sample
    from ..evaluation.score_report import ScoreReport

EXIT_SOME_FAILED = 3
MOST_LINES = 40  # rows shown on the terminal
EXAMPLES = """examples:
  portraittalk score --generated made.mp4 --target real.mp4
  portraittalk score --generated made.mp4 --target real.mp4 --out report.html --align --crop face
  portraittalk score --generated made_folder --target real_folder --out scores
  portraittalk score --pairs pairs.csv --out scores
  portraittalk score --reference-free --generated made.mp4 --portrait me.jpg

Folders are matched by name; a CSV has the columns generated,target and, if wanted, name. With a folder as --out, a job
that was stopped goes on where it was.
exit codes: as always, and 3: some rows could not be measured, the others were"""


def add_score(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options of the command; returns the group of face options."""
    add_file(parser, "--generated", "IN", "generated video, or a folder of such", False)
    add_file(parser, "--target", "IN", "real video of the same speech, or a folder of such", False)
    add_file(parser, "--pairs", "IN.csv", "table with the columns generated, target, [name]", False)
    parser.add_argument(
        "--reference-free", action="store_true", help="measure what needs no real video: sync, jitter, blinks, identity"
    )
    add_file(parser, "--portrait", "PICTURE", "picture of the person that it should show, for the likeness", False)
    models = "folder with InsightFace's buffalo_l, to compare faces by ArcFace instead of dlib's descriptor"
    add_file(parser, "--face-models", "FOLDER", models, False)
    models = "folder with SyncNet, LPIPS, FID's Inception or FVD's I3D"
    add_file(parser, "--metric-models", "FOLDER", models, False)
    out = parser.add_argument_group("output")
    reports = "folder for report.json, .csv and .html, or one file that ends so"
    add_file(out, "--out", "OUT", reports, False, files=_report_files)
    add_file(out, "--json", "OUT.json", "file for the numbers of a single pair", False)
    out.add_argument("--no-resume", action="store_true", help="measure rows anew that are finished in OUT")
    how = parser.add_argument_group("comparison")
    add_options(how, EvaluationOptions, skip=("face_index", "num_worst"))
    face = parser.add_argument_group("face")
    add_options(face, EvaluationOptions, names=("face_index",))
    return face


def _report_files(out: Path) -> list[Path]:
    from ..evaluation.report.write import report_files

    return report_files(out)


def score(args: argparse.Namespace) -> int:
    """Evaluate, print the metrics and write the report; returns 3 if some samples failed."""
    samples = _samples(args)
    options = options_from(args, EvaluationOptions)
    folder = _check_outputs(args, samples)
    from ..evaluation.many import evaluate_many
    from ..evaluation.report.write import write_report
    from ..evaluation.score_report import ScoreReport, environment, settings_of

    on_result = _print_result if len(samples) > 1 else None
    with _tools(args) as tools, progress_bar("scoring") as on_progress, goes_on_from(folder, "finished rows"):
        results = evaluate_many(samples, options, tools, folder, on_progress, on_result)
    if len(results) == 1 and results[0].error and not results[0].values and args.pairs is None:
        raise InputError(results[0].error)
    settings = settings_of(options, args.reference_free)
    report = ScoreReport(results, settings, args.reference_free, environment=environment())
    _print_report(report)
    if args.out:
        files = write_report(report, args.out)
        print("The report is in " + ", ".join(map(str, files)))
    if args.json:
        _write_flat(results[0], args.json)
    return EXIT_SOME_FAILED if report.failed else 0


def _samples(args: argparse.Namespace) -> list[Sample]:
    if args.pairs is not None and (args.generated or args.target):
        raise InputError("give either --pairs, or --generated and --target.")
    if args.pairs is None and args.generated is None:
        raise InputError("score needs --generated and --target, or --pairs with a CSV of both.")
    if args.reference_free and args.target is not None:
        raise InputError("--reference-free compares with no true video; leave --target out, or --reference-free.")
    if not args.reference_free and args.pairs is None and args.target is None:
        raise InputError("score needs --target: the real video of the same moment; without one, add --reference-free.")
    from ..evaluation.samples import samples_of_csv, samples_of_paths

    if args.pairs is not None:
        return samples_of_csv(args.pairs, args.reference_free, args.portrait)
    return samples_of_paths(args.generated, args.target, args.portrait)


def _check_outputs(args: argparse.Namespace, samples: list[Sample]) -> Path | None:
    """Check before long work that the results can be written; returns the cache folder, if any."""
    read = [
        path
        for sample in samples
        for path in (sample.generated, sample.target, sample.portrait)
        if path and path.is_file()
    ]
    if args.json:
        if len(samples) > 1:
            raise InputError(f"--json holds the numbers of one pair, and there are {len(samples)}; use --out FOLDER.")
        check_output(args.json, read, (".json",))
    if args.out is None:
        return None
    files = _report_files(args.out)
    is_folder = len(files) > 1
    if is_folder:
        check_new_folder(args.out)  # it is made with the first result: a refusal leaves none behind
    for path in files if not is_folder or args.out.is_dir() else ():
        check_output(path, read, ())
    return args.out if is_folder and not args.no_resume else None


@contextmanager
def _tools(args: argparse.Namespace) -> Iterator[EvaluationTools]:
    from ..evaluation.many import EvaluationTools
    from ..evaluation.networks import open_networks

    if args.metric_models is not None and not args.metric_models.is_dir():
        raise InputError(
            f"--metric-models {args.metric_models} is no folder; give the one that holds the weight files."
        )
    with ExitStack() as stack:
        mesh = stack.enter_context(open_chosen_mesh(args))
        networks = open_networks([args.metric_models] if args.metric_models else [])
        encoder, fingerprint = None, {}
        if args.face_models is not None:
            from ..face.identity.encoder import FaceEncoder, find_face_models

            files = find_face_models([args.face_models])
            encoder = stack.enter_context(FaceEncoder(files))
            fingerprint["face models"] = [(p.name, p.stat().st_size) for p in (files.detector, files.recogniser)]
        yield EvaluationTools(mesh, encoder, networks, fingerprint)


def _print_result(result: EvaluationResult, cached: bool) -> None:
    outcome = "kept from before" if cached else f"{result.seconds_taken:.1f} s"
    print(f"{result.name}: {f'failed: {result.error}' if result.error else outcome}", file=sys.stderr)


def _print_report(report: ScoreReport) -> None:
    rows = []
    for name, definition in report.table.items():
        if name in report.columns:
            summary, target_summary = report.summary(name), report.summary(f"target:{name}")
            spread = "" if summary.std is None else f" ± {_format_value(summary.std)}"
            mean = _format_value(summary.mean if summary.num else float("inf")) + spread
            target = f"target {_format_value(target_summary.mean)}" if target_summary.num else ""
            rows.append((name, definition.title, mean, definition.unit, target))
    num = len(report.results)
    title = f"scores of {num} rows, {len(report.failed)} failed" if num > 1 else "scores"
    print_table(title, rows)
    print_anchors(report)
    if num == 1:
        row = report.results[0]
        counts = [(name, str(value)) for name, value in row.counts.items()]
        print_table("measured on", [*counts, *(("note", note) for note in row.notes)])
    unavailable = [
        (name, "not measured", "; ".join(reasons))
        for name, reasons in report.unavailable().items()
        if name not in report.columns
    ]
    if unavailable:
        print_table("not available", unavailable)
    for row in report.failed[:MOST_LINES]:
        print(f"{row.name}: {row.error}", file=sys.stderr)


def print_anchors(report: ScoreReport) -> None:
    """What numbers that mean little by themselves are to be read beside."""
    from ..metrics.anchors import NEVER_ALONE, anchors_of

    if anchors := list(anchors_of(report.columns)):
        print_table("to be read beside", anchors)
    if {"lse_d", "lse_c"} & set(report.columns):
        print(NEVER_ALONE)


def _format_value(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"


def _write_flat(row: EvaluationResult, path: Path) -> None:
    import json

    from ..evaluation.result import plain
    from ..media.files import atomic_write

    numbers = {name: plain(value) for name, value in row.values.items()} | dict.fromkeys(row.missing) | dict(row.counts)
    with atomic_write(path) as part:
        text = json.dumps(numbers | {"note": "; ".join(row.notes)}, indent=2, ensure_ascii=False)
        part.write_text(text + "\n", encoding="utf-8", errors="replace")
    print(f"The numbers are in {path}")


def _add(parser: argparse.ArgumentParser) -> None:
    add_mesh(add_score(parser))


COMMAND = Command(
    "score", "measure generated videos against real ones, or by themselves, with a report", EXAMPLES, _add, score
)
