"""Encoding of pictures to SD1.5's latents and decoding, with diffusers' VAE or another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ...diffusion.latents import LATENT_SCALE
from ...errors import InputError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


class LatentCodec(Protocol):
    """Interface of a VAE for V-Express."""

    def encode(self, picture: Tensor) -> Tensor:
        """(1, 4, H/8, W/8) scaled latents of a picture (H, W, 3) uint8."""

    def decode(self, latents: Tensor) -> Tensor:
        """A picture (H, W, 3) float, 0..1 or a little outside, of scaled latents (1, 4, H/8, W/8)."""


class DiffusersLatentCodec:
    """Latent codec of diffusers' VAE."""

    def __init__(self, vae: AutoencoderKL) -> None:
        self.vae = vae

    @torch.no_grad()
    def encode(self, picture: Tensor) -> Tensor:
        """As a LatentCodec."""
        like = next(self.vae.parameters())
        planes = picture.permute(2, 0, 1)[None].to(like) / 127.5 - 1
        return self.vae.encode(planes).latent_dist.mean.float() * LATENT_SCALE

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """As a LatentCodec."""
        like = next(self.vae.parameters())
        planes = self.vae.decode(latents.to(like) / LATENT_SCALE).sample[0]
        return planes.permute(1, 2, 0).float() / 2 + 0.5


def decoded(coder: LatentCodec, latents: Tensor) -> Tensor:
    """Decode scaled latents (1, 4, H/8, W/8) to a picture (H, W, 3) uint8 on the CPU.

    Raises:
        InputError: the VAE gives values that are not numbers.
    """
    frame = coder.decode(latents).float().cpu()
    if not torch.isfinite(frame).all():
        raise InputError(
            "the VAE gives values that are not numbers; use another VAE, or fp32 or bf16 (ComfyUI: --fp32-vae)."
        )
    return (frame.clamp(0, 1) * 255).round().to(torch.uint8).contiguous()
