"""The mouth's opening in finished frames, measured by the face mesh, against what was asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...portraittalk_core.types import KeypointTrack, LandmarkTrack
from .keypoints import no_plot
from .progress import Progress


@dataclass(frozen=True)
class Opening:
    """What was asked of a mouth and what it did."""

    plot: Tensor  # IMAGE
    report: str  # JSON; empty where nothing was measured


def nothing_measured() -> Opening:
    """The outputs of a node that was not to measure."""
    return Opening(no_plot(), "")
