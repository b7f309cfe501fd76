"""The diffusers painter: image-to-image repainting of frames by SD1.5 with branches, ControlNet, motion and style.

Shapes: B frames, H and W pixels, h = H/8 and w = W/8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...checks import check_choice, check_range
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
from ...style.attention import StyleConditioning, StyleRun, bind_style
from ..animatenet.animate_net import AnimateNet, AnimateOptions, FrameConditions, bind_animate
from ..animatenet.control import FrameControl
from ..animatenet.feature_attention import FeatureControl, feature_branches
from .edit import EDITS, KeptDenoiser, Segment, kept_weights

if TYPE_CHECKING:
    from ...diffusion.checkpoint import SD15


@dataclass(frozen=True)
class PaintOptions:
    """Sampling, batch size and windows of a painter."""

    sampling: SamplerOptions = field(default_factory=SamplerOptions)  # its seed is that of the noise too
    batch: int = 1  # frames at once, where no motion module acts
    video: VideoOptions = field(default_factory=VideoOptions)  # where one acts
    # each frame begins with the finished one before it instead of its own draft; where no motion module acts
    per_frame: bool = False
    edit: str = "all"  # what is painted, one of `edit.EDITS`

    def __post_init__(self) -> None:
        check_range(self.batch, 1, 256, "the batch size")
        check_choice(self.edit, EDITS, "edit")
        if self.per_frame and self.batch != 1:
            raise InputError(f"frame by frame, one is painted at a time, not {self.batch}.")


@dataclass(frozen=True)
class AnimateConditioning:
    """AnimateNet's conditioning of a ControlNet by each frame's landmarks and head placement."""

    net: AnimateNet
    conditions: FrameConditions
    options: AnimateOptions = field(default_factory=AnimateOptions)
    features: float = 0.0  # strength of the UNet's feature attention, -1..3; 0 is off


@dataclass(frozen=True)
class Animation:
    """ControlNet, motion modules, AnimateNet and style conditioning of a painter."""

    control: FrameControl | None = None
    motion: MotionModules | None = None
    motion_strength: float = 1.0  # 0 is no motion module
    conditioning: AnimateConditioning | None = None  # needs a control; a FeatureControl for features
    style: StyleConditioning | None = None

    def __post_init__(self) -> None:
        check_range(self.motion_strength, 0, 2, "the motion strength")
        if self.conditioning is None:
            return
        if self.control is None:
            raise InputError("an AnimateNet acts inside of a ControlNet: give one, with a strength above 0.")
        if self.conditioning.features and not isinstance(self.control, FeatureControl):
            raise InputError("to look at features, the control must be a FeatureControl.")

    @property
    def moves(self) -> bool:
        """Whether a motion module is active."""
        return self.motion is not None and self.motion_strength > 0

    @property
    def looks_back(self) -> bool:
        """Whether frames are conditioned by the last finished one."""
        return self.conditioning is not None and self.conditioning.net.previous_proj is not None


@dataclass(frozen=True)
class Painted:
    """Output of a painter for a batch."""

    frames: Tensor  # (B, H, W, 3) float 0..1
    latents: Tensor | None  # (B, 4, h, w); None where nothing was encoded


class DiffusersPainter:
    """Repaints frames with SD1.5 on diffusers.

    Where no motion module acts, all frames get the same noise, so that what does not move stays the same.

    Args:
        sd15: UNet and VAE.
        cond: text tokens and guidance.
        branches: of the cross-attentions by site, such as the face's.
        options: sampler, steps, seed, windows.
        animation: ControlNet, AnimateNet, style and motion modules.
        segment: tells people from the background, for edits of one of them; None is the package's own network.
    """

    def __init__(
        self,
        sd15: SD15,
        cond: Condition,
        branches: Mapping[int, Sequence[Branch]],
        options: PaintOptions,
        animation: Animation | None = None,
        segment: Segment | None = None,
    ) -> None:
        if sd15.vae is None:
            raise InputError("the checkpoint holds no VAE; use one that does (any full SD1.5 checkpoint).")
        self.sd15, self.cond, self.branches, self.options = sd15, cond, branches, options
        self.animation, self.segment, self._texts = animation or Animation(), segment, TextKeys()
        self._kept: tuple[Tensor, Tensor] | None = None  # latents (B, 4, h, w) and weights (B, 1, H, W) that stay
        self._last: Tensor | None = None  # (1, 4, h, w) the last finished frame of the batch at hand
        self.steps, moves = options.sampling.steps, self.animation.moves
        self.batch, self.overlap = (options.video.section, options.video.overlap) if moves else (options.batch, 0)
        if not moves and (options.per_frame or self.animation.looks_back):
            self.overlap = self.batch  # finished frames are looked at, not painted once more
        if moves:
            check_frames(options.video.length, self.animation.motion.length)

    def paint(
        self, frames: Tensor, on_step: Progress | None = None, first: int = 0, fixed: Tensor | None = None
    ) -> Painted:
        """Repaint frames (B, H, W, 3) float 0..1; see `repaint.Painter`."""
        if self.options.sampling.denoise == 0:
            return Painted(frames, None)
        weights = kept_weights(frames, self.options.edit, self.segment)
        if weights is None:
            return self.paint_latents(self.encode(frames), on_step, first, fixed)
        latents = self.encode(frames)
        self._kept = (latents, weights)
        try:
            painted = self.paint_latents(latents, on_step, first, fixed)
        finally:
            self._kept = None
        pictures, weights = painted.frames, weights.movedim(1, -1).to(painted.frames)
        return replace(painted, frames=torch.lerp(pictures, frames.to(pictures), weights))

    def paint_latents(
        self, latents: Tensor, on_step: Progress | None = None, first: int = 0, fixed: Tensor | None = None
    ) -> Painted:
        """Paint latents (B, 4, h, w); see `repaint.Painter`."""
        self._last = None if fixed is None or not len(fixed) else fixed[-1:]
        if not self.animation.moves:
            start = latents if self._last is None or not self.options.per_frame else self._last.expand_as(latents)
            return self._decoded(self._sampled(start, on_step, first, None))
        num_fixed = 0 if fixed is None else len(fixed)
        all_latents = latents if fixed is None else torch.cat([fixed.to(latents), latents])
        return self._decoded(self._sampled(all_latents, on_step, first - num_fixed, fixed)[num_fixed:])

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """(B, 4, h, w) latents of frames (B, H, W, 3) float 0..1."""
        vae = self.sd15.vae
        like = next(vae.parameters())
        means = [vae.encode((2 * frame - 1)[None].to(like)).latent_dist.mean for frame in frames.movedim(-1, 1)]
        return torch.cat(means).float() * LATENT_SCALE

    def _sampled(self, latents: Tensor, on_step: Progress | None, first: int, fixed: Tensor | None) -> Tensor:
        inputs = (latents, on_step, first, fixed)
        sampled = self._sample_once(*inputs)
        if torch.isfinite(sampled).all():
            return sampled
        unet = self.sd15.unet
        dtype = next(unet.parameters()).dtype
        if dtype == torch.float32:
            raise InputError(
                "SD1.5 gives values that are not numbers, in fp32 too; the checkpoint, a LoRA or the adapter is "
                "damaged, or a strength is far too large."
            )
        unet.float()  # once more, exactly
        try:
            sampled = self._sample_once(*inputs)
        finally:
            unet.to(dtype)
        if not torch.isfinite(sampled).all():
            raise InputError("SD1.5 gives values that are not numbers, in fp32 too; is the checkpoint damaged?")
        return sampled

    def _sample_once(
        self, latents: Tensor, on_step: Progress | None = None, first: int = 0, fixed: Tensor | None = None
    ) -> Tensor:
        unet, animation, video = self.sd15.unet, self.animation, self.options.video
        last = latents[:1] if self._last is None else self._last  # a video begins with the draft of its first frame
        device = next(unet.parameters()).device
        inputs = latents.to(device, torch.float32), self._noise(latents, first).to(device, torch.float32)
        betas = schedule_of(animation.motion if animation.moves else None)
        try:
            with ExitStack() as bound:
                batch = bound.enter_context(bind(unet, self._with_features(), Batch(texts=self._texts)))
                if animation.control is not None:
                    bound.enter_context(bind(animation.control.network, {}, batch))
                    self._bind_animate_net(bound, last)
                if animation.moves:
                    window_length = min(video.length, len(latents))
                    bound.enter_context(bind_motion(unet, animation.motion, window_length, animation.motion_strength))
                if animation.style is not None:
                    run = StyleRun(animation.style.net, animation.style.styles, batch)
                    bound.enter_context(bind_style(unet, run))
                window = video if animation.moves else replace(video, length=max(len(latents), 1), overlap=0)
                inner = Denoiser(unet, batch, animation.control, betas)
                denoiser = self._with_kept(WindowedDenoiser(inner, first, window, fixed), inputs[0])
                sampling = replace(self.options.sampling, betas=betas)
                return sample(denoiser, *inputs, self.cond, sampling, on_step)
        finally:
            for branches in self.branches.values():
                for branch in branches:
                    branch.clear_cache()
            if animation.control is not None:
                animation.control.clear_cache()

    def _with_kept(self, denoiser: WindowedDenoiser, latents: Tensor) -> WindowedDenoiser | KeptDenoiser:
        """The denoiser, holding what an edit keeps; finished frames before the drafts are held already."""
        if self._kept is None:
            return denoiser
        clean, weights = (part.to(latents.device) for part in self._kept)
        num_fixed = len(latents) - len(clean)
        weights = torch.cat([weights.new_zeros(num_fixed, *weights.shape[1:]), weights])
        return KeptDenoiser(denoiser, torch.cat([latents[:num_fixed], clean.to(latents)]), weights)

    def _with_features(self) -> Mapping[int, Sequence[Branch]]:
        """The branches, with those that attend to the ControlNet's feature maps."""
        conditioning = self.animation.conditioning
        if conditioning is None or not conditioning.features:
            return self.branches
        branches = feature_branches(conditioning.net.features, self.animation.control.features, conditioning.features)
        return {index: [*self.branches.get(index, ()), branch] for index, branch in branches.items()}

    def _bind_animate_net(self, bound: ExitStack, last: Tensor) -> None:
        conditioning, control = self.animation.conditioning, self.animation.control
        if conditioning is not None:
            tokens = bind_animate(
                control.network, conditioning.net, conditioning.conditions, lambda: control.frames, conditioning.options
            )
            bound.enter_context(tokens).previous = last

    def _noise(self, latents: Tensor, first: int) -> Tensor:
        """(B, 4, h, w) initial noise: independent by frame with a motion module, else the same for all."""
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
        frames = torch.cat([vae.decode(latent[None].to(like) / LATENT_SCALE).sample for latent in latents]).float()
        if not torch.isfinite(frames).all():
            raise InputError("the VAE gives values that are not numbers; paint with --precision fp32.")
        return Painted((frames / 2 + 0.5).clamp(0, 1).movedim(1, -1), latents)
