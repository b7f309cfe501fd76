"""Scale of SD1.5's latents, and TAESD, the tiny autoencoder that costs a sixteenth of the VAE."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny

LATENT_SCALE = 0.18215  # latents are so many times what the VAE's encoder gives


class TinyVae(nn.Module):
    """TAESD with the interface of diffusers' AutoencoderKL: latents are unscaled.

    Args:
        tiny: both halves, or the decoder alone.
        encoder: what makes latents where there is the decoder alone; another VAE of SD1.5.
    """

    def __init__(self, tiny: AutoencoderTiny, encoder: AutoencoderKL | None = None) -> None:
        super().__init__()
        self.tiny, self.other = tiny, encoder

    def encode(self, pictures: Tensor) -> SimpleNamespace:
        """Latents of pictures (B, 3, H, W) in −1..1; `.latent_dist.mean` is (B, 4, H/8, W/8)."""
        if self.other is not None:
            return self.other.encode(pictures)
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=self.tiny.encode(pictures).latents / LATENT_SCALE))

    def decode(self, latents: Tensor) -> SimpleNamespace:
        """Pictures of latents (B, 4, h, w); `.sample` is (B, 3, 8h, 8w) in −1..1, and a little beyond."""
        return SimpleNamespace(sample=self.tiny.decode(latents * LATENT_SCALE).sample)
