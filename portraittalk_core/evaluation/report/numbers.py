"""Number format of metric values, and arrows for the better direction."""

from __future__ import annotations

import math

from ...metrics.registry import Metric

ARROWS = {"higher": "↑", "lower": "↓", "target": "≈", "neither": ""}
ARROW_TEXT = {"higher": "higher is better", "lower": "lower is better", "target": "as the true video's is best"}


def number(value: float | None, definition: Metric | None = None) -> str:
    """Format a value with digits by its magnitude; a dash for None."""
    if value is None:
        return "–"
    if math.isinf(value):
        return "∞"
    if definition is not None and definition.unit in ("ms", "frames of 40 ms"):
        return f"{value + 0.0:.0f}".replace("-", "−")
    digits = 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3
    text = f"{value:.{digits}f}"
    return (text.lstrip("-") if not float(text) else text).replace("-", "−")
