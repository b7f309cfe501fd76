"""Runs the registry's metrics of one kind of input, with reasons for those that cannot be measured.

Shapes: T frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from torch import Tensor

from ..errors import InputError, MissingDependency
from ..metrics.meter import Meter, MeterFactory, MetricContext
from ..metrics.registry import NEEDS, PACKAGES, Metric
from .networks import Networks

Measured = tuple[dict[str, float], dict[str, str]]  # values, and why others are missing


class MeterSet:
    """Open meters of one kind of input; metrics of one meter are computed together.

    Args:
        metrics: all of this kind of input.
        context: what meters may use; each gets its own network.
        networks: those that are open.
        available: of `registry.NEEDS`, what there is.
    """

    def __init__(
        self, metrics: Iterable[Metric], context: MetricContext, networks: Networks, available: frozenset[str]
    ) -> None:
        self._members: dict[MeterFactory, list[Metric]] = {}
        self._meters: dict[MeterFactory, Meter] = {}
        self._missing: dict[str, str] = {}
        for metric in metrics:
            if reason := metric.missing(available):
                self._missing[metric.name] = reason
            else:
                self._members.setdefault(metric.meter, []).append(metric)
        for factory, members in self._members.items():
            try:
                self._meters[factory] = factory(replace(context, network=networks.of(members[0])))
            except (InputError, MissingDependency) as error:
                self._drop(factory, error)

    def __bool__(self) -> bool:
        """Whether a meter is open."""
        return bool(self._meters)

    def update(self, *items: object) -> None:
        """Update all meters; one that fails is dropped."""
        for factory, meter in list(self._meters.items()):
            try:
                meter.update(*items)
            except (InputError, MissingDependency) as error:
                self._drop(factory, error)

    def over(self, items: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pass items through, updating the meters with each."""
        for item in items:
            self.update(item)
            yield item

    def drop_all(self, reason: str) -> None:
        """Drop all open meters for one reason."""
        for factory in list(self._meters):
            self._drop(factory, InputError(reason))

    def result(self) -> Measured:
        """Values by the metrics' names, and why others are missing."""
        values: dict[str, float] = {}
        for factory, meter in list(self._meters.items()):
            try:
                values |= _named(meter.result(), self._members[factory])
            except (InputError, MissingDependency) as error:
                self._drop(factory, error)
        return values, dict(self._missing)

    def curves(self) -> dict[str, Tensor]:
        """(T,) values over time by the metrics' names, of those that have any."""
        named: dict[str, Tensor] = {}
        for factory, meter in self._meters.items():
            named |= _named(meter.curves(), self._members[factory])
        return {name: values for name, values in named.items() if not values.isnan().all()}

    def latest(self, name: str) -> float:
        """The last frame's value of a metric that is measured frame by frame; NaN where there is none."""
        for factory, meter in self._meters.items():
            values = getattr(meter, "values", None)
            if values and name in (metric.name for metric in self._members[factory]):
                return values[-1]
        return math.nan

    def _drop(self, factory: MeterFactory, error: Exception) -> None:
        self._meters.pop(factory, None)
        for metric in self._members[factory]:
            packages = [need for need in metric.needs if need in PACKAGES]
            absent = isinstance(error, MissingDependency) and packages
            self._missing[metric.name] = metric.missing(set(NEEDS) - set(packages)) if absent else str(error)


def _named(output: object, members: list[Metric]) -> dict:
    """A meter's output by metric name; a plain value belongs to its only metric."""
    named = output if isinstance(output, Mapping) else {members[0].name: output}
    return {metric.name: named[metric.name] for metric in members if metric.name in named}
