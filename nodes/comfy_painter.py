"""ComfyUI's samplers and VAE as the painter that the core's pipelines take."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import comfy.model_management
import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

from ..portraittalk_core.checks import check_range
from ..portraittalk_core.errors import InputError
from ..portraittalk_core.pipelines.repaint import Painted

log = logging.getLogger(__name__)

SAMPLERS, SCHEDULERS = comfy.samplers.KSampler.SAMPLERS, comfy.samplers.KSampler.SCHEDULERS
MOST_FRAMES = 16  # in a batch; more gain nothing and wait longer for the first
MOST_FRAMES_ON_CPU = 4
FREE_SHARE = 0.8  # of the memory that is free may be used


@dataclass(frozen=True)
class Sampling:
    """What KSampler asks for."""

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    denoise: float

    def __post_init__(self) -> None:
        check_range(self.steps, 1, 10_000, "steps")
        check_range(self.cfg, 0, 100, "cfg")
        check_range(self.denoise, 0, 1, "denoise")


class ComfyPainter:
    """A MODEL, a VAE and conditioning behind one call.

    Args:
        model: with everything patched into it.
        vae: of SD1.5.
        conditioning: positive and negative.
        sampling: what KSampler asks for.
        size: height and width of the frames in pixels.
        batch: frames at once; 0 takes as many as the free memory holds.
    """

    def __init__(self, model, vae, conditioning: tuple, sampling: Sampling, size: tuple[int, int], batch: int = 0):
        self.model, self.vae, self.sampling = model, vae, sampling
        self.positive, self.negative = conditioning
        self.steps = sampling.steps
        self.batch, self.overlap = batch or frames_that_fit(model, *size), 0

    def paint(self, frames: Tensor, on_step, first: int = 0, fixed: Tensor | None = None) -> Painted:
        """Paint frames (B, 3, H, W) anew; all get the same noise, so that they hold together."""
        if self.sampling.denoise == 0:
            return Painted(frames, None)
        latents = self.vae.encode(frames.movedim(1, -1)[..., :3])
        noise = comfy.sample.prepare_noise(latents[:1], self.sampling.seed).expand_as(latents).clone()
        return self._decoded(self._sampled(latents, noise, on_step))

    def paint_latents(self, latents: Tensor, on_step, first: int = 0, fixed: Tensor | None = None) -> Painted:
        """Paint latents (B, 4, h, w) as KSampler would: every frame has its own noise."""
        if self.sampling.denoise == 0:
            return self._decoded(latents)
        noise = comfy.sample.prepare_noise(latents, self.sampling.seed)
        return self._decoded(self._sampled(latents, noise, on_step))

    def _sampled(self, latents: Tensor, noise: Tensor, on_step) -> Tensor:
        made = self._sample_with(self.model, latents, noise, on_step)
        if _finite(made):
            return made
        log.warning("the denoised latents hold values that are no numbers; this batch is done again in fp32.")
        exact = self.model.clone()
        exact.set_model_compute_dtype(torch.float32)
        made = self._sample_with(exact, latents, noise, on_step)
        if not _finite(made):
            raise InputError(
                "SD1.5 gives values that are not numbers, in fp32 too; the checkpoint, a LoRA or the adapter is "
                "damaged, or a strength is far too large."
            )
        return made

    def _sample_with(self, model, latents: Tensor, noise: Tensor, on_step) -> Tensor:
        def callback(step: int, *_: object) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            if on_step:
                on_step(step + 1, self.steps)

        s = self.sampling
        latents = comfy.sample.fix_empty_latent_channels(model, latents)
        return comfy.sample.sample(
            model, noise, s.steps, s.cfg, s.sampler_name, s.scheduler, self.positive, self.negative, latents,
            denoise=s.denoise, callback=callback, disable_pbar=True, seed=s.seed,
        )  # fmt: skip

    def _decoded(self, latents: Tensor) -> Painted:
        frames = self.vae.decode(latents)
        if not _finite(frames):
            raise InputError(
                "the VAE gives values that are not numbers; use another VAE, or start ComfyUI with --fp32-vae."
            )
        return Painted(frames.movedim(-1, 1), latents)


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def frames_that_fit(model, height: int, width: int) -> int:
    """How many frames of a size can be denoised at once in the memory that is free."""
    device = model.load_device
    most = MOST_FRAMES_ON_CPU if comfy.model_management.is_device_cpu(device) else MOST_FRAMES
    free = FREE_SHARE * comfy.model_management.get_free_memory(device)
    for frames in range(most, 1, -1):
        if model.memory_required([2 * frames, 4, height // 8, width // 8]) <= free:  # positive and negative
            return frames
    return 1
