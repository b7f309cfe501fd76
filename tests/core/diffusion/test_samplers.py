"""Samplers: the same latents as diffusers' own loops, and the right ones where the answer is known exactly."""

import math

import numpy as np
import pytest
import torch

from portraittalk_core.diffusion.denoiser import Condition, Denoiser
from portraittalk_core.diffusion.samplers import (
    OWN_SCHEDULE,
    SAMPLERS,
    SCHEDULES,
    SamplerOptions,
    make_scheduler,
    run,
    sample,
    sigma_at_part,
)
from portraittalk_core.errors import InputError, MissingDependency

diffusers = pytest.importorskip("diffusers")

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
STOCHASTIC = {"euler_ancestral", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "lcm"}
COMBINATIONS = [(s, schedule) for s in SAMPLERS for schedule in OWN_SCHEDULE.get(s, SCHEDULES)]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- against diffusers' own loops, with a random network ----


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    made = diffusers.UNet2DConditionModel(
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
    )
    return made.eval().requires_grad_(False)


TEXT = Condition(normal(1, 77, 16, seed=5))
LATENTS, NOISE = normal(2, 4, 8, 8, seed=1), normal(2, 4, 8, 8, seed=2)


def their_loop(unet, scheduler, first=0, noise_level=None, seed=3):
    """As diffusers' pipelines do it: scale the input, ask the network at the scheduler's timestep, step."""
    timesteps = scheduler.timesteps[first:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    begun = scheduler.add_noise(LATENTS, NOISE, timesteps[:1])  # as their image-to-image pipelines do
    state = begun if noise_level is None else LATENTS + noise_level * NOISE
    generator = torch.Generator().manual_seed(seed)
    takes = "generator" in scheduler.step.__code__.co_varnames
    for t in timesteps:
        predicted = unet(scheduler.scale_model_input(state, t), t, TEXT.positive.expand(2, -1, -1)).sample
        state = scheduler.step(predicted, t, state, **({"generator": generator} if takes else {})).prev_sample
    return state


# our name, schedule, theirs with its own options, number of steps for which both set the same whole timesteps
OWN_LOOPS = [
    ("euler", "normal", "EulerDiscreteScheduler", {}, 8),
    ("euler", "simple", "EulerDiscreteScheduler", {"timestep_spacing": "trailing"}, 8),
    ("euler", "ddim_uniform", "EulerDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}, 8),
    ("euler_ancestral", "normal", "EulerAncestralDiscreteScheduler", {}, 8),
    ("euler_ancestral", "simple", "EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}, 8),
    ("heun", "normal", "HeunDiscreteScheduler", {}, 8),
    ("heun", "simple", "HeunDiscreteScheduler", {"timestep_spacing": "trailing"}, 8),
    ("lms", "normal", "LMSDiscreteScheduler", {}, 8),
    ("dpmpp_2m", "normal", "DPMSolverMultistepScheduler", {}, 9),
    ("dpmpp_2m", "simple", "DPMSolverMultistepScheduler", {"timestep_spacing": "trailing"}, 8),
    ("dpmpp_2m_sde", "normal", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, 9),
    ("uni_pc_bh2", "normal", "UniPCMultistepScheduler", {"solver_type": "bh2"}, 9),
    ("uni_pc_bh2", "simple", "UniPCMultistepScheduler", {"solver_type": "bh2", "timestep_spacing": "trailing"}, 8),
    ("ddim", "simple", "DDIMScheduler", {"timestep_spacing": "trailing", "clip_sample": False}, 8),
    ("lcm", "normal", "LCMScheduler", {}, 4),
]
OWN_LOOPS_IDS = [f"{s}-{schedule}" for s, schedule, *_ in OWN_LOOPS]


@pytest.mark.parametrize(("sampler", "schedule", "theirs", "options", "steps"), OWN_LOOPS, ids=OWN_LOOPS_IDS)
def test_sample_matches_diffusers_own_loop(unet, sampler, schedule, theirs, options, steps):
    scheduler = getattr(diffusers, theirs)(**BETAS, **options)
    scheduler.set_timesteps(steps)
    ours = sample(Denoiser(unet), LATENTS, NOISE, TEXT, SamplerOptions(sampler, schedule, steps, seed=3))
    expected = their_loop(unet, scheduler)
    assert torch.allclose(ours, expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "heun", "dpmpp_2m", "uni_pc_bh2", "lcm"])
def test_part_of_a_schedule_matches_diffusers_own_loop(unet, sampler):
    """Three steps, the last of nine, from latents as noisy as the seventh."""
    name, options = next((name, options) for s, _, name, options, _ in OWN_LOOPS if s == sampler)
    scheduler = getattr(diffusers, name)(**BETAS, **options)
    scheduler.set_timesteps(9)
    ours = sample(Denoiser(unet), LATENTS, NOISE, TEXT, SamplerOptions(sampler, "normal", 3, denoise=1 / 3, seed=3))
    expected = their_loop(unet, scheduler, first=6 * scheduler.order)
    assert torch.allclose(ours, expected, atol=1e-5 * float(expected.abs().max()))


class Told:
    """A denoiser whose network is asked at the scheduler's own timestep, rounded or not."""

    def __init__(self, unet, scheduler):
        self.unet, self.scheduler = unet, scheduler
        self.levels = scheduler.sigmas[: len(scheduler.timesteps)]

    def __call__(self, x, sigma, cond):
        t = self.scheduler.timesteps[int((self.levels - sigma).abs().argmin())]
        return x - sigma * self.unet(x / math.sqrt(1 + sigma**2), t, cond.positive.expand(len(x), -1, -1)).sample


@pytest.mark.parametrize("schedule", ["karras", "exponential"])
@pytest.mark.parametrize(
    "theirs",
    ["EulerDiscreteScheduler", "LMSDiscreteScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"],
)
def test_levels_between_timesteps_match_diffusers_own_loop(unet, theirs, schedule):
    """Both run a scheduler that diffusers set up alone."""
    made = []
    for _ in range(2):
        made.append(getattr(diffusers, theirs)(**BETAS, **{f"use_{schedule}_sigmas": True}))
        made[-1].set_timesteps(7)
    level = float(made[0].sigmas[0])
    scaled = math.sqrt(1 + level**2) if float(made[0].init_noise_sigma) == 1 else 1
    expected = their_loop(unet, made[0], noise_level=level) if scaled == 1 else their_loop(unet, made[0])
    ours = run(made[1], Told(unet, made[1]), (LATENTS, NOISE, TEXT), 7, seed=3)
    assert torch.allclose(ours, expected, atol=1e-4 * float(expected.abs().max()))


def test_a_scheduler_without_levels_of_its_own_is_driven(unet):
    made = [diffusers.DDIMScheduler(**BETAS, clip_sample=False, timestep_spacing="trailing") for _ in range(2)]
    for scheduler in made:
        scheduler.set_timesteps(8)
    ours = run(made[0], Denoiser(unet), (LATENTS, NOISE, TEXT), 5)
    assert torch.allclose(ours, their_loop(unet, made[1], first=3), atol=1e-5 * float(ours.abs().max()))


# ---- noise levels ----


@pytest.mark.parametrize(("sampler", "schedule", "theirs", "options", "steps"), OWN_LOOPS, ids=OWN_LOOPS_IDS)
def test_levels_are_the_schedulers_own(sampler, schedule, theirs, options, steps):
    scheduler = getattr(diffusers, theirs)(**BETAS, **options)
    scheduler.set_timesteps(steps)
    asked = []

    def denoiser(x, sigma, cond):
        asked.append(sigma)
        return torch.zeros_like(x)

    sample(denoiser, LATENTS, NOISE, None, SamplerOptions(sampler, schedule, steps))
    kept = scheduler.alphas_cumprod.double()
    at = scheduler.timesteps.double()
    training = ((1 - kept) / kept).sqrt()
    low = at.floor().long()
    expected = training[low] + (at - low) * (training[(low + 1).clamp(max=999)] - training[low])
    assert torch.tensor(asked).double().sub(expected).abs().max() < 1e-5 * 14.6


def test_karras_levels_follow_the_formula():
    """Karras et al. 2022, eq. 5, rho 7, between SD1.5's first and last level."""
    first, last = 14.6146, 0.0292
    expected = [(first ** (1 / 7) + i / 9 * (last ** (1 / 7) - first ** (1 / 7))) ** 7 for i in range(10)]
    for sampler in ("euler", "dpmpp_2m", "lms"):
        levels = make_scheduler(sampler, "karras", 10).sigmas
        assert torch.allclose(levels, torch.tensor([*expected, 0.0]), rtol=2e-3)


def even_levels(steps, at_parts=None):
    """Levels at even timesteps, their logarithm interpolated by numpy."""
    levels = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    logs = 0.5 * np.log((1 - levels) / levels)
    parts = np.arange(steps) / steps if at_parts is None else np.asarray(at_parts)
    return np.exp(np.interp(999 * (1 - parts), np.arange(1000), logs))


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "lcm"])
def test_sgm_uniform_begins_with_all_noise_and_ends_in_one_step(sampler):
    asked = []

    def denoiser(x, sigma, cond):
        asked.append(sigma)
        return torch.full_like(x, 0.3)

    drawn = sample(denoiser, LATENTS, NOISE, None, SamplerOptions(sampler, "sgm_uniform", 4))
    # lcm takes whole timesteps: 749 for 749.25
    assert asked == pytest.approx(even_levels(4), rel=5e-3 if sampler == "lcm" else 1e-5)
    assert torch.allclose(drawn, torch.full_like(drawn, 0.3), atol=1e-3)


def test_lcm_draws_what_the_network_sees_and_adds_noise_anew():
    """ComfyUI's lcm: x = denoised + next level · fresh noise; the boundary condition of LCM is 1 to five digits."""
    levels, seen = even_levels(4), []

    def denoiser(x, sigma, cond):
        seen.append((x - 0.3) / sigma)
        return torch.full_like(x, 0.3)

    sample(denoiser, LATENTS, NOISE, None, SamplerOptions("lcm", "sgm_uniform", 4, seed=1))
    assert torch.allclose(seen[0], (LATENTS - 0.3) / levels[0] + NOISE, atol=1e-3)
    for fresh in seen[1:]:
        assert float(fresh.std()) == pytest.approx(1, abs=0.15) and not torch.allclose(fresh, NOISE, atol=0.1)


def test_parts_of_the_schedule_are_levels_as_comfyui_counts():
    parts = [0.1, 0.25, 0.5, 0.9]
    assert [sigma_at_part(part) for part in parts] == pytest.approx(even_levels(0, parts), rel=1e-5)
    assert sigma_at_part(0) == math.inf and sigma_at_part(1) == 0
    with pytest.raises(InputError, match="part of the schedule"):
        sigma_at_part(1.1)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_single_step_starts_from_all_noise(sampler):
    asked = []

    def denoiser(x, sigma, cond):
        asked.append(sigma)
        return torch.full_like(x, 0.3)

    drawn = sample(denoiser, LATENTS, NOISE, None, SamplerOptions(sampler, "normal", 1))
    assert asked == [pytest.approx(14.6146, rel=1e-4)]
    assert torch.allclose(drawn, torch.full_like(drawn, 0.3), atol=1e-3)


# ---- against the exact answer: clean latents are normal with mean MEAN and deviation SPREAD ----

MEAN, SPREAD = 0.7, 0.5


def ideal(x, sigma, cond):
    """E[clean | x], in closed form."""
    return (SPREAD**2 * x + sigma**2 * MEAN) / (SPREAD**2 + sigma**2)


def exact_flow(x, sigma):
    """Where the noise-free flow from x at `sigma` ends: dx/dsigma = (x - ideal) / sigma is solved by this."""
    return MEAN + (x - MEAN) * SPREAD / math.sqrt(SPREAD**2 + sigma**2)


# largest error after 50 steps, and how much it falls from 25 to 50 steps: by 2 at least for a first order
FLOW = [(s, "karras", 0.14 if s in ("euler", "ddim") else 0.03) for s in SAMPLERS if s not in STOCHASTIC]
FLOW += [("heun", "normal", 0.03), ("lms", "normal", 0.03), ("dpmpp_2m", "exponential", 0.03)]


@pytest.mark.parametrize(("sampler", "schedule", "tolerance"), FLOW, ids=[f"{s}-{c}" for s, c, _ in FLOW])
def test_noise_free_samplers_converge_to_the_exact_flow(sampler, schedule, tolerance):
    noise, clean = normal(1, 4, 32, 32), torch.zeros(1, 4, 32, 32)
    errors = []
    for steps in (25, 50):
        drawn = sample(ideal, clean, noise, None, SamplerOptions(sampler, schedule, steps))
        errors.append(float((drawn - exact_flow(14.6146 * noise, 14.6146)).abs().max()))
    assert errors[1] < tolerance
    assert errors[1] < 0.6 * errors[0] + 0.003


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_2m_sde", "dpmpp_2m_sde_heun"])
def test_noisy_samplers_converge_to_the_distribution(sampler):
    noise, clean = normal(4, 4, 64, 64), torch.zeros(4, 4, 64, 64)
    errors = []
    for steps in (20, 80):
        drawn = sample(ideal, clean, noise, None, SamplerOptions(sampler, "karras", steps, seed=1))
        errors.append(abs(float(drawn.std()) - SPREAD))
        assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.01)
    assert errors[1] < 0.025
    assert errors[1] < 0.5 * errors[0] + 0.003


def test_lcm_has_the_spread_its_recursion_says():
    """Every step denoises and adds noise again: v ← (s²/(s²+σ²))² (v + ...), from all noise down."""
    kept = diffusers.LCMScheduler(**BETAS).alphas_cumprod.double()
    levels = [float(((1 - kept[t]) / kept[t]).sqrt()) for t in (999, 759, 499, 259)]
    variance = 0.0
    for level in levels:
        variance = (SPREAD**2 / (SPREAD**2 + level**2)) ** 2 * (variance + level**2)
    drawn = sample(ideal, torch.zeros(4, 4, 64, 64), normal(4, 4, 64, 64), None, SamplerOptions("lcm", "normal", 4))
    assert float(drawn.std()) == pytest.approx(math.sqrt(variance), rel=0.01)


@pytest.mark.parametrize(("sampler", "schedule"), COMBINATIONS, ids=[f"{s}-{c}" for s, c in COMBINATIONS])
def test_every_combination_draws_something_near(sampler, schedule):
    drawn = sample(ideal, torch.zeros(1, 4, 32, 32), normal(1, 4, 32, 32), None, SamplerOptions(sampler, schedule, 20))
    assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.07)
    assert float(drawn.std()) == pytest.approx(SPREAD, abs=0.2)


# ---- image to image, seeds, progress, borders ----


def test_denoise_counts_steps_as_comfyui_does():
    assert SamplerOptions(steps=20, denoise=0.3).all_steps == 66
    assert SamplerOptions(steps=10, denoise=0.5).all_steps == 20
    assert SamplerOptions(steps=10).all_steps == 10


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_denoise_starts_from_latents_with_that_much_noise(sampler):
    seen = []

    def denoiser(x, sigma, cond):
        seen.append((x, sigma))
        return LATENTS

    drawn = sample(denoiser, LATENTS, NOISE, None, SamplerOptions(sampler, "normal", 5, denoise=0.25))
    x, sigma = seen[0]
    assert 0.1 < sigma < 1.5
    assert torch.allclose(x, LATENTS + sigma * NOISE, atol=1e-5)
    assert torch.allclose(drawn, LATENTS, atol=2e-3)  # a denoiser that knows the answer leads there


def test_denoise_zero_keeps_the_latents():
    def denoiser(x, sigma, cond):
        raise AssertionError("nothing is to be denoised")

    assert torch.equal(sample(denoiser, LATENTS, NOISE, None, SamplerOptions(denoise=0)), LATENTS)


@pytest.mark.parametrize("sampler", sorted(STOCHASTIC))
def test_noisy_samplers_follow_the_seed(sampler):
    def drawn(seed):
        return sample(ideal, LATENTS, NOISE, None, SamplerOptions(sampler, "normal", 4, seed=seed))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("denoise", [1.0, 0.5])
def test_on_step_is_called_once_a_step(sampler, denoise):
    calls = []
    options = SamplerOptions(sampler, "normal", 5, denoise=denoise)
    sample(ideal, LATENTS, NOISE, None, options, lambda *call: calls.append(call))
    assert calls == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_on_step_can_stop():
    asked = []

    def denoiser(x, sigma, cond):
        asked.append(sigma)
        return x

    def stop(step, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(denoiser, LATENTS, NOISE, None, SamplerOptions(), stop)
    assert len(asked) == 1


def test_half_precision_comes_back_as_it_went_in():
    drawn = sample(ideal, LATENTS.half(), NOISE.half(), None, SamplerOptions("dpmpp_2m", "karras", 4))
    assert drawn.dtype == torch.float16


def test_condition_reaches_the_denoiser():
    seen = set()

    def denoiser(x, sigma, cond):
        seen.add(id(cond))
        return x

    sample(denoiser, LATENTS, NOISE, TEXT, SamplerOptions(steps=2))
    assert seen == {id(TEXT)}


BAD = [
    ({"sampler": "eulr"}, "sampler 'eulr'.*euler_ancestral"),
    ({"schedule": "karas"}, "schedule 'karas'.*karras"),
    ({"sampler": "lcm", "schedule": "karras"}, "schedule 'karras'.*normal, simple"),
    ({"steps": 0}, "steps is 0"),
    ({"steps": 1001}, "1001 steps"),
    ({"steps": 20, "denoise": 0.01}, "2000 steps"),
    ({"denoise": 1.5}, "denoise is 1.5"),
    ({"denoise": -0.1}, "denoise is -0.1"),
    ({"denoise": math.nan}, "denoise is nan"),
]


@pytest.mark.parametrize(("options", "told"), BAD, ids=[str(o) for o, _ in BAD])
def test_sample_rejects_options_out_of_range(options, told):
    with pytest.raises(InputError, match=told):
        sample(ideal, LATENTS, NOISE, None, SamplerOptions(**options))


def test_sample_rejects_noise_of_another_shape():
    with pytest.raises(InputError, match=r"\(1, 4, 8, 8\).*\(2, 4, 8, 8\)"):
        sample(ideal, LATENTS, NOISE[:1], None)


def test_an_old_diffusers_is_told_of(monkeypatch):
    monkeypatch.setattr(diffusers, "UniPCMultistepScheduler", None)
    with pytest.raises(MissingDependency, match="no UniPCMultistepScheduler.*--upgrade diffusers"):
        make_scheduler("uni_pc", "normal", 4)
