"""SD1.5 on diffusers, with everything it needs, behind one call: frames in, painted frames out.

Shapes: B frames, H and W pixels, h = H/8 and w = W/8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checks import check_range
from ..errors import InputError
from ..layers.attention import Branch
from .branches import bind
from .denoiser import Condition, Denoiser
from .samplers import SamplerOptions, sample

if TYPE_CHECKING:
    from .checkpoint import SD15

LATENT_SCALE = 0.18215
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class PaintOptions:
    """How frames are painted."""

    sampling: SamplerOptions = field(default_factory=SamplerOptions)  # its seed is that of the noise too
    batch: int = 1  # frames at once

    def __post_init__(self) -> None:
        check_range(self.batch, 1, 256, "the batch size")


@dataclass(frozen=True)
class PaintedFrames:
    """What comes out; `pipelines.repaint.Painted` for this floor."""

    frames: Tensor  # (B, 3, H, W) float 0..1
    latents: Tensor | None  # (B, 4, h, w)


class DiffusersPainter:
    """Paints frames anew, with the noise of all frames alike, so that they hold together.

    Args:
        sd15: UNet and VAE.
        cond: what the frames are to show.
        branches: of the cross-attentions, by site; the face, for one.
        options: sampler, steps, seed.
    """

    def __init__(
        self, sd15: SD15, cond: Condition, branches: Mapping[int, Sequence[Branch]], options: PaintOptions
    ) -> None:
        if sd15.vae is None:
            raise InputError("the checkpoint holds no VAE; use one that does (any full SD1.5 checkpoint).")
        self.sd15, self.cond, self.branches, self.options = sd15, cond, branches, options
        self.batch, self.steps = options.batch, options.sampling.steps

    def paint(self, frames: Tensor, on_step: OnStep | None = None) -> PaintedFrames:
        """Paint frames (B, 3, H, W) float 0..1 anew."""
        if self.options.sampling.denoise == 0:
            return PaintedFrames(frames, None)
        return self._decoded(self._sampled(self.encode(frames), on_step))

    def paint_latents(self, latents: Tensor, on_step: OnStep | None = None) -> PaintedFrames:
        """Paint latents (B, 4, h, w)."""
        return self._decoded(self._sampled(latents, on_step))

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """(B, 4, h, w) latents of frames (B, 3, H, W) float 0..1."""
        vae = self.sd15.vae
        like = next(vae.parameters())
        means = [vae.encode((2 * frame - 1)[None].to(like)).latent_dist.mean for frame in frames]
        return torch.cat(means).float() * LATENT_SCALE

    def _sampled(self, latents: Tensor, on_step: OnStep | None) -> Tensor:
        made = self._sample_once(latents, on_step)
        if torch.isfinite(made).all():
            return made
        unet = self.sd15.unet
        before = next(unet.parameters()).dtype
        if before == torch.float32:
            raise InputError(
                "SD1.5 gives values that are not numbers, in fp32 too; the checkpoint, a LoRA or the adapter is "
                "damaged, or a strength is far too large."
            )
        unet.float()  # once more, exactly
        try:
            made = self._sample_once(latents, on_step)
        finally:
            unet.to(before)
        if not torch.isfinite(made).all():
            raise InputError("SD1.5 gives values that are not numbers, in fp32 too; is the checkpoint damaged?")
        return made

    def _sample_once(self, latents: Tensor, on_step: OnStep | None) -> Tensor:
        weights = next(self.sd15.unet.parameters())
        generator = torch.Generator().manual_seed(self.options.sampling.seed)
        noise = torch.randn(latents[:1].shape, generator=generator).expand_as(latents)
        given = latents.to(weights.device, torch.float32), noise.to(weights.device, torch.float32)
        try:
            with bind(self.sd15.unet, self.branches) as batch:
                denoiser = Denoiser(self.sd15.unet, batch)
                return sample(denoiser, *given, self.cond, self.options.sampling, on_step)
        finally:
            for chosen in self.branches.values():
                for branch in chosen:
                    branch.forget()

    @torch.no_grad()
    def _decoded(self, latents: Tensor) -> PaintedFrames:
        vae = self.sd15.vae
        like = next(vae.parameters())
        frames = torch.cat([vae.decode(one[None].to(like) / LATENT_SCALE).sample for one in latents]).float()
        if not torch.isfinite(frames).all():
            raise InputError("the VAE gives values that are not numbers; paint with --precision fp32.")
        return PaintedFrames((frames / 2 + 0.5).clamp(0, 1), latents)
