"""ComfyUI's samplers and VAE behind the core's Painter interface."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import comfy.model_management
import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

from ...portraittalk_core.checks import check_range
from ...portraittalk_core.diffusion.windowed import VideoOptions
from ...portraittalk_core.diffusion.windows import free_noise_order
from ...portraittalk_core.errors import InputError
from ...portraittalk_core.renderers.identitynet.painter import Painted
from .cursor import Cursor
from .frame_masks import FrameMasks

log = logging.getLogger(__name__)

SAMPLERS, SCHEDULERS = comfy.samplers.KSampler.SAMPLERS, comfy.samplers.KSampler.SCHEDULERS
MAX_FRAMES = 16  # in a batch; more gain nothing and wait longer for the first
MAX_FRAMES_ON_CPU = 4
FREE_SHARE = 0.8  # of the memory that is free may be used


@dataclass(frozen=True)
class Sampling:
    """Settings of KSampler."""

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
    """A MODEL, a VAE and conditioning behind one call; see `renderers.repaint.Painter`.

    Args:
        model: with everything patched into it.
        vae: of SD1.5.
        conditioning: positive and negative.
        sampling: settings of KSampler.
        batch: frames at once, where no motion module acts.
        cursor: tells the controls in the conditioning which frame a batch begins with.
        video: windows, where a motion module acts; else None.
        keep: give a batch that is denoised when the user presses Interrupt, so that it can be saved; the interrupt
            then comes at the next check. Pressed again, it comes at once.
        masks: of what is painted; None paints all.
        looks_back: whether a control looks at the last finished frame.
    """

    def __init__(
        self, model, vae, conditioning: tuple, sampling: Sampling, batch: int, cursor: Cursor | None = None,
        video: VideoOptions | None = None, keep: bool = False, *, masks: FrameMasks | None = None,
        looks_back: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.vae, self.sampling, self.keep = model, vae, sampling, keep
        self.positive, self.negative = conditioning
        self.steps, self.cursor, self.video = sampling.steps, cursor or Cursor(), video
        self.masks, self.looks_back = masks, looks_back
        self.batch, self.overlap = (batch, 0) if video is None else (video.section, video.overlap)
        if looks_back and video is None:
            self.overlap = batch  # finished frames are looked at, not painted once more

    def paint(self, frames: Tensor, on_step, first: int = 0, fixed: Tensor | None = None) -> Painted:
        """Image-to-image sampling of frames (B, H, W, 3)."""
        if self.sampling.denoise == 0:
            return Painted(frames, None)
        painted = self._painted(self.vae.encode(frames[..., :3]), on_step, first, fixed, shared=True)
        return (
            painted
            if self.masks is None
            else replace(painted, frames=self.masks.composite(painted.frames, frames, first))
        )

    def paint_latents(self, latents: Tensor, on_step, first: int = 0, fixed: Tensor | None = None) -> Painted:
        """Sample latents (B, 4, h, w) as KSampler would: every frame has its own noise."""
        if self.sampling.denoise == 0:
            return self._decoded(latents)
        return self._painted(latents, on_step, first, fixed, shared=False)

    def _painted(self, latents: Tensor, on_step, first: int, fixed: Tensor | None, shared: bool) -> Painted:
        if self.looks_back:
            last = latents[:1] if fixed is None or not len(fixed) else fixed[-1:]  # a video begins with its first draft
            self.cursor.last = self.model.model.process_latent_in(last)
            fixed = None if self.video is None else fixed
        num_fixed = 0 if fixed is None else len(fixed)
        all_latents = latents if fixed is None else torch.cat([fixed.to(latents), latents])
        self.cursor.first = first - num_fixed
        noise = self._noise(all_latents, first - num_fixed, shared)
        try:
            sampled = self._sampled(all_latents, noise, on_step, num_fixed)
        except comfy.model_management.OOM_EXCEPTION as error:
            sampled = self._in_halves(all_latents, noise, on_step, error)
        return self._decoded_at_last(sampled[num_fixed:])

    def _in_halves(self, latents: Tensor, noise: Tensor, on_step, error: Exception) -> Tensor:
        """Retry out-of-memory batches in two halves, where no motion module couples the frames."""
        comfy.model_management.soft_empty_cache()
        half = len(latents) // 2
        advice = "lower width and height" + ("" if self.video is None else ", or AnimateNet Control's window")
        if self.video is not None or half == 0:
            raise InputError(f"there is not enough memory for {len(latents)} frames at once; {advice}.") from error
        log.warning("not enough memory for %d frames at once; %d are tried, and from here on.", len(latents), half)
        self.batch = max(1, half)
        first = self.cursor.first
        try:
            first_half = [self._sampled(latents[:half], noise[:half], on_step, 0)]
            self.cursor.first = first + half
            return torch.cat([*first_half, self._sampled(latents[half:], noise[half:], on_step, 0)])
        except comfy.model_management.OOM_EXCEPTION as again:
            raise InputError(f"there is not enough memory for {half} frames at once either; {advice}.") from again

    def _noise(self, latents: Tensor, first: int, shared: bool) -> Tensor:
        """Initial noise: shuffled by windows for motion modules, else one for all frames, or KSampler's."""
        seed, video = self.sampling.seed, self.video
        if video is not None:
            window_noise = comfy.sample.prepare_noise(latents[:1].expand(video.length, -1, -1, -1), seed)
            order = free_noise_order(first + len(latents), video.length, video.length - video.overlap, seed)
            return window_noise[order[first:]]
        if shared:  # so that what does not move stays the same
            return comfy.sample.prepare_noise(latents[:1], seed).expand_as(latents).clone()
        return comfy.sample.prepare_noise(latents, seed)

    def _sampled(self, latents: Tensor, noise: Tensor, on_step, fixed: int) -> Tensor:
        arguments = (latents, noise, on_step, fixed)
        sampled = self._sample_with(self.model, *arguments)
        if _finite(sampled):
            return sampled
        log.warning("the denoised latents hold values that are no numbers; this batch is done again in fp32.")
        exact = self.model.clone()
        exact.set_model_compute_dtype(torch.float32)
        sampled = self._sample_with(exact, *arguments)
        if not _finite(sampled):
            raise InputError(
                "SD1.5 gives values that are not numbers, in fp32 too; the checkpoint, a LoRA or the adapter is "
                "damaged, or a strength is far too large."
            )
        return sampled

    def _sample_with(self, model, latents: Tensor, noise: Tensor, on_step, fixed: int) -> Tensor:
        def callback(step: int, _clean: Tensor, _x: Tensor, total: int) -> None:
            try:
                comfy.model_management.throw_exception_if_processing_interrupted()
                if on_step:
                    on_step(step + 1, self.steps)
            except comfy.model_management.InterruptProcessingException:
                if not self.keep or step + 1 < total:
                    raise
                comfy.model_management.interrupt_current_processing()  # nothing is left to denoise: later

        s = self.sampling
        latents = comfy.sample.fix_empty_latent_channels(model, latents)
        mask = self._mask(latents, fixed)
        return comfy.sample.sample(
            model, noise, s.steps, s.cfg, s.sampler_name, s.scheduler, self.positive, self.negative, latents,
            denoise=s.denoise, noise_mask=mask, callback=callback, disable_pbar=True, seed=s.seed,
        )  # fmt: skip

    def _mask(self, latents: Tensor, num_fixed: int) -> Tensor | None:
        """(B, 1, h, w) of what is denoised, at a size of its own; None for all. Finished frames stay as they are."""
        if self.masks is None and not num_fixed:
            return None
        if self.masks is None:
            mask = torch.ones_like(latents[:, :1])
        else:
            mask = self.masks.at(range(self.cursor.first, self.cursor.first + len(latents)))
        mask[:num_fixed] = 0
        return mask

    def _decoded_at_last(self, latents: Tensor) -> Painted:
        """Decoded latents; where `keep` is set, in spite of an interrupt, which newer ComfyUI raises inside a layer."""
        try:
            return self._decoded(latents)
        except comfy.model_management.InterruptProcessingException:
            if not self.keep:
                raise
        painted = self._decoded(latents)
        comfy.model_management.interrupt_current_processing()
        return painted

    def _decoded(self, latents: Tensor) -> Painted:
        frames = self.vae.decode(latents)
        if not _finite(frames):
            raise InputError(
                "the VAE gives values that are not numbers; use another VAE, or start ComfyUI with --fp32-vae."
            )
        return Painted(frames, latents)


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def batch_for(model, size: tuple[int, int], requested: int) -> int:
    """Batch size: as requested, or as many frames as the free memory holds where that is 0."""
    return requested or frames_that_fit(model, *size)


def frames_that_fit(model, height: int, width: int) -> int:
    """Number of frames of a size that can be denoised at once in the free memory."""
    device = model.load_device
    limit = MAX_FRAMES_ON_CPU if comfy.model_management.is_device_cpu(device) else MAX_FRAMES
    free = FREE_SHARE * comfy.model_management.get_free_memory(device)
    for frames in range(limit, 1, -1):
        if model.memory_required([2 * frames, 4, height // 8, width // 8]) <= free:  # positive and negative
            return frames
    return 1
