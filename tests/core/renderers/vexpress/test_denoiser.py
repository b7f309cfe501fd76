import pytest
import torch
from diffusers import DDIMScheduler
from tiny_vexpress import CONTEXT, tiny_vexpress

from portraittalk_core.diffusion.denoiser import Condition
from portraittalk_core.diffusion.motion_modules import bind_motion
from portraittalk_core.diffusion.samplers import SamplerOptions, sample
from portraittalk_core.diffusion.schedule import ZERO_SNR, schedule_sigmas
from portraittalk_core.diffusion.windowed import VideoOptions, WindowedDenoiser
from portraittalk_core.renderers.vexpress.denoiser import HeadControl, VelocityDenoiser, clean_of
from portraittalk_core.renderers.vexpress.reference import read_bank, write_bank

V_EXPRESS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
V_EXPRESS |= {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
FRAMES, LENGTH, OVERLAP, STEPS = 7, 4, 1, 4  # two windows that end with the video; 4 divides 1000, as DDIM counts


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def networks():
    made = tiny_vexpress()
    read_bank(made.unet, write_bank(made.reference, noise(1, 4, 8, 8, seed=1)))
    made.reading.reference_weight, made.reading.audio_weight = 0.95, 3.0
    made.unet.conv_out.weight.mul_(0.1)  # random weights make much of a small difference; these make less
    return made


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(FRAMES, 3, 64, 64, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def audio():
    return noise(FRAMES, 5, CONTEXT, seed=2)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 40.0, 4096.0])
def test_clean_is_found_from_the_velocity(sigma):
    clean, added = noise(2, 4, 3, 3).double(), noise(2, 4, 3, 3, seed=1).double()
    scale = (1 + sigma**2) ** 0.5
    velocity = added / scale - clean * sigma / scale
    torch.testing.assert_close(clean_of(clean + sigma * added, velocity, sigma), clean)


def by_ddim(networks, start, audio, kps, guidance):
    """V-Express's own loop: DDIM, overlapping windows, the mean of what they predict."""
    scheduler = DDIMScheduler(**V_EXPRESS)
    scheduler.set_timesteps(STEPS)
    windows = [slice(i, i + LENGTH) for i in range(0, FRAMES - OVERLAP, LENGTH - OVERLAP)]
    latents = start.clone()
    for timestep in scheduler.timesteps:
        total, count = torch.zeros_like(latents), torch.zeros(FRAMES, 1, 1, 1)
        for window in windows:
            rows = torch.cat([latents[window]] * 2)
            networks.reading.labels = (1, 0)
            networks.reading.kps = torch.cat([torch.zeros_like(kps[window]), kps[window]])
            heard = torch.cat([torch.zeros_like(audio[window]), audio[window]])
            with bind_motion(networks.unet, networks.motion, LENGTH):
                without, wanted = networks.unet(rows, timestep, heard, return_dict=False)[0].chunk(2)
            total[window] += without + guidance * (wanted - without)
            count[window] += 1
        latents = scheduler.step(total / count, timestep, latents).prev_sample
    networks.reading.kps = None
    return latents


def by_us(networks, start, audio, pictures, guidance):
    control = HeadControl(networks, lambda frames: pictures[frames[0] : frames[-1] + 1])
    denoiser = WindowedDenoiser(
        VelocityDenoiser(networks, control), 0, VideoOptions("sliding", LENGTH, OVERLAP, "flat")
    )
    options = SamplerOptions("ddim", "simple", STEPS, betas=ZERO_SNR)
    with bind_motion(networks.unet, networks.motion, LENGTH):
        return sample(denoiser, torch.zeros_like(start), start, Condition(audio, None, guidance), options)


@pytest.mark.slow
def test_sampling_matches_ddim_with_zero_terminal_snr(networks, pictures, audio):
    """The last noise level is 4096, not infinite: that is all that differs."""
    start = noise(FRAMES, 4, 8, 8, seed=5)
    with torch.no_grad():
        expected = by_ddim(networks, start, audio, networks.guider(pictures), 3.5)
    actual = by_us(networks, start, audio, pictures, 3.5)
    assert (actual - expected).abs().max() < 1e-2 * expected.abs().max()
    other = by_us(networks, start, audio, pictures, 2.0)
    assert (other - expected).abs().max() > 0.05 * expected.abs().max()


def test_without_guidance_only_the_wanted_is_asked_for(networks, pictures, audio):
    control = HeadControl(networks, lambda frames: pictures[frames[0] : frames[-1] + 1])
    control.frames = range(2, 2 + LENGTH)
    asked = []
    hook = networks.unet.conv_in.register_forward_hook(lambda _m, inputs, _o: asked.append(len(inputs[0])))
    denoiser = VelocityDenoiser(networks, control)
    x, sigma = 3 * noise(LENGTH, 4, 8, 8, seed=5), float(schedule_sigmas(ZERO_SNR)[600])
    plain = denoiser(x, sigma, Condition(audio))
    assert denoiser.timestep(sigma) == pytest.approx(600, abs=1e-6)
    near = denoiser(x, sigma, Condition(audio, None, 1.0 + 1e-4))
    hook.remove()
    assert asked == [LENGTH, 2 * LENGTH] and denoiser.batch.labels == (1, 0)
    torch.testing.assert_close(plain, near, rtol=1e-2, atol=1e-2)
    control.frames = range(3, 3 + LENGTH)  # the next frame's audio and head
    assert (denoiser(x, sigma, Condition(audio)) - plain).abs().max() > 0.01
