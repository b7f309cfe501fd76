"""The packages that some metrics are measured with, as reports name them, and which of them are installed."""

from __future__ import annotations

from importlib.util import find_spec

KORNIA = "kornia (pip install kornia)"
TORCHMETRICS = "torchmetrics (pip install torchmetrics)"
_MODULES = {KORNIA: "kornia", TORCHMETRICS: "torchmetrics"}


def installed_packages() -> frozenset[str]:
    """Those that are installed; none of them is imported for it, which takes seconds."""
    return frozenset(role for role, module in _MODULES.items() if find_spec(module) is not None)
