"""MuseTalk 1.5 as a lip model: one step of a UNet, without noise, on latents of the masked and of the whole crop.

Shapes: B frames, S = 256 pixels, R rows of speech a frame of D channels.
Source: Y. Zhang et al., "MuseTalk: Real-Time High Quality Lip Synchronization with Latent Space Inpainting"
(arXiv 2410.10122), section 3, and the public inference of version 1.5; `docs/design/lips.md` 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from ....checks import check_shape
from ....diffusion.latents import LATENT_SCALE
from ....errors import InputError, MissingDependency
from ....face.lip_points import LIP_POINTS
from ....types import Speech
from ..contract import WHISPER, LipBatch, LipCropRule, References
from ..model_base import LipNetworks, masked_half
from .speech import FEATURES_A_FRAME, WhisperRows, silent_row

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from ....diffusion.latents import TinyVae
    from ....speech.encoders import WhisperEncoder

SIZE = 256  # side of the crops of the public weights
MIDDLE = 5  # mesh point on the bridge of the nose, at which the public crop has its middle (68-point layout: 29)
BELOW_PX = 10.0  # of the film, below the chin: `extra_margin` of the public code
TIMESTEP = 0
WHISPER_ADVICE = "openai/whisper-tiny (model.safetensors or pytorch_model.bin)"


class MuseTalk(LipNetworks):
    """MuseTalk's networks as a lip model; see `contract.LipModel`.

    The frame itself is its only reference, whole: the sound tells the mouth, and the frame's own mouth the rest.

    Args:
        unet: of 8 input channels.
        vae: SD1.5's image autoencoder.
        encoder: of the speech, whisper-tiny; without it, rows of speech must come from elsewhere.
        size: side of the crops.
    """

    name: ClassVar[str] = "musetalk"
    sound: ClassVar[str] = WHISPER
    needs_sketches: ClassVar[bool] = False
    needs_references: ClassVar[bool] = False

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL | TinyVae,
        encoder: WhisperEncoder | None = None,
        size: int = SIZE,
    ) -> None:
        super().__init__()
        self.unet, self.vae, self.encoder, self.size = unet, vae, encoder, size
        self.crop = LipCropRule(LIP_POINTS, 0.0, square=False, size=size, middle=MIDDLE, below_px=BELOW_PX)

    @property
    def row_width(self) -> int:
        """Channels of a row of speech, D."""
        return self.unet.config.cross_attention_dim

    def listen(self, speech: Speech, fps: Fraction) -> tuple[Callable[[Iterable[int]], Tensor], Tensor]:
        """What is heard of a clip: rows (B, 50, D) of given frames, and the row (50, D) of silence.

        Raises:
            MissingDependency: the model was opened without whisper.
        """
        if self.encoder is None:
            raise MissingDependency(f"MuseTalk hears speech by {WHISPER_ADVICE}; give its file (`speech_encoder`).")
        return WhisperRows(self.encoder, speech, fps).rows, self._silence

    @cached_property
    def _silence(self) -> Tensor:
        return silent_row(self.encoder)

    def encode(self, references: References) -> None:  # noqa: ARG002 - as the contract has it
        """Nothing: every frame is its own reference."""

    @torch.no_grad()
    def paint(self, features: None, batch: LipBatch) -> Tensor:  # noqa: ARG002 - as the contract has it
        """(B, 3, S, S) RGB float32 0..1; of the batch, pictures and sound (B, R, D) are looked at.

        Raises:
            InputError: sound is missing, something has another shape, or the autoencoder fails in this precision.
        """
        pictures = self.check_crops(batch.pictures, "face crops")
        rows = with_positions(self._check_rows(batch)).to(self.dtype)
        parts = zip(pictures.split(self.frames_at_once), rows.split(self.frames_at_once), strict=True)
        planes = torch.cat([self._painted(*part) for part in parts])
        if not torch.isfinite(planes).all():
            raise InputError(
                "MuseTalk's image autoencoder gives values that are not numbers; use precision fp32 or bf16."
            )
        return (planes / 2 + 0.5).clamp(0, 1)

    def _painted(self, pictures: Tensor, rows: Tensor) -> Tensor:
        """(B, 3, S, S) float32, -1..1 and a little beyond."""
        timestep = torch.tensor([TIMESTEP], device=self.device)
        painted = self.unet(self.latents(pictures), timestep, encoder_hidden_states=rows).sample
        return self.vae.decode(painted.to(self._vae_dtype) / LATENT_SCALE).sample.float()

    def latents(self, pictures: Tensor) -> Tensor:
        """(B, 8, S/8, S/8) scaled latents: of pictures with black lower halves, then of whole ones.

        The autoencoder's mean is taken; the public code draws from its distribution, which flickers a little.
        """
        both = torch.cat([masked_half(pictures), pictures]) * 2 - 1
        encoded = self.vae.encode(both.to(self._vae_dtype)).latent_dist.mean * LATENT_SCALE
        return torch.cat(encoded.chunk(2), 1).to(self.dtype)

    def _check_rows(self, batch: LipBatch) -> Tensor:
        if batch.sound is None:
            raise InputError("MuseTalk hears rows of whisper-tiny; give the speech too.")
        shape = f"{len(batch.pictures)} {FEATURES_A_FRAME} {self.row_width}"
        return check_shape(batch.sound, shape, "MuseTalk's rows of speech").to(self.device).float()

    @property
    def dtype(self) -> torch.dtype:
        """Of the UNet's weights."""
        return next(self.unet.parameters()).dtype

    @property
    def _vae_dtype(self) -> torch.dtype:
        return next(self.vae.parameters()).dtype


def with_positions(rows: Tensor) -> Tensor:
    """Rows (B, R, D) with a sine and a cosine of their place added: Vaswani et al. 2017, section 3.5."""
    places = torch.arange(rows.shape[1], device=rows.device)[:, None]
    speed = torch.exp(torch.arange(0, rows.shape[2], 2, device=rows.device) * (-math.log(10_000) / rows.shape[2]))
    angle = places * speed
    return rows + torch.stack([angle.sin(), angle.cos()], 2).flatten(1)


def build_unet(widths: tuple[int, ...], row_width: int, size: int = SIZE) -> nn.Module:
    """SD1.4's UNet with eight input channels.

    Args:
        widths: channels of each level of resolution.
        row_width: channels of a row of speech.
        size: side of the crops.

    Raises:
        MissingDependency: diffusers is not installed.
    """
    try:
        from diffusers import UNet2DConditionModel
    except ImportError as error:
        raise MissingDependency("MuseTalk needs diffusers: pip install diffusers") from error
    from ....diffusion.sites import HEADS

    return UNet2DConditionModel(
        sample_size=size // 8,
        in_channels=8,
        out_channels=4,
        block_out_channels=widths,
        cross_attention_dim=row_width,
        attention_head_dim=HEADS,  # diffusers means their number
    )
