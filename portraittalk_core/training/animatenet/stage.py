"""AnimateNet's training stages: spatial, then joint with motion modules.

Stable Diffusion stays frozen unless its own weights are to learn too.

Shapes: B clips, F frames of a clip, R = B · F frames, S side of the pictures in pixels, h = S / 8.
Source: PortraitTalk, section 3.2 and equation 2.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...diffusion.branches import bind
from ...diffusion.checkpoint import load_sd15
from ...diffusion.checkpoint_file import save_with_unet
from ...diffusion.motion_modules import bind_motion, save_motion_modules
from ...diffusion.schedule import NUM_TIMESTEPS, schedule_of, schedule_sigmas
from ...diffusion.text import find_tokenizer
from ...errors import InputError
from ...media.files import check_writable, make_folder
from ...progress import Progress
from ...renderers.animatenet.animate_net import AnimateOptions, bind_animate, save_animate_net
from ...renderers.animatenet.feature_attention import ControlFeatures, feature_branches
from ...renderers.identitynet.adapter import save_adapter
from ..data.video_clips import ClipBatch, VideoData, read_videos
from ..identitynet.stage import ADAPTER_NAME, CHECKPOINT_NAME, FrozenParts, dropped, file_mark, used_settings
from ..loop.frozen import ClipTexts, VaeLatentCodec
from ..loop.stage import SingleLossStage
from ..loop.trainer import TrainingResult, train_stage
from .config import OF_IDENTITY, AnimateTraining
from .cues import Cues, cues_of, last_finished
from .faces import ClipFaces, read_faces
from .parts import AnimateParts, check_options, make_parts, save_controlnet

CONTROL_NAME, NET_NAME, MOTION_NAME = (f"{name}.safetensors" for name in ("controlnet", "animate_net", "motion"))
# on what is learnt, besides what of them shows in the data
NO_EFFECT = ("out", "data", "tokenizer", "gradient_checkpointing", "trainer", "face_models", "clip_vision")
SAMPLE_STEPS, SHOWN_FRAMES = 20, 4


class AnimateStage(SingleLossStage):
    """Base of both stages; it is bound to the networks inside a `with` block only.

    Args:
        frozen: none of their weights changes, but the UNet's with `train_unet`.
        parts: what learns.
        data: whom to learn from; clips of `config.clip_frames`.
        config: how.
        faces: of the data's videos, for the UNet to look at; None for the plain UNet.

    Raises:
        InputError: the data's clips have another length, or networks do not fit each other.
    """

    def __init__(
        self,
        frozen: FrozenParts,
        parts: AnimateParts,
        data: VideoData,
        config: AnimateTraining,
        faces: ClipFaces | None = None,
    ) -> None:
        if data.num_frames != config.clip_frames:
            raise InputError(f"the data has clips of {data.num_frames} frames, this stage {config.clip_frames}.")
        self.frozen, self.parts, self.data, self.config, self.faces = frozen, parts, data, config, faces
        frozen.unet.eval().requires_grad_(config.train_unet)
        parts.controlnet.float().requires_grad_(config.train_controlnet)
        parts.net.float().requires_grad_(True)
        if config.gradient_checkpointing:
            frozen.unet.enable_gradient_checkpointing()
            parts.controlnet.enable_gradient_checkpointing()
        sigmas = schedule_sigmas(schedule_of(parts.motion))
        self._sigmas, self._alpha_bars = sigmas, (1 / (1 + sigmas**2)).float()
        self._device, self._cues, self._tokens = torch.device("cpu"), None, None
        self._features = ControlFeatures()
        check_options(parts, config)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> AnimateStage:
        """Bind AnimateNet to its ControlNet, and the face adapter to the UNet."""
        options = AnimateOptions(placement=1.0 if self.config.head_placement else 0.0)
        bound = bind_animate(
            self.parts.controlnet,
            self.parts.net,
            lambda frames: (self._cues.points_px[list(frames)], self._cues.placements[list(frames)]),
            lambda: range(len(self._cues.hints)),
            options,
        )
        self._tokens = self._open.enter_context(bound)
        if self.config.features:
            branches = feature_branches(self.parts.net.features, self._features)
            self._open.enter_context(bind(self.frozen.unet, {index: [branch] for index, branch in branches.items()}))
        if self.faces is not None:
            self._open.enter_context(self.faces.bound(self.frozen.unet))
        return self

    def __exit__(self, *error: object) -> None:
        """Unbind from the networks."""
        self._open.close()
        self._cues = self._tokens = None
        self._features.maps = ()

    def trainable(self) -> dict[str, nn.Parameter]:
        """Trainable weights of ControlNet, AnimateNet, motion modules, and of adapter and UNet if wanted."""
        trainable = {} if self.faces is None else self.faces.trainable()
        if self.config.train_unet:
            trainable |= {f"unet.{name}": weight for name, weight in self.frozen.unet.named_parameters()}
        nets = {"controlnet": self.parts.controlnet, "net": self.parts.net, "motion": self.parts.motion}
        unused = () if self.config.head_placement else ("placement_proj.", "_hp.")  # never get a gradient
        unused = unused if self.config.features else (*unused, "features.")
        return {
            f"{called}.{name}": weight
            for called, net in nets.items()
            if net is not None
            for name, weight in net.named_parameters()
            if weight.requires_grad and not any(part in name for part in unused)
        } | trainable

    def num_samples(self) -> int:
        """Number of clips, or of frames where batches count these."""
        return self.data.num_pictures() if self.config.batch_unit == "frames" else len(self.data)

    def settings(self) -> dict[str, object]:
        """Settings that the learnt weights depend on, besides the trainer's."""
        unused = NO_EFFECT if self.faces is not None else (*NO_EFFECT, *OF_IDENTITY)
        values = used_settings(self.config, unused)
        named = {name: file_mark(value) if isinstance(value, Path) else value for name, value in values.items()}
        faces = {} if self.faces is None else {"faces": self.faces.fingerprint()}
        return {**named, "data": self.data.fingerprint(), **faces}

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device; frozen networks also to a type."""
        self._device = device
        nn.Module.to(self.frozen.unet, device, torch.float32 if self.config.train_unet else dtype)  # silently
        self.frozen.codec.to(device, dtype)
        self.frozen.texts.to(device, dtype)
        for net in (self.parts.controlnet, self.parts.net, self.parts.motion):
            if net is not None:
                nn.Module.to(net, device)
        if self.faces is not None:
            self.faces.place(device, dtype)
        self._alpha_bars = self._alpha_bars.to(device)

    def batch(self, step: int, part: int) -> ClipBatch:
        """The clips of a step's part."""
        trainer = self.config.trainer
        number = trainer.batch_number(step, part)
        settings = {"references": False, "previous": self.config.previous}
        return self.data.batch(number, self.config.batch_clips, trainer.seed, self.config.resolution, **settings)

    def loss(self, batch: ClipBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Equation 2 for a batch, over the frames that are not given as context."""
        size, length = batch.frames.shape[:2]
        clean = self.frozen.codec.encode(batch.frames.flatten(0, 1).to(self._device))
        levels = torch.randint(NUM_TIMESTEPS, (size,), generator=generator).repeat_interleave(length)
        noise = torch.randn(clean.shape, generator=generator).to(self._device)
        given_mask = self.given_mask(size, length, generator).flatten().to(self._device)
        no_face, captions = self._set_faces(batch, generator)
        text = self.frozen.texts.tokens([c for c in captions for _ in range(length)])
        levels = levels.to(self._device)
        alpha_bars = self._alpha_bars[levels]
        signal = alpha_bars.sqrt().view(-1, 1, 1, 1)
        noisy = signal * clean + (1 - alpha_bars).sqrt().view(-1, 1, 1, 1) * noise
        noisy, levels = self._with_context(noisy, levels, clean, given_mask)
        self._cues = self.cues(batch)
        self._set_previous(batch, clean, given_mask)
        errors = (self._noise(noisy, levels, text).float() - noise).square().mean((1, 2, 3))
        if self.config.snr_limit:
            errors = errors * (self.config.snr_limit * (1 - alpha_bars) / alpha_bars).clamp(max=1)
        loss = errors[~given_mask].mean()
        logged = {} if self.faces is None else {"no_face": float(no_face.float().mean())}
        return loss, {"given": float(given_mask.float().mean()), **logged}

    def _set_faces(self, batch: ClipBatch, generator: torch.Generator | None = None) -> tuple[Tensor, Sequence[str]]:
        """Set the clips' faces; returns the (B,) mask of dropped faces, and captions with some dropped.

        Without a generator, nothing is left out; without faces, nothing is drawn from it.
        """
        size, length = batch.frames.shape[:2]
        nothing = torch.zeros(size, dtype=torch.bool)
        if self.faces is None:
            return nothing, batch.captions
        chance = None if generator is None else torch.rand(size, generator=generator)
        no_face, no_text = (nothing, nothing) if chance is None else dropped(chance, self.config)
        self.faces.show(batch, length, no_face, generator)
        return no_face, [
            "" if drop else caption for caption, drop in zip(batch.captions, no_text.tolist(), strict=True)
        ]

    def _set_previous(self, batch: ClipBatch, clean: Tensor, given_mask: Tensor) -> None:
        """Set the last finished frame of every clip."""
        if self.config.previous:
            previous = self.frozen.codec.encode(batch.previous.to(self._device))
            self._tokens.previous = last_finished(clean, previous, given_mask)

    def given_mask(self, size: int, length: int, generator: torch.Generator) -> Tensor:
        """(B, F) bool mask of context frames, given as if generated before; none in the spatial stage."""
        return torch.zeros(size, length, dtype=torch.bool)

    def cues(self, batch: ClipBatch) -> Cues:
        """Hints, landmarks and placements of a batch's frames."""
        return cues_of(batch, self.config, self._device)

    @torch.no_grad()
    def draw(
        self,
        batch: ClipBatch,
        seed: int,
        context: Tensor | None = None,
        tick: Callable[[], None] = lambda: None,
        steps: int = SAMPLE_STEPS,
        shared_noise: bool = True,
    ) -> Tensor:
        """Sample latents (R, 4, h, h) of a batch's clips with Euler's method.

        Args:
            batch: its landmarks and placements are the conditions; its pictures are not used.
            seed: of the noise.
            context: (B, O, 4, h, h) latents of each clip's first frames.
            tick: called after every step.
            steps: of the sampler.
            shared_noise: whether frames that do not look at each other have the same, so that what does not move stays
                the same; with motion modules each has its own in any case.
        """
        size, length, side = *batch.frames.shape[:2], self.config.resolution // 8
        draw = torch.Generator().manual_seed(seed)
        count = 1 if self.parts.motion is None and shared_noise else length
        noise = torch.randn(count, 4, side, side, generator=draw).to(self._device)
        noise = noise.expand(length, -1, -1, -1).repeat(size, 1, 1, 1)
        num_given = 0 if context is None else context.shape[1]
        fixed = (torch.arange(length) < num_given).repeat(size).to(self._device)
        clean = torch.zeros_like(noise)
        if num_given:
            clean[fixed] = context.flatten(0, 1).to(clean)
        timesteps = torch.linspace(NUM_TIMESTEPS - 1, 0, steps).round().long()
        sigmas = [*self._sigmas[timesteps].tolist(), 0.0]
        text = self.frozen.texts.tokens([c for c in batch.captions for _ in range(length)])
        self._cues = self.cues(batch)
        self._set_faces(batch)
        self._set_previous(batch, clean, fixed)
        x = clean + noise * (1 + sigmas[0] ** 2) ** 0.5
        for timestep, sigma, following in zip(timesteps.tolist(), sigmas[:-1], sigmas[1:], strict=True):
            levels = torch.full((len(x),), timestep, device=self._device)
            inside, levels = self._with_context(x / (1 + sigma**2) ** 0.5, levels, clean, fixed)
            x = x + (following - sigma) * self._noise(inside, levels, text).float()
            x[fixed] = (clean + following * noise)[fixed]
            tick()
        return x

    def sample_images(self, tick: Callable[[], None]) -> Sequence[Tensor]:
        """Some frames, and below each the sample of its landmarks."""
        count = 1 if self.parts.motion else SHOWN_FRAMES
        settings = {"references": False, "previous": self.config.previous}
        batch = self.data.batch(0, count, 0, self.config.resolution, **settings)
        frames = torch.linspace(0, batch.frames.shape[0] * batch.frames.shape[1] - 1, SHOWN_FRAMES).long()
        decoded = self.frozen.codec.decode(
            self.draw(batch, self.config.trainer.seed, tick=tick)[frames.to(self._device)]
        )
        pairs = torch.cat([batch.frames.flatten(0, 1)[frames], decoded.float().cpu()], 2).clamp(-1, 1)
        return list(((pairs + 1) * 127.5).round().byte().permute(0, 2, 3, 1))

    def export(self, averages: Mapping[str, Tensor], out: Path, metadata: Mapping[str, str]) -> dict[str, Path]:
        """Load the averaged weights and write them to files."""
        with torch.no_grad():
            for name, parameter in self.trainable().items():
                parameter.copy_(averages[name])
        files = {"animate_net": save_animate_net(self.parts.net, out / NET_NAME, metadata)}
        files["controlnet"] = save_controlnet(self.parts.controlnet, out / CONTROL_NAME, metadata)
        if self.parts.motion is not None:
            files["motion"] = save_motion_modules(self.parts.motion, out / MOTION_NAME, metadata)
        if self.config.train_identity:
            self.faces.adapter.lora = {name: tensor.detach() for name, tensor in self.faces.lora.items()}
            files["identity"] = save_adapter(self.faces.adapter, out / ADAPTER_NAME, metadata)
        if self.config.train_unet:
            files["checkpoint"] = save_with_unet(
                self.config.checkpoint, self.frozen.unet, out / CHECKPOINT_NAME, metadata
            )
        return files

    def _with_context(self, noisy: Tensor, levels: Tensor, clean: Tensor, given_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Input latents and timesteps, with the context frames clean or noised as configured."""
        if self.config.given == "noised":
            return noisy, levels
        return torch.where(given_mask[:, None, None, None], clean, noisy), levels.masked_fill(given_mask, 0)

    def _noise(self, latents: Tensor, levels: Tensor, text: Tensor) -> Tensor:
        """Noise (R, 4, h, h) that the UNet predicts with the ControlNet's residuals."""
        unet = self.frozen.unet
        down, middle = self.parts.controlnet(latents, levels, text.float(), self._cues.hints, return_dict=False)
        self._features.maps = (*down, middle)
        text = text if self.faces is None else self.faces.behind(text)
        return unet(
            latents.to(unet.dtype),
            levels,
            text.to(unet.dtype),
            down_block_additional_residuals=[part.to(unet.dtype) for part in down],
            mid_block_additional_residual=middle.to(unet.dtype),
            return_dict=False,
        )[0]


class SpatialStage(AnimateStage):
    """AnimateNet without temporal attention: every frame by itself."""


class JointStage(AnimateStage):
    """Joint training with motion modules; clips continue context frames.

    Raises:
        InputError: no motion modules, or too few positions in them.
    """

    def __init__(
        self,
        frozen: FrozenParts,
        parts: AnimateParts,
        data: VideoData,
        config: AnimateTraining,
        faces: ClipFaces | None = None,
    ) -> None:
        if parts.motion is None:
            raise InputError("the joint stage trains motion modules too; give some, or make new ones.")
        super().__init__(frozen, parts, data, config, faces)
        parts.motion.float().requires_grad_(True)

    def __enter__(self) -> JointStage:
        """Bind AnimateNet to its ControlNet, and motion modules to the UNet."""
        self._open.enter_context(bind_motion(self.frozen.unet, self.parts.motion, self.config.frames))
        super().__enter__()
        return self

    def given_mask(self, size: int, length: int, generator: torch.Generator) -> Tensor:
        """(B, F) bool mask of context frames: the first 1 to `overlap` frames of some clips."""
        chance = torch.rand(size, generator=generator) < self.config.given_share
        counts = torch.randint(1, max(self.config.overlap, 1) + 1, (size,), generator=generator)
        counts = (counts * chance).clamp(max=self.config.overlap)
        return torch.arange(length)[None] < counts[:, None]


@dataclass(frozen=True)
class AnimateResult:
    """Files and result of a training."""

    # averaged weights: controlnet, animate_net, and motion of the joint stage; identity, checkpoint where they learnt
    files: Mapping[str, Path]
    training: TrainingResult
    dropped: tuple[tuple[str, str], ...] = ()  # name of a video whose face was not found, and reason


def train_animate(config: AnimateTraining, on_progress: Progress | None = None) -> AnimateResult:
    """Train one of AnimateNet's stages, resuming from its last checkpoint.

    Args:
        config: everything.
        on_progress: called with steps done and steps in all; may raise to stop.

    Raises:
        InputError: the data or a weight file cannot be used, or `config.out` holds another run.
        MissingDependency: diffusers, accelerate or face models are absent.
        OutputError: `config.out` cannot be written.
    """
    check_writable(make_folder(config.out) / NET_NAME)
    base = load_sd15(config.checkpoint)
    missing = [name for name in ("vae", "text_encoder") if getattr(base, name) is None]
    if missing:
        raise InputError(f"{config.checkpoint.name} lacks {' and '.join(missing)}; give a complete SD1.5 checkpoint.")
    notify = on_progress or (lambda *_: None)
    videos = read_videos(config.data, config.clip_frames)
    data, faces, left_out = read_faces(videos, config, lambda: notify(0, config.trainer.steps))
    tokenizer = find_tokenizer(config.tokenizer) if any(video.caption for video in data.videos) else None
    frozen = FrozenParts(base.unet, VaeLatentCodec(base.vae), ClipTexts(base.text_encoder, tokenizer))
    kind = JointStage if config.stage == "joint" else SpatialStage
    with kind(frozen, make_parts(base.unet, config), data, config, faces) as stage:
        training = train_stage(stage, config.trainer, config.out, on_progress)
        card = {"steps": str(training.steps), "settings_sha256": training.settings_hash, "weights": "ema"}
        files = stage.export(training.averages, config.out, card)
    return AnimateResult(files, training, left_out)
