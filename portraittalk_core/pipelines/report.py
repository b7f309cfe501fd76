"""Rows of scores become report.json, report.csv and report.html."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from .. import __version__
from ..errors import InputError
from ..media.atomic import whole_file
from ..metrics.registry import MetricDefinition
from .score_row import ScoredRow, plain
from .score_table import OWN, TABLE, TARGET_PREFIX

PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "torchmetrics", "av", "mediapipe", "onnxruntime")
FORMATS = ("json", "csv", "html")


@dataclass(frozen=True)
class Summary:
    """One metric over all rows that have it."""

    mean: float | None  # of finite values
    std: float | None  # sample standard deviation (n − 1); None of fewer than 2
    least: float | None
    greatest: float | None
    num: int  # values in the mean
    num_infinite: int = 0  # left out of it


@dataclass(frozen=True)
class ScoreBook:
    """All that a report shows."""

    rows: Sequence[ScoredRow]
    settings: Mapping[str, object]  # how it was asked for
    reference_free: bool = False
    made_at: str = field(default_factory=lambda: datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"))
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def table(self) -> Mapping[str, MetricDefinition]:
        """The metrics that are shown."""
        return OWN if self.reference_free else TABLE

    @property
    def failed(self) -> list[ScoredRow]:
        """Rows with an error."""
        return [row for row in self.rows if row.error]

    @property
    def columns(self) -> list[str]:
        """Names of all values that some row has, in the table's order; the target's own after the generated one's."""
        there = {name for row in self.rows for name in row.values}
        return [n for name in self.table for n in (name, TARGET_PREFIX + name) if n in there]

    def summary(self, name: str) -> Summary:
        """Of one metric, over the rows that did not fail."""
        values = [row.values[name] for row in self.rows if name in row.values and not row.error]
        finite = [value for value in values if math.isfinite(value)]
        if not finite:
            return Summary(None, None, None, None, 0, len(values))
        mean = sum(finite) / len(finite)
        spread = sum((value - mean) ** 2 for value in finite)
        std = math.sqrt(spread / (len(finite) - 1)) if len(finite) > 1 else None
        return Summary(mean, std, min(finite), max(finite), len(finite), len(values) - len(finite))

    def unavailable(self) -> dict[str, dict[str, list[str]]]:
        """Metrics that some row lacks: reason → names of the rows."""
        found: dict[str, dict[str, list[str]]] = {}
        for row in self.rows:
            for name, reason in row.missing.items():
                if name.removeprefix(TARGET_PREFIX) in self.table:
                    found.setdefault(name, {}).setdefault(reason, []).append(row.name)
        return {n: found[n] for name in self.table for n in (name, TARGET_PREFIX + name) if n in found}

    def title(self, name: str) -> str:
        """What to call a number, also one that is the target's own."""
        own = name.removeprefix(TARGET_PREFIX)
        return self.table[own].title if name == own else f"{self.table[own].title}, the target's own"


def environment() -> dict[str, str]:
    """Versions of what measured."""
    found = {"portraittalk": __version__, "Python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def to_json(book: ScoreBook) -> str:
    """The report without pictures and curves; infinite numbers are written as "inf"."""
    rows = []
    for row in book.rows:
        fields = asdict(row)
        for name in ("worst", "curves"):
            del fields[name]
        fields["values"] = {name: plain(value) for name, value in row.values.items()}
        fields["worst_s"] = [{"time_s": frame.time_s, "why": frame.why} for frame in row.worst]
        rows.append(fields)
    content = {
        "made_at": book.made_at,
        "reference_free": book.reference_free,
        "num_rows": len(book.rows),
        "num_failed": len(book.failed),
        "settings": dict(book.settings),
        "environment": dict(book.environment),
        "summary": {name: asdict(book.summary(name)) for name in book.columns},
        "rows": rows,
        "not_available": book.unavailable(),
        "definitions": {name: asdict(definition) for name, definition in book.table.items()},
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(book: ScoreBook) -> str:
    """One line a row."""
    counts = list(dict.fromkeys(name for row in book.rows for name in row.counts))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    offset = ["offset_s", "offset_by"]
    writer.writerow(["name", "generated", "target", "status", "error", *book.columns, *counts, *offset, "notes"])
    for row in book.rows:
        found = [row.offset.seconds, row.offset.by] if row.offset else [None, None]
        writer.writerow(
            [
                row.name,
                row.generated,
                row.target,
                "failed" if row.error else "done",
                row.error,
                *(plain(row.values.get(name)) for name in book.columns),
                *(row.counts.get(name) for name in counts),
                *found,
                "; ".join(row.notes),
            ]
        )
    return stream.getvalue()


def write_report(book: ScoreBook, out: Path) -> list[Path]:
    """Write report.json, .csv and .html into a folder, or one file of the format that its ending names.

    Returns:
        The files.

    Raises:
        InputError: an ending that names no format.
        OutputError: a file cannot be written.
    """
    from .report_html import to_html

    makers = {"json": to_json, "csv": to_csv, "html": to_html}
    paths = report_files(out)
    for path in paths:
        with whole_file(path) as part:
            # Excel takes a CSV without a mark for the code page of its country
            encoding = "utf-8-sig" if path.suffix.lower() == ".csv" else "utf-8"
            part.write_text(makers[path.suffix.lower()[1:]](book), encoding=encoding, newline="")
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
