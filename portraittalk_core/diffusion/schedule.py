"""Noise schedules: betas and sigmas of SD1.5's training and of the motion modules'.

A schedule's name is diffusers'; ComfyUI calls the same betas otherwise.
Source: `docs/design/animatenet.md` 3; DDPM (Ho et al. 2020), equation 4.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checks import check_choice

if TYPE_CHECKING:
    from .motion_modules import MotionModules

NUM_TIMESTEPS, BETA_FIRST, BETA_LAST = 1000, 0.00085, 0.012  # of SD1.x and of the motion modules
IMAGES, MOTION = "scaled_linear", "linear"  # SD1.5's own, the motion modules'
ZERO_SNR = "zero_snr"  # SD1.5's own, moved so that its last timestep is all noise: V-Express's
SCHEDULES = (IMAGES, MOTION, ZERO_SNR)
MIN_SIGNAL = 2.0**-24  # of the signal at "all noise", so that its noise level is a number (4096): as in diffusers
COMFY_NAMES = {IMAGES: "linear", MOTION: "sqrt_linear"}  # as ComfyUI's model_sampling takes them


def schedule_of(motion: MotionModules | None) -> str:
    """Name of the noise schedule to sample with: that of the motion modules' training, if any are active."""
    return IMAGES if motion is None else motion.betas


def schedule_betas(name: str = IMAGES) -> Tensor:
    """(1000,) float64 betas of the training timesteps.

    Args:
        name: `scaled_linear` (linear in their square roots), `linear`, or `zero_snr`.

    Raises:
        InputError: another name.
    """
    check_choice(name, SCHEDULES, "beta schedule")
    if name == ZERO_SNR:
        return _without_signal(schedule_betas(IMAGES))
    power = 2 if name == IMAGES else 1
    ends = (BETA_FIRST ** (1 / power), BETA_LAST ** (1 / power))
    return torch.linspace(*ends, NUM_TIMESTEPS, dtype=torch.float64) ** power


def _without_signal(betas: Tensor) -> Tensor:
    """Betas rescaled to a terminal signal-to-noise ratio of almost zero; the first beta is unchanged.

    Source: Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1.
    """
    share = torch.cumprod(1 - betas, 0).sqrt()
    moved = ((share - share[-1]) * share[0] / (share[0] - share[-1])) ** 2
    moved[-1] = MIN_SIGNAL
    return 1 - moved / torch.cat([torch.ones(1, dtype=moved.dtype), moved[:-1]])


def schedule_sigmas(name: str = IMAGES) -> Tensor:
    """(1000,) float64 noise level of each timestep, rising; x = clean + sigma · noise.

    Raises:
        InputError: not a schedule's name.
    """
    alphas = torch.cumprod(1 - schedule_betas(name), 0)
    return ((1 - alphas) / alphas).sqrt()


@lru_cache(maxsize=len(SCHEDULES))
def _levels(name: str) -> tuple[float, ...]:
    return tuple(schedule_sigmas(name).tolist())


def timestep_at(sigma: float, name: str = IMAGES) -> float:
    """The fractional timestep, 0 to 999, whose noise level is `sigma`.

    Raises:
        InputError: not a schedule's name.
    """
    levels = _levels(name)
    at = bisect_left(levels, sigma)
    if at in (0, NUM_TIMESTEPS):
        return float(min(at, NUM_TIMESTEPS - 1))
    low, high = levels[at - 1], levels[at]
    return at - 1 + (sigma - low) / (high - low)


def scheduler_options(name: str = IMAGES) -> dict[str, object]:
    """Constructor arguments of a diffusers scheduler for a noise schedule.

    Raises:
        InputError: not a schedule's name.
    """
    check_choice(name, SCHEDULES, "beta schedule")
    if name == ZERO_SNR:
        return {"num_train_timesteps": NUM_TIMESTEPS, "trained_betas": schedule_betas(name).tolist()}
    return {
        "num_train_timesteps": NUM_TIMESTEPS,
        "beta_start": BETA_FIRST,
        "beta_end": BETA_LAST,
        "beta_schedule": name,
    }
