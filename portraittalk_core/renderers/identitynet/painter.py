"""SD1.5 on diffusers, with everything it needs, behind one call: frames in, painted frames out.

Shapes: B frames, H and W pixels, h = H/8 and w = W/8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...checks import check_range
from ...diffusion.branches import Batch, bind
from ...diffusion.denoiser import Condition, Denoiser
from ...diffusion.latents import LATENT_SCALE
from ...diffusion.motion_modules import MotionModules, bind_motion
from ...diffusion.samplers import SamplerOptions, sample
from ...diffusion.schedule import schedule_of
from ...diffusion.text_keys import TextKeys
from ...diffusion.windowed import VideoOptions, WindowedDenoiser
from ...diffusion.windows import free_noise_order
from ...errors import InputError
from ...layers.attention import Branch
from ...layers.temporal import check_frames
from ...progress import Progress
from ...style.attention import StyleCues, StyleRun, bind_style
from ..animatenet.animate_net import AnimateNet, AnimateOptions, Cues, bind_animate
from ..animatenet.control import FrameControl
from ..animatenet.feature_attention import FeatureControl, feature_branches

if TYPE_CHECKING:
    from ...diffusion.checkpoint import SD15


@dataclass(frozen=True)
class PaintOptions:
    """How frames are painted."""

    sampling: SamplerOptions = field(default_factory=SamplerOptions)  # its seed is that of the noise too
    batch: int = 1  # frames at once, where no motion module acts
    video: VideoOptions = field(default_factory=VideoOptions)  # where one acts

    def __post_init__(self) -> None:
        check_range(self.batch, 1, 256, "the batch size")


@dataclass(frozen=True)
class FaceCues:
    """What an AnimateNet makes the ControlNet know of each frame's landmarks and head placement."""

    net: AnimateNet
    cues: Cues
    options: AnimateOptions = field(default_factory=AnimateOptions)
    features: float = 0.0  # how strongly the UNet looks at the ControlNet's maps, -1..3; 0 is not at all


@dataclass(frozen=True)
class Animation:
    """What holds frames to landmarks, to a style, and to each other."""

    control: FrameControl | None = None
    motion: MotionModules | None = None
    motion_strength: float = 1.0  # 0 is no motion module
    told: FaceCues | None = None  # needs a control; a FeatureControl for features
    style: StyleCues | None = None

    def __post_init__(self) -> None:
        check_range(self.motion_strength, 0, 2, "the motion strength")
        if self.told is None:
            return
        if self.control is None:
            raise InputError("an AnimateNet acts inside of a ControlNet: give one, with a strength above 0.")
        if self.told.features and not isinstance(self.control, FeatureControl):
            raise InputError("to look at features, the control must be a FeatureControl.")

    @property
    def moves(self) -> bool:
        """Whether a motion module acts."""
        return self.motion is not None and self.motion_strength > 0


@dataclass(frozen=True)
class Painted:
    """What a painter makes of a batch."""

    frames: Tensor  # (B, H, W, 3) float 0..1
    latents: Tensor | None  # (B, 4, h, w); None where nothing was encoded


class DiffusersPainter:
    """Paints frames anew.

    Where no motion module acts, all frames get the same noise, so that what does not move stays the same.

    Args:
        sd15: UNet and VAE.
        cond: what the frames are to show.
        branches: of the cross-attentions, by site; the face, for one.
        options: sampler, steps, seed, windows.
        animation: ControlNet, AnimateNet, style and motion modules.
    """

    def __init__(
        self,
        sd15: SD15,
        cond: Condition,
        branches: Mapping[int, Sequence[Branch]],
        options: PaintOptions,
        animation: Animation | None = None,
    ) -> None:
        if sd15.vae is None:
            raise InputError("the checkpoint holds no VAE; use one that does (any full SD1.5 checkpoint).")
        self.sd15, self.cond, self.branches, self.options = sd15, cond, branches, options
        self.animation, self._texts = animation or Animation(), TextKeys()
        self.steps, moves = options.sampling.steps, self.animation.moves
        self.batch, self.overlap = (options.video.section, options.video.overlap) if moves else (options.batch, 0)
        if moves:
            check_frames(options.video.length, self.animation.motion.length)

    def paint(
        self, frames: Tensor, on_step: Progress | None = None, first: int = 0, fixed: Tensor | None = None
    ) -> Painted:
        """Paint frames (B, H, W, 3) float 0..1 anew; see `repaint.Painter`."""
        if self.options.sampling.denoise == 0:
            return Painted(frames, None)
        return self.paint_latents(self.encode(frames), on_step, first, fixed)

    def paint_latents(
        self, latents: Tensor, on_step: Progress | None = None, first: int = 0, fixed: Tensor | None = None
    ) -> Painted:
        """Paint latents (B, 4, h, w); see `repaint.Painter`."""
        before = 0 if fixed is None else len(fixed)
        whole = latents if fixed is None else torch.cat([fixed.to(latents), latents])
        return self._decoded(self._sampled(whole, on_step, first - before, fixed)[before:])

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """(B, 4, h, w) latents of frames (B, H, W, 3) float 0..1."""
        vae = self.sd15.vae
        like = next(vae.parameters())
        means = [vae.encode((2 * frame - 1)[None].to(like)).latent_dist.mean for frame in frames.movedim(-1, 1)]
        return torch.cat(means).float() * LATENT_SCALE

    def _sampled(self, latents: Tensor, on_step: Progress | None, first: int, fixed: Tensor | None) -> Tensor:
        given = (latents, on_step, first, fixed)
        made = self._sample_once(*given)
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
            made = self._sample_once(*given)
        finally:
            unet.to(before)
        if not torch.isfinite(made).all():
            raise InputError("SD1.5 gives values that are not numbers, in fp32 too; is the checkpoint damaged?")
        return made

    def _sample_once(
        self, latents: Tensor, on_step: Progress | None = None, first: int = 0, fixed: Tensor | None = None
    ) -> Tensor:
        unet, animation, video = self.sd15.unet, self.animation, self.options.video
        device = next(unet.parameters()).device
        given = latents.to(device, torch.float32), self._noise(latents, first).to(device, torch.float32)
        betas = schedule_of(animation.motion if animation.moves else None)
        try:
            with ExitStack() as bound:
                batch = bound.enter_context(bind(unet, self._with_features(), Batch(texts=self._texts)))
                if animation.control is not None:
                    bound.enter_context(bind(animation.control.network, {}, batch))
                    self._bind_told(bound)
                if animation.moves:
                    seen = min(video.length, len(latents))
                    bound.enter_context(bind_motion(unet, animation.motion, seen, animation.motion_strength))
                if animation.style is not None:
                    run = StyleRun(animation.style.net, animation.style.styles, batch)
                    bound.enter_context(bind_style(unet, run))
                window = video if animation.moves else replace(video, length=max(len(latents), 1), overlap=0)
                inner = Denoiser(unet, batch, animation.control, betas)
                denoiser = WindowedDenoiser(inner, first, window, fixed)
                sampling = replace(self.options.sampling, betas=betas)
                return sample(denoiser, *given, self.cond, sampling, on_step)
        finally:
            for chosen in self.branches.values():
                for branch in chosen:
                    branch.clear_cache()
            if animation.control is not None:
                animation.control.clear_cache()

    def _with_features(self) -> Mapping[int, Sequence[Branch]]:
        """The branches, and those that look at the ControlNet's maps."""
        told = self.animation.told
        if told is None or not told.features:
            return self.branches
        looking = feature_branches(told.net.features, self.animation.control.features, told.features)
        return {index: [*self.branches.get(index, ()), branch] for index, branch in looking.items()}

    def _bind_told(self, bound: ExitStack) -> None:
        told, control = self.animation.told, self.animation.control
        if told is not None:
            tokens = bind_animate(control.network, told.net, told.cues, lambda: control.frames, told.options)
            bound.enter_context(tokens)

    def _noise(self, latents: Tensor, first: int) -> Tensor:
        """(B, 4, h, w): where a motion module acts, each frame its own; else all the same."""
        generator, video = torch.Generator().manual_seed(self.options.sampling.seed), self.options.video
        if not self.animation.moves:
            return torch.randn(latents[:1].shape, generator=generator).expand_as(latents)
        noise = torch.randn(video.length, *latents.shape[1:], generator=generator)
        last, stride = first + len(latents), video.length - video.overlap
        order = free_noise_order(last, video.length, stride, self.options.sampling.seed)
        return noise[order[first:]]

    @torch.no_grad()
    def _decoded(self, latents: Tensor) -> Painted:
        vae = self.sd15.vae
        like = next(vae.parameters())
        frames = torch.cat([vae.decode(one[None].to(like) / LATENT_SCALE).sample for one in latents]).float()
        if not torch.isfinite(frames).all():
            raise InputError("the VAE gives values that are not numbers; paint with --precision fp32.")
        return Painted((frames / 2 + 0.5).clamp(0, 1).movedim(1, -1), latents)
