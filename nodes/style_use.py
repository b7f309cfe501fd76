"""The value of the style socket: a style and its attention, bound to a MODEL or blended with another."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction

import comfy.model_patcher
import torch
from torch import Tensor

from ..portraittalk_core.errors import InputError, MissingDependency
from ..portraittalk_core.motion.gain import gain_of_values
from ..portraittalk_core.plots.style import plot_style
from ..portraittalk_core.style.attention import FrameStyles
from ..portraittalk_core.style.attention_files import BASE
from ..portraittalk_core.style.prior import BlendedStyle, Style, faded, interpolate, shared
from .bindings import convert
from .bindings.cursor import Cursor
from .bindings.curves import frame_values
from .bindings.style import with_style

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChosenStyle:
    """A style prior, and the style attention that conditions the checkpoint on it, if any."""

    style: Style
    attention: comfy.model_patcher.ModelPatcher | None = None  # of `bindings.style.managed_style`
    curve: object | None = None  # of the strength, times the style's own; a number, a list of them, or a CURVE

    def __post_init__(self) -> None:
        if self.attention is not None:
            self.attention.model.suited(self.style)

    def over(self, num_frames: int, fps: Fraction) -> Style:
        """The style of a clip, with its strength following the curve, if there is one.

        Args:
            num_frames: of the clip.
            fps: of the clip.

        Raises:
            InputError: the curve is no numbers, or the style changes over time already.
        """
        if self.curve is None:
            return self.style
        return faded(self.style, gain_of_values(frame_values(self.curve, num_frames), num_frames), fps)

    def bound(
        self, model: comfy.model_patcher.ModelPatcher, num_frames: int, fps: Fraction, cursor: Cursor
    ) -> comfy.model_patcher.ModelPatcher:
        """The MODEL with style attention to every frame's style; the MODEL itself without an attention."""
        frame_styles = self.in_frames(num_frames, fps, BASE)
        return model if frame_styles is None else with_style(model, *frame_styles, cursor)

    def in_frames(
        self, num_frames: int, fps: Fraction, base: str
    ) -> tuple[comfy.model_patcher.ModelPatcher, FrameStyles] | None:
        """The attention and the style of every frame, or one for all; None without an attention.

        Args:
            num_frames: of the video.
            fps: of the video.
            base: which UNet is conditioned on it.
        """
        if self.attention is None:
            log.info("the style %s has no style attention: it acts on the motion alone.", self.style.source)
            return None
        self.attention.model.warn_other_base(base)
        style = self.over(num_frames, fps)
        count = num_frames if isinstance(style, BlendedStyle) else 1
        return self.attention, FrameStyles(*self.attention.model.drawn(style, count, fps))


def blended(first: ChosenStyle, second: ChosenStyle, share: float, points: tuple) -> ChosenStyle:
    """Two styles interpolated, with a fixed share or one that changes over time.

    Args:
        first: share 0.
        second: share 1.
        share: of the second one, where no points are given.
        points: (second, share), …; empty for none.

    Raises:
        InputError: they live in spaces that have nothing in common, or one of them is a blend over time.
    """
    for style_1 in (first, second):
        if isinstance(style_1.style, BlendedStyle) or style_1.curve is not None:
            raise InputError(
                f"{style_1.style.source} changes over time already; blend the styles that it was made of instead."
            )
    style_1, style_2 = shared(first.style, second.style)
    mixed = BlendedStyle(style_1, style_2, points) if points else interpolate(style_1, style_2, share)
    attention = first.attention or second.attention
    if attention is not None and not attention.model.suits(mixed):
        attention = None  # only their motion has something in common
    return ChosenStyle(mixed, attention)


def style_summary(style: Style) -> str:
    """One-line summary of a style, for its node."""
    part = style.first if isinstance(style, BlendedStyle) else style
    kind = "motion statistics" if part.style_statistics is None and part.space == "manner" else f"{part.space}"
    return f"{style.source}: {len(part)} numbers ({kind}), strength {style.strength:g}"


def style_image(style: Style) -> Tensor:
    """The plot of a style as an IMAGE; a small grey picture where matplotlib is not installed."""
    try:
        return convert.to_image([plot_style(style)])
    except MissingDependency as error:
        log.warning("no plot: %s", error)
        return torch.full((1, 64, 64, 3), 0.5)
