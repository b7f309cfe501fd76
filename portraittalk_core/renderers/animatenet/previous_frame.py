"""Conditioning of a frame by the last finished frame: its latents enter the ControlNet, its head placement the tokens.

Untrained, it adds exactly zero.

Shapes: B frames, R = chunks · B rows of a batch, h and w latent pixels, C channels of the first level.
Source: PortraitTalk, section 3.2: "the last generated frame from the previous step as the initial point for the
subsequent frame generation and head placement guidance"; how it enters is this project's own.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor, nn

from ...errors import InputError

LATENT_CHANNELS = 4


def new_previous_projection(width: int, ops: ModuleType = nn) -> nn.Module:
    """A convolution from latents (B, 4, h, w) to what is added to the ControlNet's first features (B, C, h, w)."""
    projection = ops.Conv2d(LATENT_CHANNELS, width, 3, padding=1)
    nn.init.zeros_(projection.weight)
    nn.init.zeros_(projection.bias)
    return projection


def previous_hook(projection: nn.Module, latents: Callable[[], Tensor | None]) -> Callable:
    """Forward hook of a ControlNet's `conv_in` that adds the projected latents of the last finished frame.

    Args:
        projection: of `new_previous_projection`.
        latents: gives (B, 4, h, w), or (1, 4, h, w) for all frames; None where no frame is known.
    """

    def add(_: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        previous = latents()
        if previous is None:
            return out
        if previous.shape[2:] != out.shape[2:] or len(out) % len(previous):
            raise InputError(
                f"the last frame's latents are {tuple(previous.shape)}, which are no previous frames of {len(out)} "
                f"rows of {out.shape[2]}x{out.shape[3]}."
            )
        # where the rows are: ComfyUI's layers may have their weights elsewhere, and bring them
        added = projection(previous.to(out.device, projection.weight.dtype)).to(out)
        return out + added.repeat(len(out) // len(previous), 1, 1, 1)

    return add


def previous_placements(start: Tensor, placed: Tensor) -> Tensor:
    """(T, 6) head placements of the frames before those of `placed` (T, 6); before the first stands `start` (6,)."""
    return torch.cat([start[None].to(placed), placed[:-1]])
