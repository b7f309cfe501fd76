import math

import pytest
import torch
from diffusers import DDPMScheduler

from portraittalk_core.diffusion.schedule import (
    IMAGES,
    MOTION,
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
    assert (schedule_of(False), schedule_of(True)) == (IMAGES, MOTION)


@pytest.mark.parametrize("name", LARGEST)
def test_timestep_is_the_inverse_of_the_levels(name):
    levels = schedule_sigmas(name)
    for timestep in (0, 1, 500, 998, 999):
        assert math.isclose(timestep_at(float(levels[timestep]), name), timestep, abs_tol=1e-9)
    assert math.isclose(timestep_at(float(levels[7:9].mean()), name), 7.5)
    assert timestep_at(1e9, name) == 999 and timestep_at(0.0, name) == 0


def test_unknown_schedules_are_refused():
    for call in (schedule_sigmas, scheduler_options, lambda name: timestep_at(1.0, name)):
        with pytest.raises(InputError, match="beta schedule must be one of scaled_linear, linear, not 'sqrt_linear'"):
            call("sqrt_linear")
