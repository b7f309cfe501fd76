"""The denoiser interface, denoiser(x, sigma, cond) → denoised, and SD1.5's UNet with classifier-free guidance.

Shapes: B frames, h and w latent pixels, L text tokens, E their width.
x = clean latents + sigma · noise, as in Karras et al. 2022; SD1.5's own input is x / sqrt(1 + sigma²).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ..layers.attention import NEGATIVE, POSITIVE
from .branches import Batch
from .schedule import IMAGES, timestep_at

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


class Control(Protocol):
    """Interface of a ControlNet: a network whose residuals are added to the UNet's skip connections."""

    frames: Sequence[int]  # frame numbers of the current call, set by its caller

    def __call__(
        self, rows: Tensor, timestep: Tensor, text: Tensor, sigma: float
    ) -> tuple[Sequence[Tensor], Tensor] | None:
        """Residuals of the down blocks and the middle block; None for no residuals."""


@dataclass(frozen=True)
class Condition:
    """Conditioning of a denoiser: text tokens and the guidance scale."""

    positive: Tensor  # (1 or B, L, E) text tokens
    negative: Tensor | None = None  # (1 or B, L, E); None where cfg is 1
    cfg: float = 1.0  # classifier-free guidance; 1 runs the positive alone


class Denoiser:
    """SD1.5's UNet, which predicts noise, as a denoiser.

    Args:
        unet: predicts noise.
        batch: CFG labels and noise level for the branches that are bound to the UNet.
        control: a ControlNet with the frames' hints; None for none.
        schedule: of noise levels, `schedule.MOTION` where motion modules act.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        batch: Batch | None = None,
        control: Control | None = None,
        schedule: str = IMAGES,
    ) -> None:
        self.unet, self.batch, self.control, self.schedule = unet, batch or Batch(), control, schedule

    def timestep(self, sigma: float) -> float:
        """The fractional timestep whose noise level is `sigma`."""
        return timestep_at(sigma, self.schedule)

    @torch.no_grad()
    def __call__(self, x: Tensor, sigma: float, cond: Condition) -> Tensor:
        """Denoised latents (B, 4, h, w) of noisy latents.

        Args:
            x: (B, 4, h, w).
            sigma: noise level of x.
            cond: what the frames are to show.
        """
        guided = cond.negative is not None and cond.cfg != 1
        labels = (POSITIVE, NEGATIVE) if guided else (POSITIVE,)
        texts = (cond.positive, cond.negative) if guided else (cond.positive,)
        text = self.batch.texts.rows(texts, len(x), next(self.unet.parameters()))
        noise = self._noise(torch.cat([x] * len(labels)), sigma, text, labels)
        if guided:
            positive, negative = noise.chunk(2)
            noise = negative + cond.cfg * (positive - negative)
        return x - sigma * noise

    def _noise(self, x: Tensor, sigma: float, text: Tensor, labels: tuple[int, ...]) -> Tensor:
        self.batch.labels, self.batch.sigma = labels, sigma
        weights = next(self.unet.parameters())
        rows = (x / math.sqrt(1 + sigma**2)).to(weights)
        # filled on the device: to copy a number there would make the host wait
        timestep = torch.full((), self.timestep(sigma), dtype=torch.float32, device=weights.device)
        text = text.to(weights)
        added = self.control(rows, timestep, text, sigma) if self.control else None
        if added is None:
            return self.unet(rows, timestep, text, return_dict=False)[0].to(x)
        down, middle = ([part.to(weights) for part in added[0]], added[1].to(weights))
        output = self.unet(
            rows,
            timestep,
            text,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )
        return output[0].to(x)
