import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler

from portraittalk_core.diffusion.motion_modules import MotionModules
from portraittalk_core.diffusion.schedule import (
    IMAGES,
    MOTION,
    ZERO_SNR,
    schedule_betas,
    schedule_of,
    schedule_sigmas,
    scheduler_options,
    timestep_at,
)
from portraittalk_core.errors import InputError

LARGEST = {IMAGES: 14.615, MOTION: 25.146}


@pytest.mark.parametrize("name", LARGEST)
def test_levels_match_diffusers(name):
    theirs = DDPMScheduler(**scheduler_options(name))
    kept = theirs.alphas_cumprod.double()
    torch.testing.assert_close(schedule_betas(name), theirs.betas.double(), rtol=1e-5, atol=0)
    torch.testing.assert_close(schedule_sigmas(name), ((1 - kept) / kept).sqrt(), rtol=1e-4, atol=0)
    assert round(float(schedule_sigmas(name)[-1]), 3) == LARGEST[name]


def test_schedule_goes_by_whether_there_is_motion():
    tiny = (32, 64, 128, 128)
    made = [schedule_of(one) for one in (None, MotionModules(tiny), MotionModules(tiny, betas="scaled_linear"))]
    assert made == [IMAGES, MOTION, IMAGES]


@pytest.mark.parametrize("name", LARGEST)
def test_timestep_is_the_inverse_of_the_levels(name):
    levels = schedule_sigmas(name)
    for timestep in (0, 1, 500, 998, 999):
        assert math.isclose(timestep_at(float(levels[timestep]), name), timestep, abs_tol=1e-9)
    assert math.isclose(timestep_at(float(levels[7:9].mean()), name), 7.5)
    assert timestep_at(1e9, name) == 999 and timestep_at(0.0, name) == 0


def test_unknown_schedules_are_refused():
    for call in (schedule_sigmas, scheduler_options, lambda name: timestep_at(1.0, name)):
        with pytest.raises(
            InputError, match="beta schedule must be one of scaled_linear, linear, zero_snr, not 'sqrt_linear'"
        ):
            call("sqrt_linear")


def test_zero_snr_matches_diffusers():
    v_express = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    theirs = DDIMScheduler(**v_express, rescale_betas_zero_snr=True)
    kept = torch.cumprod(1 - schedule_betas(ZERO_SNR), 0)
    torch.testing.assert_close(kept[:-1], theirs.alphas_cumprod.double()[:-1], rtol=1e-3, atol=1e-7)
    assert theirs.alphas_cumprod[-1] == 0 and kept[-1] == pytest.approx(2**-24, rel=1e-6)
    euler = EulerDiscreteScheduler(**v_express, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    euler.set_timesteps(25)
    ours = schedule_sigmas(ZERO_SNR)[euler.timesteps.long()]
    torch.testing.assert_close(ours.float(), euler.sigmas[:-1], rtol=1e-3, atol=1e-4)
    assert timestep_at(float(ours[3]), ZERO_SNR) == pytest.approx(float(euler.timesteps[3]), abs=1e-6)
    assert DDPMScheduler(**scheduler_options(ZERO_SNR)).alphas_cumprod[-1] == pytest.approx(2**-24, rel=0.1)
