"""Sampling of latents with any denoiser by diffusers' schedulers, under ComfyUI's sampler and schedule names.

Two kinds of scheduler are driven. Those of Karras et al. 2022 work on x = clean + sigma · noise itself; those in the
variance-preserving form of DDPM work on x / sqrt(1 + sigma²). Denoisers only ever see x.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checks import check_range, check_shape
from ..errors import InputError, MissingDependency
from ..progress import Progress
from .denoiser import Condition
from .schedule import IMAGES, NUM_TIMESTEPS, schedule_sigmas, scheduler_options

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

Denoise = Callable[[Tensor, float, Condition], Tensor]

# ComfyUI's name → diffusers' class and what makes it that sampler
SAMPLERS: dict[str, tuple[str, dict]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_type": "midpoint"}),
    "dpmpp_2m_sde_heun": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"}),
    "ddim": ("EulerDiscreteScheduler", {}),  # DDIM without noise is Euler's method in sigma (Song et al. 2021, eq. 14)
    "uni_pc": ("UniPCMultistepScheduler", {"solver_type": "bh1"}),
    "uni_pc_bh2": ("UniPCMultistepScheduler", {"solver_type": "bh2"}),
    "lcm": ("LCMScheduler", {}),
}
# ComfyUI's name → options of diffusers' Euler, whose noise levels every sampler takes
SCHEDULES: dict[str, dict] = {
    "normal": {"timestep_spacing": "linspace"},
    "simple": {"timestep_spacing": "trailing"},
    "ddim_uniform": {"timestep_spacing": "leading", "steps_offset": 1},
    "karras": {"timestep_spacing": "linspace", "use_karras_sigmas": True},
    "exponential": {"timestep_spacing": "linspace", "use_exponential_sigmas": True},
    "sgm_uniform": {},  # even steps of time from all noise, the last of them to none: what few-step LoRAs want
}
# these schedules end with a level that is almost clean; solvers that look back over a step that large go wrong, so
# diffusers' leave it out, and so do ours
FINE_ENDS = ("normal", "ddim_uniform")
LOOK_BACK = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
# steps are those of its training, or evenly spaced
OWN_SCHEDULE = {"lcm": ("normal", "simple", "sgm_uniform")}
LCM_TRAINING_STEPS = (50, 100, 125, 200, 250, 500, 1000)  # it draws its steps from so many; the fewest that suffice
ALMOST_CLEAN = 1e-5  # last noise level of a solver that divides by its logarithm
FULL_DENOISE = 0.9999  # from here on, denoise is 1


def samplers_with(schedule: str) -> tuple[str, ...]:
    """Names of the samplers that support a schedule."""
    return tuple(name for name in SAMPLERS if schedule in OWN_SCHEDULE.get(name, SCHEDULES))


@dataclass(frozen=True)
class SamplerOptions:
    """Sampler, schedule, number of steps, denoising strength and seed."""

    sampler: str = "euler"  # one of SAMPLERS
    schedule: str = "normal"  # one of SCHEDULES
    steps: int = 20  # that are run
    denoise: float = 1.0  # 0 keeps the latents, 1 starts from all noise
    seed: int = 0  # of the noise that some samplers add on their way
    betas: str = IMAGES  # `schedule.MOTION` where motion modules act

    @property
    def all_steps(self) -> int:
        """Number of steps of the full schedule, of which the last `steps` are run, as ComfyUI counts them."""
        return self.steps if self.denoise > FULL_DENOISE else int(self.steps / self.denoise)


def make_scheduler(sampler: str, schedule: str, steps: int, betas: str = IMAGES) -> SchedulerMixin:
    """A diffusers scheduler for SD1.5 with noise prediction, its timesteps set.

    Args:
        sampler: one of SAMPLERS.
        schedule: one of SCHEDULES.
        steps: from all noise to none.
        betas: of the training that the network has behind it, see `schedule`.

    Raises:
        InputError: unknown names, no or too many steps, or a schedule that the sampler does not have.
        MissingDependency: diffusers is not installed, or too old.
    """
    _check_choice("sampler", sampler, SAMPLERS)
    _check_choice("schedule", schedule, OWN_SCHEDULE.get(sampler, SCHEDULES))
    if not 1 <= steps <= NUM_TIMESTEPS:
        raise InputError(f"{steps} steps from noise to image cannot be run; choose 1 to {NUM_TIMESTEPS}.")
    name, options = SAMPLERS[sampler]
    if sampler == "lcm":
        scheduler = _build(name, options, betas)
        if schedule == "sgm_uniform":  # every timestep counts as one of its training: it takes whole ones only
            even = [round(at) for at in _even_timesteps(steps)]
            scheduler.set_timesteps(timesteps=even, original_inference_steps=NUM_TIMESTEPS)
        else:
            scheduler.set_timesteps(steps, original_inference_steps=next(n for n in LCM_TRAINING_STEPS if n >= steps))
        return scheduler
    sigmas, timesteps = _levels(schedule, steps, betas, skips=name in LOOK_BACK and schedule in FINE_ENDS)
    scheduler = _build(name, options, betas)
    scheduler.set_timesteps(steps)
    if scheduler.order == 2:  # every level but the first and the last is looked at twice
        sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
        timesteps = torch.cat([timesteps[:1], timesteps[1:].repeat_interleave(2)])
    if options.get("solver_type") == "bh1":
        sigmas[-1] = ALMOST_CLEAN
    scheduler.sigmas, scheduler.timesteps = sigmas, timesteps
    return scheduler


def _levels(schedule: str, steps: int, betas: str, skips: bool) -> tuple[Tensor, Tensor]:
    """Noise levels (steps + 1,), the last one 0, and their timesteps (steps,); `skips` leaves out the last but one."""
    if schedule == "sgm_uniform":
        timesteps = _even_timesteps(steps)
        levels = [_level_at(at, betas) for at in timesteps]
        return torch.tensor([*levels, 0.0]), torch.tensor(timesteps, dtype=torch.float32)
    if steps == 1:  # diffusers would begin a single step where the last of many stands
        schedule, skips = "simple", False
    euler = _build("EulerDiscreteScheduler", SCHEDULES[schedule], betas)
    euler.set_timesteps(steps + skips)
    sigmas, timesteps = euler.sigmas.clone(), euler.timesteps
    return (torch.cat([sigmas[:-2], sigmas[-1:]]), timesteps[:-1]) if skips else (sigmas, timesteps)


def _even_timesteps(steps: int) -> list[float]:
    last = NUM_TIMESTEPS - 1
    return [last * (steps - done) / steps for done in range(steps)]


def _level_at(timestep: float, betas: str) -> float:
    """Noise level of a fractional timestep by log-linear interpolation, as in ComfyUI."""
    logs = schedule_sigmas(betas).log()
    low = min(int(timestep), NUM_TIMESTEPS - 2)
    return float(torch.lerp(logs[low], logs[low + 1], timestep - low).exp())


def sigma_at_part(part: float, betas: str = IMAGES) -> float:
    """Noise level at a fraction of the schedule, as with ComfyUI's `start_percent` and `end_percent`.

    Args:
        part: 0 (before the first step: infinite) to 1 (after the last: 0), even in timesteps.
        betas: of the training that the network has behind it, see `schedule`.
    """
    check_range(part, 0, 1, "a part of the schedule")
    if part == 0:
        return math.inf
    return 0.0 if part == 1 else _level_at((NUM_TIMESTEPS - 1) * (1 - part), betas)


def sample(
    denoiser: Denoise,
    latents: Tensor,
    noise: Tensor,
    cond: Condition,
    options: SamplerOptions | None = None,
    on_step: Progress | None = None,
) -> Tensor:
    """Sample latents by denoising them from a noise level of the schedule.

    Args:
        denoiser: denoiser(x, sigma, cond) → clean latents, with x = clean + sigma · noise.
        latents: (B, 4, h, w) to start from; zeros to start from pure noise.
        noise: (B, 4, h, w) standard normal.
        cond: handed to the denoiser.
        options: the sampler and its steps.
        on_step: called with steps done and steps in all after each of `options.steps` steps; may raise to stop.

    Returns:
        (B, 4, h, w) of the given latents' type and device; the latents themselves if `denoise` is 0.

    Raises:
        InputError: options out of range, or noise of another shape than the latents.
        MissingDependency: diffusers is not installed, or too old.
    """
    options = options or SamplerOptions()
    check_shape(latents, "B C H W", "latents")
    if noise.shape != latents.shape:
        raise InputError(f"noise is {tuple(noise.shape)}, the latents are {tuple(latents.shape)}; give equal shapes.")
    if not 0 <= options.denoise <= 1:
        raise InputError(f"denoise is {options.denoise}; choose 0 (keep the latents) to 1 (all new).")
    if options.steps < 1:
        raise InputError(f"steps is {options.steps}; choose at least 1.")
    if options.denoise == 0:
        return latents
    scheduler = make_scheduler(options.sampler, options.schedule, options.all_steps, options.betas)
    sampled = run(scheduler, denoiser, (latents, noise, cond), options.steps, options.seed, on_step)
    return sampled.to(latents.dtype)


@torch.no_grad()
def run(
    scheduler: SchedulerMixin,
    denoiser: Denoise,
    inputs: tuple[Tensor, Tensor, Condition],
    steps: int,
    seed: int = 0,
    on_step: Progress | None = None,
) -> Tensor:
    """Run the last `steps` steps of a scheduler with noise prediction whose timesteps are set.

    Args:
        scheduler: any of diffusers' for SD1.5; it is used up.
        denoiser: as for `sample`.
        inputs: latents, noise and condition, as for `sample`.
        steps: at most as many as are set.
        seed: of the scheduler's own noise.
        on_step: as for `sample`.

    Returns:
        (B, 4, h, w) float32.
    """
    latents, noise, cond = inputs
    scaled = float(scheduler.init_noise_sigma) == 1  # the variance-preserving form
    first = _begin(scheduler, steps)
    sigmas = _sigmas(scheduler)
    noisy = latents.float() + sigmas[first] * noise.to(latents.device, torch.float32)
    state = noisy / _scale(sigmas[first], scaled)
    options: dict = {"return_dict": False}
    if "generator" in inspect.signature(scheduler.step).parameters:
        options["generator"] = torch.Generator().manual_seed(seed)  # on the CPU: equal on every device
    last, done = len(scheduler.timesteps) - 1, 0
    for i in range(first, last + 1):
        x = state * _scale(sigmas[i], scaled)
        scheduler.scale_model_input(state, scheduler.timesteps[i])  # some must be called before a step
        predicted = (x - denoiser(x, sigmas[i], cond).float()) / sigmas[i]
        state = scheduler.step(predicted, scheduler.timesteps[i], state, **options)[0]
        if (i - first + 1) % scheduler.order == 0 or i == last:
            done += 1
            if on_step:
                on_step(done, steps)
    return state


def _scale(sigma: float, scaled: bool) -> float:
    """Ratio of x to a scheduler's state at a noise level."""
    return (1 + sigma**2) ** 0.5 if scaled else 1.0


def _sigmas(scheduler: SchedulerMixin) -> list[float]:
    """Noise level of each of a scheduler's model evaluations."""
    if hasattr(scheduler, "sigmas"):
        return scheduler.sigmas.tolist()
    alphas = scheduler.alphas_cumprod[scheduler.timesteps.long().cpu()].double()
    return ((1 - alphas) / alphas).sqrt().tolist()


def _begin(scheduler: SchedulerMixin, steps: int) -> int:
    """Set a scheduler to its last `steps` steps and return the index of their first model evaluation."""
    in_all = -(-len(scheduler.timesteps) // scheduler.order)  # all steps but the last have `order` evaluations
    first = (in_all - steps) * scheduler.order
    if hasattr(scheduler, "sigmas"):  # drop steps that are not run: LMS would use their derivatives
        scheduler.sigmas, scheduler.timesteps = scheduler.sigmas[first:], scheduler.timesteps[first:]
        first = 0
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return first


def _build(name: str, options: dict, betas: str) -> SchedulerMixin:
    try:
        import diffusers
    except ImportError as error:
        raise MissingDependency("diffusers is not installed; run: pip install diffusers") from error
    kind = getattr(diffusers, name, None)
    parameters = inspect.signature(kind.__init__).parameters if kind else {}
    unsupported = [option for option in options if option not in parameters]
    if not kind or unsupported:
        what = f"{name} without {unsupported[0]}" if kind else f"no {name}"
        raise MissingDependency(f"this diffusers has {what}; run: pip install --upgrade diffusers")
    return kind(**scheduler_options(betas), **options)


def _check_choice(what: str, value: str, choices: dict | tuple) -> None:
    if value not in choices:
        raise InputError(f"{what} {value!r} cannot be used here; choose one of {', '.join(choices)}.")
