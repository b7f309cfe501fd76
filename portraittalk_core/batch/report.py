"""HTML report over all scores of a batch, worst first, with one page for each video."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

from ..evaluation.options import EvaluationOptions
from ..evaluation.report.page import KEYS, OWN_KEYS, to_html
from ..evaluation.report.templates import render
from ..evaluation.result import EvaluationResult
from ..evaluation.score_report import ScoreReport, environment, settings_of
from ..media.files import atomic_write, explain_write_errors
from ..metrics.registry import Metric, measured_metrics
from .jobs import BLOCKED, FAILED, Outcome
from .manifest import BatchJob

REPORT = "scores.html"  # no output of a job ends so
PAGES = "pages"  # folder of one page a video within the output folder
MOST_LISTED = 1000  # items of each kind, the worst; pages of many thousands would open slowly


@dataclass(frozen=True)
class Listed:
    """One item of the page."""

    job: BatchJob
    values: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""  # why nothing could be measured
    blocked: bool = False
    has_page: bool = False

    @property
    def name(self) -> str:
        """Name as the page shows it."""
        return Path(self.job.out).stem or "no name"

    @property
    def page(self) -> str:
        """Link to its own page; empty if it has none."""
        return f"{PAGES}/{quote(_page(self.job))}" if self.has_page else ""


class _Mean:
    """Running mean and standard deviation (Welford); infinite values are counted apart."""

    def __init__(self) -> None:
        self.count, self.mean, self._squares, self.num_infinite = 0, 0.0, 0.0, 0

    def add(self, value: float) -> None:
        if not math.isfinite(value):
            self.num_infinite += 1
            return
        self.count += 1
        off = value - self.mean
        self.mean += off / self.count
        self._squares += off * (value - self.mean)

    @property
    def std(self) -> float | None:
        """Sample standard deviation."""
        return math.sqrt(self._squares / (self.count - 1)) if self.count > 1 else None


class _Group:
    """Items of one kind: the `MOST_LISTED` worst, and running means over all."""

    def __init__(self, alone: bool) -> None:
        self.table, self.keys = measured_metrics(reference_free=alone), OWN_KEYS if alone else KEYS
        self.alone, self.means, self.num = alone, {key: _Mean() for key in self.keys}, 0
        self._worst: list[tuple[float, int, Listed]] = []  # the least bad is the first
        self._number = itertools.count()

    def add(self, item: Listed) -> None:
        self.num += 1
        for key, mean in self.means.items():
            if key in item.values and not item.problem:
                mean.add(item.values[key])
        entry = (self._badness(item), -next(self._number), item)
        if len(self._worst) < MOST_LISTED:
            heapq.heappush(self._worst, entry)
        else:
            heapq.heappushpop(self._worst, entry)

    def _badness(self, item: Listed) -> float:
        if item.problem:
            return math.inf
        value = item.values.get(self.keys[0])
        better = self.table[self.keys[0]].better
        return math.inf if value is None else value if better == "lower" else -value

    @property
    def worst(self) -> list[Listed]:
        """The listed items, worst first; equally bad ones in the order in which they ended."""
        return [item for _, _, item in sorted(self._worst, key=lambda entry: entry[:2], reverse=True)]

    @property
    def columns(self) -> dict[str, Metric]:
        """Metrics that some item has."""
        return {key: self.table[key] for key, mean in self.means.items() if mean.count or mean.num_infinite}

    @property
    def worst_values(self) -> dict[str, float]:
        """The worst value of each column whose values differ."""
        worst = {}
        for key, definition in self.columns.items():
            values = [item.values[key] for item in self.worst if key in item.values]
            if definition.better in ("higher", "lower") and len(set(values)) > 1:
                worst[key] = min(values) if definition.better == "higher" else max(values)
        return worst


class BatchReport:
    """Collects finished score jobs and writes the report.

    Args:
        folder: of the results.
        manifest: its name, as it is shown.
    """

    def __init__(self, folder: Path, manifest: str) -> None:
        self._folder, self._manifest = folder, manifest
        self._groups = _Group(alone=False), _Group(alone=True)
        self._ended = {"measured": 0, "failed": 0, "skipped": 0}
        self._environment = environment()

    def add(self, job: BatchJob, outcome: Outcome) -> None:
        """Add a finished score job; its own page is written if absent, or older than its numbers."""
        blocked = outcome.status == BLOCKED
        if blocked or outcome.status == FAILED:
            item = Listed(job, problem=" ".join(outcome.reason.split()), blocked=blocked)
        else:
            item = self._measured(job)
        self._ended["skipped" if blocked else "failed" if item.problem else "measured"] += 1
        self._groups[_is_reference_free(job)].add(item)

    def write(self) -> Path | None:
        """Write the page over all added jobs; None if there are none."""
        if not any(group.num for group in self._groups):
            return None
        path = self._folder / REPORT
        with atomic_write(path) as part:
            part.write_text(self._html(), encoding="utf-8", newline="")
        return path

    def _measured(self, job: BatchJob) -> Listed:
        out = self._folder / job.out
        try:
            row = EvaluationResult.from_json(out.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            return Listed(job, problem=f"its numbers in {job.out} cannot be read ({error})")
        page = self._folder / PAGES / _page(job)
        if not page.exists() or page.stat().st_mtime_ns < out.stat().st_mtime_ns:
            settings = settings_of(EvaluationOptions(**job.options), _is_reference_free(job))
            report = ScoreReport([row], settings, _is_reference_free(job), environment=self._environment)
            with explain_write_errors(page):
                page.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(page) as part:
                part.write_text(to_html(report), encoding="utf-8", newline="")
        return Listed(job, row.values, row.error or "", has_page=True)

    def _html(self) -> str:
        groups = [group for group in self._groups if group.num]
        return render(
            "scores.html.j2",
            folder=Path(__file__).parent,
            manifest=self._manifest,
            made_at=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            ended=self._ended,
            groups=groups,
            definitions=list({key: d for group in groups for key, d in group.columns.items()}.values()),
        )


def _is_reference_free(job: BatchJob) -> bool:
    """Whether a job has no target; a line with a problem counts by the files it names."""
    return "target" not in job.files and not job.problem


def _page(job: BatchJob) -> str:
    return f"{Path(job.out).stem}.html"
