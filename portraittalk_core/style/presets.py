"""Preset style statistics by name, for use without a reference video.

The values are set by hand, within the range measured in videos of people.
"""

from __future__ import annotations

from ..checks import check_choice
from ..types import StyleStatistics

PRESETS = {
    "calm": StyleStatistics(0.17, 0.015, 0.03, 0.10, 0.0, 10, 0.20, 0.45, 0.18, 0.008, 0.005),
    "lively": StyleStatistics(0.28, 0.02, 0.06, 0.13, 0.02, 24, 0.14, 2.0, 0.45, 0.05, 0.03),
    "emphatic": StyleStatistics(0.33, 0.015, 0.06, 0.15, 0.0, 12, 0.14, 1.7, 0.35, 0.04, 0.035),
    "whispering": StyleStatistics(0.11, 0.03, 0.02, 0.08, 0.0, 12, 0.20, 0.5, 0.20, 0.010, 0.005),
    "mumbling": StyleStatistics(0.08, 0.0, 0.015, 0.06, -0.01, 14, 0.22, 0.5, 0.18, 0.010, 0.004),
    "smiling": StyleStatistics(0.22, 0.03, 0.06, 0.09, 0.06, 16, 0.16, 1.1, 0.30, 0.020, 0.018),
    "serious": StyleStatistics(0.19, 0.0, 0.025, 0.11, -0.02, 8, 0.16, 0.6, 0.20, 0.010, 0.005),
    "tired": StyleStatistics(0.15, 0.02, 0.02, 0.09, -0.015, 20, 0.30, 0.6, 0.14, 0.012, 0.004),
    "nervous": StyleStatistics(0.20, 0.01, 0.05, 0.11, 0.0, 38, 0.10, 1.3, 0.55, 0.030, 0.025),
    "newsreader": StyleStatistics(0.25, 0.0, 0.045, 0.13, 0.01, 14, 0.14, 1.0, 0.32, 0.015, 0.012),
}


def preset(name: str) -> StyleStatistics:
    """Style statistics of a preset.

    Raises:
        InputError: there is none of that name.
    """
    return PRESETS[check_choice(name, tuple(PRESETS), "the style")]
