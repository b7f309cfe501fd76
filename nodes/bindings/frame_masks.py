"""Masks of what is painted: 1 is painted anew, 0 stays, between is mixed, as ComfyUI's noise_mask of a LATENT has it.

Shapes: M masks of h by w, B frames of a batch, H and W pixels of the painted frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import interpolate

from ...portraittalk_core.face.fit import Fit


@dataclass(frozen=True)
class FrameMasks:
    """A mask for every frame: a batch of masks begins anew where it is shorter than the video."""

    masks: Tensor  # (M, h, w) 0..1
    size: tuple[int, int]  # H and W
    # how the portrait's picture, of the given height and width, becomes the frames; None where masks are the frames'
    fit: Fit | None = None
    portrait_size: tuple[int, int] | None = None

    def at(self, frames: Sequence[int]) -> Tensor:
        """(B, 1, h', w') masks of the frames of these numbers, at a size of their own: ComfyUI scales them."""
        masks = self.masks[[max(frame, 0) % len(self.masks) for frame in frames]][:, None]
        if self.fit is None or tuple(masks.shape[2:]) == self.size:
            return masks
        fit, resized = self.fit, interpolate(masks, self.portrait_size, mode="bilinear")
        return resized[..., fit.top : fit.top + fit.box_height, fit.left : fit.left + fit.box_width]

    def composite(self, painted: Tensor, drafts: Tensor, first: int) -> Tensor:
        """Painted frames (B, H, W, 3) with what stays from the drafts, pixel by pixel.

        Args:
            painted: frames, the first of which has the number `first`.
            drafts: (B, H, W, 3 or more) what they were painted over.
            first: of the batch.
        """
        weights = interpolate(self.at(range(first, first + len(painted))), painted.shape[1:3], mode="bilinear")
        return drafts[..., :3].to(painted).lerp(painted, weights.movedim(1, -1).to(painted))
