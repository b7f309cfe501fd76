"""Feature networks of the metrics, from weight files that users download."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..metrics.files import METRIC_KINDS, find_metric_files
from ..metrics.registry import METRICS, Metric

METRIC_ROLES = frozenset(kind.role for kind in METRIC_KINDS)


@dataclass(frozen=True)
class Networks:
    """Open networks, each shared by the metrics that name its loader."""

    opened: Mapping[Callable[..., object], object] = field(default_factory=dict)  # by `Metric.network`
    roles: frozenset[str] = field(default_factory=frozenset)  # of their files, as metrics' `needs` name them
    files: tuple[tuple[str, int], ...] = ()  # names and sizes, part of the key of kept results

    def of(self, metric: Metric) -> object:
        """The network that a metric needs, or None."""
        return None if metric.network is None else self.opened.get(metric.network)


def open_networks(folders: Iterable[Path]) -> Networks:
    """Open the metric networks in some folders; files are recognised by their content.

    Raises:
        InputError: a file that was known cannot be opened.
    """
    files = find_metric_files(folders)
    opened: dict[Callable[..., object], object] = {}
    for metric in METRICS.values():
        roles = [need for need in metric.needs if need in METRIC_ROLES]
        if metric.network is not None and metric.network not in opened and all(role in files for role in roles):
            opened[metric.network] = metric.network(*(files[role] for role in roles))
    sizes = sorted((path.name, path.stat().st_size) for path in files.values())
    return Networks(opened, frozenset(files), tuple(sizes))
