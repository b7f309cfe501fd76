"""Content of a report: results of an evaluation, its settings and package versions."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata

from .. import __version__
from ..metrics.registry import METRICS, TARGET_PREFIX, Metric, measured_metrics
from .options import EvaluationOptions
from .result import EvaluationResult

PACKAGES = ("torch", "numpy", "scipy", "kornia", "torchmetrics", "av", "mediapipe", "onnxruntime")


@dataclass(frozen=True)
class Summary:
    """Statistics of one metric over all results that have it."""

    mean: float | None  # of finite values
    std: float | None  # sample standard deviation (n − 1); None of fewer than 2
    least: float | None
    greatest: float | None
    num: int  # values in the mean
    num_infinite: int = 0  # left out of it


@dataclass(frozen=True)
class ScoreReport:
    """Content of a report."""

    results: Sequence[EvaluationResult]
    settings: Mapping[str, object]  # of `settings_of`
    reference_free: bool = False
    made_at: str = field(default_factory=lambda: datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"))
    environment: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of_one(result: EvaluationResult, options: EvaluationOptions) -> ScoreReport:
        """The report on one pair, or on one video without a target."""
        alone = result.target is None
        return ScoreReport([result], settings_of(options, alone), alone, environment=environment())

    @property
    def table(self) -> Mapping[str, Metric]:
        """Metrics of the report: the standard ones, and others that results name."""
        named = (name for result in self.results for name in (*result.values, *result.missing))
        present = {name.removeprefix(TARGET_PREFIX) for name in named}
        standard = measured_metrics(self.reference_free)
        return {name: metric for name, metric in METRICS.items() if name in standard or name in present}

    @property
    def failed(self) -> list[EvaluationResult]:
        """Results with an error."""
        return [result for result in self.results if result.error]

    @property
    def columns(self) -> list[str]:
        """Names of all values that some result has, in the table's order, the target's own after the generated's."""
        present = {name for result in self.results for name in result.values}
        return [n for name in self.table for n in (name, TARGET_PREFIX + name) if n in present]

    def summary(self, name: str) -> Summary:
        """Statistics of one metric over the results without an error."""
        values = [result.values[name] for result in self.results if name in result.values and not result.error]
        finite = [value for value in values if math.isfinite(value)]
        if not finite:
            return Summary(None, None, None, None, 0, len(values))
        mean = sum(finite) / len(finite)
        spread = sum((value - mean) ** 2 for value in finite)
        std = math.sqrt(spread / (len(finite) - 1)) if len(finite) > 1 else None
        return Summary(mean, std, min(finite), max(finite), len(finite), len(values) - len(finite))

    def unavailable(self) -> dict[str, dict[str, list[str]]]:
        """Metrics that some result lacks: reason → names of the results."""
        reasons: dict[str, dict[str, list[str]]] = {}
        for result in self.results:
            for name, reason in result.missing.items():
                reasons.setdefault(name, {}).setdefault(reason, []).append(result.name)
        return {n: reasons[n] for name in self.table for n in (name, TARGET_PREFIX + name) if n in reasons}

    def title(self, name: str) -> str:
        """Title of a metric, also of the target's own."""
        base_name = name.removeprefix(TARGET_PREFIX)
        return self.table[base_name].title if name == base_name else f"{self.table[base_name].title}, the target's own"


def settings_of(options: EvaluationOptions, reference_free: bool) -> dict[str, object]:
    """Settings of an evaluation as a report shows them."""
    settings: dict[str, object] = {"face": options.face_index, "at most frames": options.max_frames or "all"}
    if options.metrics is not None:
        settings["metrics"] = ", ".join(options.metrics)
    if reference_free:
        return settings
    return settings | {
        "aligned": f"a leading offset was {'taken out' if options.align else 'reported, not taken out'}",
        "pictures": "face crop" if options.crop == "face" else "whole frames",
        "face crop margin": options.margin,
    }


def environment() -> dict[str, str]:
    """Versions of PortraitTalk, Python and packages."""
    versions = {"portraittalk": __version__, "Python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
