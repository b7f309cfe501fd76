"""The value of the AnimateNet Control socket, and how the sampler binds it to MODEL and conditioning."""

from __future__ import annotations

from dataclasses import dataclass, field

import comfy.model_patcher
from torch import Tensor

from ..portraittalk_core.checks import check_window
from ..portraittalk_core.diffusion.windowed import VideoOptions
from ..portraittalk_core.layers.temporal import check_frames
from ..portraittalk_core.renderers.animatenet.animate_net import AnimateOptions
from ..portraittalk_core.renderers.animatenet.feature_attention import ControlFeatures
from ..portraittalk_core.renderers.animatenet.hints import track_hints
from ..portraittalk_core.renderers.animatenet.mouth_weight import mouth_maps
from ..portraittalk_core.types import LandmarkTrack
from .bindings.animate import BoundAnimate, check_animate, with_features
from .bindings.control import ComfyFrameControl, check_control_net, with_control
from .bindings.cursor import Cursor
from .bindings.motion import with_motion, with_windows


@dataclass(frozen=True)
class AnimateControl:
    """Landmark track, ControlNet, motion module and AnimateNet, with their strengths."""

    track: LandmarkTrack  # on the portrait's picture
    control_net: object | None = None  # the user's; None for none
    strength: float = 1.0
    percents: tuple[float, float] = (0.0, 1.0)
    mouth_weight: float = 1.0
    style: str = "mediapipe_face"
    motion: comfy.model_patcher.ModelPatcher | None = None  # of `bindings.motion.managed_motion`
    motion_strength: float = 1.0
    video: VideoOptions = field(default_factory=VideoOptions)
    animate: comfy.model_patcher.ModelPatcher | None = None  # of `bindings.animate.managed_animate`
    landmark_tokens: float = 1.0  # strengths of what it adds
    placement_tokens: float = 1.0
    features: float = 0.0  # acts with an AnimateNet file that was trained with it alone
    reuse_every: int = 1  # 2: what the ControlNet gives serves a second step too
    maps: ControlFeatures = field(default_factory=ControlFeatures, init=False)  # of the step at hand

    def __post_init__(self) -> None:
        check_window(*self.percents, ("start_percent", "end_percent"), "the ControlNet")
        if self.control_net is not None:
            check_control_net(self.control_net)
        if self.animate is not None:
            check_animate(self.animate, self.control_net)
        if self.moves:
            check_frames(self.video.length, self.motion.model.length)

    @property
    def moves(self) -> bool:
        """Whether motion modules act."""
        return self.motion is not None and self.motion_strength > 0

    @property
    def looks_back(self) -> bool:
        """Whether the ControlNet is shown the last finished frame."""
        is_on = self.control_net is not None and self.strength != 0
        return is_on and self.animate is not None and self.animate.model.previous_proj is not None

    def conditioned(
        self, conditioning: tuple[list, list], track: LandmarkTrack, cursor: Cursor, start: Tensor | None = None
    ) -> tuple[list, list]:
        """Positive and negative conditioning with the hint pictures of a track on the painted picture.

        Args:
            conditioning: positive and negative.
            track: on the painted picture.
            cursor: shared with the painter.
            start: (6,) where the portrait's head stands; as in the track's first frame if None.
        """
        if self.control_net is None or self.strength == 0:
            return conditioning
        hints, maps = track_hints(track, self.style), mouth_maps(track, self.mouth_weight)
        animate = self._animate_on(track, cursor, start)
        control = ComfyFrameControl(
            self.control_net, hints, cursor, self.strength, self.percents, maps, animate, self.reuse_every
        )
        positive, negative = with_control(conditioning, control)
        return positive, negative

    def _animate_on(self, track: LandmarkTrack, cursor: Cursor, start: Tensor | None) -> BoundAnimate | None:
        if self.animate is None:
            return None
        options = AnimateOptions(self.landmark_tokens, self.placement_tokens)
        return BoundAnimate(self.animate, track, options, self.maps, cursor, start)

    def bound(self, model: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
        """The MODEL patched with feature attention to the ControlNet's maps and with motion modules."""
        if self.animate is not None:
            model = with_features(model, self.animate, self.maps, self.features)
        if not self.moves:
            return model
        moving = with_motion(model, self.motion, self.motion_strength)
        return with_windows(moving, self.video, self.motion.model.length)

    def preview(self, width: int, height: int, max_pictures: int) -> list[Tensor]:
        """The first hint pictures (height, width, 3) uint8, at most `max_pictures`."""
        from ..portraittalk_core.renderers.animatenet.landmark_control import draw_condition

        count = min(max_pictures, len(self.track))
        return [draw_condition(self.track, i, width, height, self.style) for i in range(count)]
