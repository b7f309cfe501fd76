"""Edits of a part of the picture: the person, or the background behind them; the rest stays as the draft has it.

Shapes: B frames, H and W pixels, h = H/8 and w = W/8.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...diffusion.denoiser import Condition
from ...face.segmentation.person import person_mask

EDITS = ("all", "person", "background")  # what is painted
Segment = Callable[[Tensor], Tensor]  # images (B, 3, H, W) 0..1 → masks of people (B, H, W) 0..1


def kept_weights(frames: Tensor, edit: str, segment: Segment | None = None) -> Tensor | None:
    """(B, 1, H, W) weights 0..1 of what stays, by the mask of the person in each frame; None where all is painted.

    Args:
        frames: (B, H, W, 3) float 0..1.
        edit: one of EDITS.
        segment: tells people from the background; None is `person_mask`.
    """
    if edit == "all":
        return None
    person = (segment or person_mask)(frames.movedim(-1, 1))[:, None].to(frames.device)
    return person if edit == "background" else 1 - person


class KeptDenoiser:
    """denoiser(x, sigma, cond) → denoised that holds a part of the latents at every step, so that the rest fits to it.

    Args:
        denoiser: of all.
        known: (B, 4, h, w) clean latents of what stays.
        weights: (B, 1, H, W) of `kept_weights`.
    """

    def __init__(self, denoiser: Callable[[Tensor, float, Condition], Tensor], known: Tensor, weights: Tensor) -> None:
        self.denoiser, self.known = denoiser, known
        self.weights = interpolate(weights.float(), known.shape[2:], mode="area").to(known)

    def __call__(self, x: Tensor, sigma: float, cond: Condition) -> Tensor:
        """Denoised latents (B, 4, h, w) of noisy latents."""
        return torch.lerp(self.denoiser(x, sigma, cond), self.known.to(x), self.weights.to(x))
