"""V-Express's UNet as a denoiser: it predicts the velocity (v-prediction), or the noise as SVP's does.

Shapes: F frames of the video, B of a window, h and w latent pixels, C width of the audio tokens.
Source: Salimans & Ho 2022, section 4 (the velocity); V-Express (Wang et al. 2024); `docs/design/vexpress.md` 4, 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...diffusion.branches import Batch
from ...diffusion.denoiser import Condition, Denoiser
from ...diffusion.schedule import IMAGES, ZERO_SNR
from ...layers.attention import NEGATIVE, POSITIVE
from .unet import NOISE

if TYPE_CHECKING:
    from .unet import VExpress

SCHEDULE_OF = {NOISE: IMAGES}  # of noise levels, by what the UNet predicts; of all others ZERO_SNR

Drawings = Callable[[Sequence[int]], Tensor]  # numbers of frames → (B, 3, H, W) float 0..1


class HeadControl:
    """Keypoint control by drawn key points; `WindowedDenoiser` sets the frame numbers.

    Drawings and the guider's features are recomputed for every window: 5 MB a frame would not do for long
    videos, and the guider costs almost nothing next to the UNet.

    Args:
        networks: with the guider for the drawings.
        drawings: of the video's frames.
    """

    def __init__(self, networks: VExpress, drawings: Drawings) -> None:
        self.guider, self.drawings = networks.guider, drawings
        self.frames: Sequence[int] = range(0)

    def __call__(self) -> Tensor:
        """(B, C, h, w) keypoint features of the current frames."""
        like = self.guider.conv_in.weight
        return self.guider(self.drawings(self.frames).to(like))

    def clear_cache(self) -> None:
        """No cache to drop."""


class VelocityDenoiser(Denoiser):
    """V-Express: denoiser(x, sigma, cond) → denoised.

    The condition's positive is (F, 5, C), the audio tokens of every frame of the video; its negative is not used,
    since V-Express's is silence without a head: zeros for audio, key points and reference.

    Args:
        networks: with a bank in the UNet (`reference.read_bank`) and its motion modules bound.
        control: the head in every frame; its frames are those of the window.
        batch: as for Denoiser.
    """

    def __init__(self, networks: VExpress, control: HeadControl, batch: Batch | None = None) -> None:
        super().__init__(networks.unet, batch, None, schedule_of_prediction(networks.prediction))
        self.control, self.reading = control, networks.reading

    @torch.no_grad()
    def __call__(self, x: Tensor, sigma: float, cond: Condition) -> Tensor:
        """Denoised latents (B, 4, h, w) of noisy latents."""
        guided = cond.cfg != 1
        labels = (NEGATIVE, POSITIVE) if guided else (POSITIVE,)
        weights = next(self.unet.parameters())
        audio = cond.positive[self.control.frames[0] : self.control.frames[-1] + 1].to(weights)
        kps = self.control()
        rows = (x / math.sqrt(1 + sigma**2)).to(weights)
        if guided:
            rows, kps, audio = torch.cat([rows, rows]), _after_zeros(kps), _after_zeros(audio)
        self.batch.labels, self.batch.sigma = labels, sigma
        self.reading.labels, self.reading.kps = labels, kps
        timestep = torch.tensor(self.timestep(sigma), dtype=torch.float32, device=weights.device)
        try:
            velocity = self.unet(rows, timestep, audio, return_dict=False)[0].to(x)
        finally:
            self.reading.kps = None
        if guided:
            negative, positive = velocity.chunk(2)
            velocity = negative + cond.cfg * (positive - negative)
        return self.clean(x, velocity, sigma)

    def clean(self, x: Tensor, predicted: Tensor, sigma: float) -> Tensor:
        """Clean latents of noisy ones and what was predicted."""
        return clean_of(x, predicted, sigma)


class NoiseDenoiser(VelocityDenoiser):
    """The same networks with noise prediction, as SVP trains them (equation 1)."""

    def clean(self, x: Tensor, predicted: Tensor, sigma: float) -> Tensor:
        """Clean latents of noisy ones and the noise in them."""
        return x - sigma * predicted


def schedule_of_prediction(prediction: str) -> str:
    """Name of the noise levels that a UNet of this prediction was trained on."""
    return SCHEDULE_OF.get(prediction, ZERO_SNR)


def denoiser_of(networks: VExpress, control: HeadControl, batch: Batch | None = None) -> VelocityDenoiser:
    """The denoiser of networks, by what they predict."""
    return (NoiseDenoiser if networks.prediction == NOISE else VelocityDenoiser)(networks, control, batch)


def clean_of(x: Tensor, velocity: Tensor, sigma: float) -> Tensor:
    """Clean latents of x = clean + sigma · noise and the velocity (noise − sigma · clean) / sqrt(1 + sigma²)."""
    return x / (1 + sigma**2) - velocity * (sigma / math.sqrt(1 + sigma**2))


def _after_zeros(x: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(x), x])
