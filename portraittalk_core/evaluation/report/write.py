"""Writes a score report as JSON, CSV and HTML."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from ...errors import InputError
from ...media.csv_line import csv_line
from ...media.files import atomic_write, make_folder
from ..result import plain
from ..score_report import ScoreReport
from .page import to_html

FORMATS = ("json", "csv", "html")


def to_json(report: ScoreReport) -> str:
    """The report without pictures and curves; infinite numbers are written as "inf"."""
    rows = []
    for row in report.results:
        fields = asdict(row)
        for name in ("worst", "curves"):
            del fields[name]
        fields["values"] = {name: plain(value) for name, value in row.values.items()}
        fields["worst_s"] = [{"time_s": frame.time_s, "why": frame.why} for frame in row.worst]
        rows.append(fields)
    content = {
        "made_at": report.made_at,
        "reference_free": report.reference_free,
        "num_rows": len(report.results),
        "num_failed": len(report.failed),
        "settings": dict(report.settings),
        "environment": dict(report.environment),
        "summary": {name: asdict(report.summary(name)) for name in report.columns},
        "rows": rows,
        "not_available": report.unavailable(),
        "definitions": {name: metric.definition() for name, metric in report.table.items()},
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(report: ScoreReport) -> str:
    """One line a row."""
    counts = list(dict.fromkeys(name for row in report.results for name in row.counts))
    offset = ["offset_s", "offset_by"]
    lines = [csv_line(["name", "generated", "target", "status", "error", *report.columns, *counts, *offset, "notes"])]
    for row in report.results:
        offset_cells = [row.offset.seconds, row.offset.by] if row.offset else [None, None]
        lines.append(
            csv_line(
                [
                    row.name,
                    row.generated,
                    row.target,
                    "failed" if row.error else "done",
                    row.error,
                    *(plain(row.values.get(name)) for name in report.columns),
                    *(row.counts.get(name) for name in counts),
                    *offset_cells,
                    "; ".join(row.notes),
                ]
            )
        )
    return "".join(lines)


def write_report(report: ScoreReport, out: Path) -> list[Path]:
    """Write report.json, .csv and .html into a folder, or one file of the format that its ending names.

    Returns:
        The files.

    Raises:
        InputError: an ending that names no format.
        OutputError: a file cannot be written.
    """
    makers = {"json": to_json, "csv": to_csv, "html": to_html}
    paths = report_files(out)
    if len(paths) > 1:
        make_folder(out)
    for path in paths:
        with atomic_write(path) as part:
            # Excel takes a CSV without a mark for the code page of its country
            encoding = "utf-8-sig" if path.suffix.lower() == ".csv" else "utf-8"
            part.write_text(makers[path.suffix.lower()[1:]](report), encoding=encoding, errors="replace", newline="")
    return paths


def report_files(out: Path) -> list[Path]:
    """The files that a report at `out` consists of.

    Raises:
        InputError: an ending that names no format.
    """
    ending = out.suffix.lower().lstrip(".")
    if out.is_dir() or not ending:
        return [out / f"report.{name}" for name in FORMATS]
    if ending not in FORMATS:
        raise InputError(f"a report ends in .json, .csv or .html, or is a folder for all three, not {out}.")
    return [out]
