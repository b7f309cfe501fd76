"""Masked reconstruction loss: restoring whole pictures from ones with masked patches.

Shapes: B pictures, H and W pixels, h and w latent pixels.
Source: PortraitTalk, equation 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..checks import check_choice, check_range, check_shape

MODES = ("reconstruct", "paper")
HIDDEN = 0.0  # value of hidden pixels in −1..1: grey


def random_patch_mask(
    height: int, width: int, patch: int = 16, ratio: float = 0.3, generator: torch.Generator | None = None
) -> Tensor:
    """Random mask of square patches of a grid.

    Args:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        patch: side of a patch, in pixels; those at the right and lower edge may be cut.
        ratio: share of the patches to hide, 0..1, to the nearest whole patch.
        generator: source of chance, on the CPU.

    Returns:
        (1, H, W) bool, true where hidden.
    """
    check_range(ratio, 0, 1, "the share of hidden patches")
    check_range(patch, 1, max(height, width), "the side of a patch")
    rows, columns = math.ceil(height / patch), math.ceil(width / patch)
    hidden = torch.randperm(rows * columns, generator=generator)[: round(ratio * rows * columns)]
    grid = torch.zeros(rows * columns, dtype=torch.bool)
    grid[hidden] = True
    grid = grid.view(rows, columns).repeat_interleave(patch, 0).repeat_interleave(patch, 1)
    return grid[None, :height, :width].clone()


def hide(pictures: Tensor, masks: Tensor) -> Tensor:
    """Masked pictures (B, 3, H, W) in −1..1: grey where the masks (B, 1, H, W) are set."""
    return pictures.masked_fill(masks, HIDDEN)


def masked_reconstruction_loss(
    predict: Callable[[Tensor], Tensor],
    clean: Tensor,
    masked: Tensor,
    noise: Tensor,
    alpha_bar: Tensor,
    mode: str = "reconstruct",
    snr_limit: float | None = None,
) -> Tensor:
    """Mean squared error of the noise that a network predicts from noisy latents of masked pictures.

    As printed, the equation asks for the noise that was added, so that what the network takes for the clean picture
    is the masked one ("paper"). The text asks to restore the original; "reconstruct" aims at the noise that lies
    between the noisy masked latents z and the clean ones E(x): (z − sqrt(ᾱ) E(x)) / sqrt(1 − ᾱ). Where nothing is
    hidden the two are the same.

    Args:
        predict: gives the network's noise (B, 4, h, w) for noisy latents (B, 4, h, w).
        clean: (B, 4, h, w) latents of the whole pictures.
        masked: (B, 4, h, w) latents of the pictures with patches hidden.
        noise: (B, 4, h, w), normal.
        alpha_bar: (B,) share of the signal's power that is left, between 0 and 1.
        mode: "reconstruct" or "paper".
        snr_limit: None weighs all alike, as the equation does. A number weighs by min(snr, limit) / snr, for a hidden
            patch's error counts ᾱ / (1 − ᾱ) = snr times in terms of noise, 1175 at the least noise of SD1.5.

    Returns:
        A scalar.
    """
    check_choice(mode, MODES, "the loss's mode")
    check_shape(alpha_bar, "B", "alpha_bar")
    signal, spread = (part.sqrt().view(-1, 1, 1, 1) for part in (alpha_bar, 1 - alpha_bar))
    target = noise
    if mode == "reconstruct":
        target = noise + signal / spread * (masked - clean)  # the docstring's quotient, without its cancellation
    predicted = predict(signal * masked + spread * noise)
    errors = (predicted.float() - target).square().mean((1, 2, 3))
    if snr_limit is not None:
        snr = alpha_bar / (1 - alpha_bar)
        errors = errors * (snr_limit / snr).clamp(max=1)
    return errors.mean()
