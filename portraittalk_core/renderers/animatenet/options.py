"""Options of AnimateNet: landmark ControlNet, style attention, motion module and long videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...checks import check_window
from ...errors import InputError
from ...options import check_options, option

HINT_STYLES = ("mediapipe_face", "head_kps", "landmarks")
PLACEMENTS = ("track", "follow")
LONG_VIDEO = ("chunked", "sliding")
MAX_MOUTH_WEIGHT = 4.0


@dataclass(frozen=True)
class AnimateNetOptions:
    """Files and strengths of ControlNet, AnimateNet, style attention and motion module."""

    controlnet: Path | None = option(None, help="landmark ControlNet for SD1.5", metavar="FILE")
    control_strength: float = option(1.0, 0, 4, "how strictly frames follow the landmarks")
    control_start: float = option(0.0, 0, 1, "part of the steps at which it sets in")
    control_end: float = option(1.0, 0, 1, "part of the steps at which it ends")
    control_every: int = option(1, 1, 8, "2: it runs in every second step only")
    mouth_weight: float = option(1.5, 0, MAX_MOUTH_WEIGHT, "how much more it counts at the mouth")
    style_attention: Path | None = option(None, help="lets the checkpoint see --style too", metavar="FILE")
    control_style: str = option(
        HINT_STYLES[0], help="the drawing that the ControlNet was trained on", choices=HINT_STYLES
    )
    head_placement: str = option(
        PLACEMENTS[0],
        help="the head stands where the track has it, or travels there from the portrait's own place without a jump",
        choices=PLACEMENTS,
    )
    animatenet: Path | None = option(None, help="AnimateNet of `train animatenet`, for control", metavar="FILE")
    landmark_tokens: float = option(1.0, -1, 3, "how strongly its landmark tokens act")
    placement_tokens: float = option(1.0, -1, 3, "how strongly its head placement tokens act")
    features: float = option(0.0, -1, 3, "how strongly SD1.5 looks at its features; 0 is off")
    motion_module: Path | None = option(None, help="AnimateDiff motion module for SD1.5", metavar="FILE")
    motion_strength: float = option(1.0, 0, 2, "how strongly it acts; 0 is off")
    long_video: str = option(
        LONG_VIDEO[0],
        help="with a motion module: each chunk begins with the last frames of the one before, or fused windows",
        choices=LONG_VIDEO,
    )
    window: int = option(16, 1, 256, "frames that the motion module sees at once")
    overlap: int = option(4, 0, 255, "frames that neighbours share")
    per_frame: bool = option(
        False,
        help="without a motion module: every frame begins with the finished one before it, not with its own draft",
    )

    def __post_init__(self) -> None:
        check_options(self)
        check_window(self.control_start, self.control_end, ("`control_start`", "`control_end`"), "the ControlNet")
        if self.overlap >= self.window:
            raise InputError(
                f"an overlap of {self.overlap} does not fit windows of {self.window}; take 0 to {self.window - 1}."
            )
        if self.per_frame and self.motion_module is not None and self.motion_strength:
            raise InputError(
                "`per_frame` paints one frame after the other, a `motion_module` many together: leave one of them out."
            )
        if self.animatenet is not None and not self.controls:
            raise InputError(
                "`animatenet` acts inside of a ControlNet: give `controlnet` FILE with a `control_strength` above 0."
            )
        if self.features and self.animatenet is None:
            raise InputError("`features` needs `animatenet` FILE: the attention to features is in that file.")

    @property
    def controls(self) -> bool:
        """Whether a ControlNet acts."""
        return self.controlnet is not None and self.control_strength > 0
