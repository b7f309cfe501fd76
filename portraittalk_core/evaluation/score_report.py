"""All that a report shows: rows of scores, what was asked for, and with what it was measured."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata

from .. import __version__
from ..metrics.registry import MetricDefinition
from .result import ScoredRow
from .table import OWN, TABLE, TARGET_PREFIX

PACKAGES = ("torch", "numpy", "scipy", "kornia", "torchmetrics", "av", "mediapipe", "onnxruntime")


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
