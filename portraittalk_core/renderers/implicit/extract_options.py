"""Options of extracting keypoints from a film. No torch, so that ``--help`` need not wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...options import check_options, option, same_option
from .options import ImplicitOptions

CROPS = ("fixed", "follow")
MAX_BATCH = 256


@dataclass(frozen=True)
class ExtractOptions:
    """Networks that read keypoints, and how they look at a film."""

    keypoints_folder: Path | None = same_option(
        ImplicitOptions, "keypoints_folder",
        help="write implicit keypoints instead of landmarks, read by the networks in this folder: LivePortrait's files "
        "or a face-vid2vid checkpoint, known by their content",
    )  # fmt: skip
    crop: str = option(
        "fixed",
        help="fixed looks at one square for all frames of a scene, so that the head moves in it; follow at a square "
        "that goes with the face, which leaves expression and turns alone",
        choices=CROPS,
    )
    batch_size: int = option(8, 1, MAX_BATCH, "frames that the networks read at once")
    device: str | None = same_option(ImplicitOptions, "device")
    precision: str = same_option(ImplicitOptions, "precision")

    def __post_init__(self) -> None:
        check_options(self)
