"""The frozen parts of SD1.5 around the UNet, as training sees them: pictures to latents, captions to tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ..errors import InputError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTokenizer

LATENT_SCALE = 0.18215  # of SD1.x
NUM_TOKENS, FIRST, LAST = 77, 49406, 49407  # of CLIP's text; an empty text is the first and then the last


class Codec(Protocol):
    """Pictures (B, 3, 8h, 8w) in −1..1 to latents (B, 4, h, w) of about unit size, and back."""

    def to(self, device: torch.device, dtype: torch.dtype) -> object: ...

    def encode(self, pictures: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...


class Texts(Protocol):
    """Captions to text tokens (B, L, E)."""

    def to(self, device: torch.device, dtype: torch.dtype) -> object: ...

    def tokens(self, captions: Sequence[str]) -> Tensor: ...


class VaeCodec:
    """SD1.5's VAE, always in float32: its latents are what training aims at."""

    def __init__(self, vae: AutoencoderKL) -> None:
        self._vae = vae.eval().requires_grad_(False)

    def to(self, device: torch.device, dtype: torch.dtype) -> VaeCodec:
        """Move to a device; the type stays."""
        self._vae.to(device, torch.float32)
        return self

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Means of the latents: their spread is far below the noise of the first timestep."""
        with torch.autocast(pictures.device.type, enabled=False):
            return self._vae.encode(pictures.float()).latent_dist.mode() * LATENT_SCALE

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents."""
        with torch.autocast(latents.device.type, enabled=False):
            return self._vae.decode(latents.float() / LATENT_SCALE, return_dict=False)[0]


class ClipTexts:
    """SD1.5's text encoder.

    Args:
        encoder: CLIP's.
        tokenizer: folder with vocab.json and merges.txt; None reads every caption as empty.

    Raises:
        InputError: the folder holds no tokenizer.
    """

    def __init__(self, encoder: CLIPTextModel, tokenizer: Path | None) -> None:
        self._encoder = encoder.eval().requires_grad_(False)
        self._tokenizer = _load_tokenizer(tokenizer) if tokenizer else None
        self._empty: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> ClipTexts:
        """Move to a device and type."""
        self._encoder.to(device, dtype)
        self._empty = None
        return self

    @torch.no_grad()
    def tokens(self, captions: Sequence[str]) -> Tensor:
        """(B, 77, 768) of captions."""
        if self._empty is None:
            self._empty = self._encode(torch.tensor([[FIRST] + [LAST] * (NUM_TOKENS - 1)]))
        if self._tokenizer is None or not any(captions):
            return self._empty.expand(len(captions), -1, -1)
        read = self._tokenizer(
            list(captions), padding="max_length", max_length=NUM_TOKENS, truncation=True, return_tensors="pt"
        )
        return self._encode(read.input_ids)

    def _encode(self, ids: Tensor) -> Tensor:
        return self._encoder(ids.to(next(self._encoder.parameters()).device)).last_hidden_state


def _load_tokenizer(folder: Path) -> CLIPTokenizer:
    from transformers import CLIPTokenizer

    try:
        return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{folder} holds no CLIP tokenizer ({str(error).splitlines()[0]}); "
            "it needs the files vocab.json and merges.txt of openai/clip-vit-large-patch14."
        ) from error
