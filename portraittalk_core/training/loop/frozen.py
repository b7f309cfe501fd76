"""Frozen VAE and text encoder of SD1.5 for training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from ...diffusion.latents import LATENT_SCALE
from ...diffusion.text import WINDOW, encode_text
from ...errors import InputError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTokenizer

ENCODED_AT_ONCE = 4  # pictures: each takes half a GB of memory at 512 pixels
FIRST, LAST = 49406, 49407  # of CLIP's tokens; an empty text is the first and then the last


class LatentCodec(Protocol):
    """Pictures (B, 3, 8h, 8w) in −1..1 to latents (B, 4, h, w) of about unit size, and back."""

    def to(self, device: torch.device, dtype: torch.dtype) -> object: ...

    def encode(self, pictures: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...


class Texts(Protocol):
    """Captions to text tokens (B, L, E)."""

    def to(self, device: torch.device, dtype: torch.dtype) -> object: ...

    def tokens(self, captions: Sequence[str]) -> Tensor: ...


class VaeLatentCodec:
    """SD1.5's VAE, always in float32, since its latents are training targets."""

    def __init__(self, vae: AutoencoderKL) -> None:
        self._vae = vae.eval().requires_grad_(False)

    def to(self, device: torch.device, dtype: torch.dtype) -> VaeLatentCodec:
        """Move to a device; the type stays."""
        nn.Module.to(self._vae, device, torch.float32)  # diffusers' own warns of nothing
        return self

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Means of the latents: their spread is far below the noise of the first timestep."""
        with torch.autocast(pictures.device.type, enabled=False):
            parts = pictures.float().split(ENCODED_AT_ONCE)
            return torch.cat([self._vae.encode(part).latent_dist.mode() for part in parts]) * LATENT_SCALE

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents."""
        with torch.autocast(latents.device.type, enabled=False):
            return self._vae.decode(latents.float() / LATENT_SCALE, return_dict=False)[0]


class ClipTexts:
    """SD1.5's text encoder.

    Args:
        encoder: CLIP's.
        tokenizer: that goes with it; None is enough where every caption is empty.
    """

    def __init__(self, encoder: CLIPTextModel, tokenizer: CLIPTokenizer | None = None) -> None:
        self._encoder, self._tokenizer = encoder.eval().requires_grad_(False), tokenizer
        self._empty: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> ClipTexts:
        """Move to a device and type."""
        self._encoder.to(device, dtype)
        self._empty = None
        return self

    @torch.no_grad()
    def tokens(self, captions: Sequence[str]) -> Tensor:
        """(B, 77, 768) of captions; of a long one, the first 75 words or word pieces."""
        return torch.cat([self._encode(caption) if caption else self._nothing() for caption in captions])

    def _encode(self, caption: str) -> Tensor:
        if self._tokenizer is None:
            raise InputError("a caption needs CLIP's tokenizer; give the folder with its vocab.json and merges.txt.")
        return encode_text(self._encoder, self._tokenizer, caption)[:, :WINDOW]

    def _nothing(self) -> Tensor:
        if self._empty is None:
            ids = torch.tensor([[FIRST] + [LAST] * (WINDOW - 1)])
            device = self._encoder.get_input_embeddings().weight.device
            self._empty = self._encoder(ids.to(device)).last_hidden_state
        return self._empty
