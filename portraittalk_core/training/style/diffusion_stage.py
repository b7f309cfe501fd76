"""SVP's first two fine-tuning stages: single frames, then consecutive frames with motion modules and audio layers.

Shapes: B clips, F frames of a clip, R = B · F frames, S side of pictures in pixels, h = S / 8.
Source: SVP, section 3.4 and equation 1; V-Express (Wang et al. 2024); `docs/design/styles.md` 5.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...diffusion.denoiser import Condition
from ...diffusion.motion_modules import bind_motion
from ...diffusion.samplers import sample
from ...diffusion.schedule import NUM_TIMESTEPS, schedule_sigmas
from ...layers.attention import POSITIVE
from ...renderers.vexpress.denoiser import HeadControl, denoiser_of, schedule_of_prediction
from ...renderers.vexpress.options import VExpressOptions
from ...renderers.vexpress.pipeline import sampling_of
from ...renderers.vexpress.reference import ReaderBlock, bank_of, read_bank, set_bank
from ...renderers.vexpress.unet import NOISE, VExpress
from ..data.video_clips import ClipBatch, VideoData
from ..loop.frozen import LatentCodec
from ..loop.stage import SingleLossStage
from .attention_base import file_mark
from .diffusion_config import MULTI, DiffusionTraining
from .diffusion_networks import save_networks, trained_parts
from .reference_frames import ReferenceFrames
from .speech_features import ClipFeatures
from .vexpress import drawn_heads

NO_EFFECT = ("out", "data", "checkpoint", "gradient_checkpointing", "sample_steps", "trainer")  # on what is learnt
SAMPLE_CLIPS = 4  # of the first videos, in a sample picture
SAMPLE_CFG = 3.5  # V-Express's guidance


@dataclass(frozen=True)
class ReferredBatch:
    """Batch of clips with reference frames and speech features."""

    clips: ClipBatch
    references: Tensor  # (B, 3, S, S) in −1..1, the person at another time
    features: Tensor | None  # (B, F, 10, D); None in the stage of single frames


class DiffusionStage(SingleLossStage):
    """Training stage of the denoising UNet and what stands around it; motion modules act inside a `with` block only.

    Args:
        networks: of `diffusion_networks.starting_networks`; some of their weights change.
        codec: of pictures.
        data: clips of `config.clip_frames` frames.
        config: how.
        features: what is said in them; None in the stage of single frames.
    """

    def __init__(
        self,
        networks: VExpress,
        codec: LatentCodec,
        data: VideoData,
        config: DiffusionTraining,
        features: ClipFeatures | None = None,
    ) -> None:
        self.networks, self.codec, self.data, self.config, self.features = networks, codec, data, config, features
        self._frames = ReferenceFrames(data)
        self._device, self._open = torch.device("cpu"), contextlib.ExitStack()
        for network in self._all():
            network.eval().requires_grad_(False)
        self._trained = trained_parts(networks, config.stage)
        for weight in self._trained.values():
            weight.requires_grad_(True)
        sigmas = schedule_sigmas(schedule_of_prediction(networks.prediction))
        self._alpha_bars = (1 / (1 + sigmas**2)).float()

    def _all(self) -> list[nn.Module]:
        networks = self.networks
        parts = (networks.unet, networks.reference, networks.guider, networks.motion, networks.projection)
        return [network for network in parts if network is not None]

    def __enter__(self) -> DiffusionStage:
        """Bind the motion modules, with full weights of reference and, if it is heard, audio."""
        reading, unet = self.networks.reading, self.networks.unet
        reading.reference_weight, reading.audio_weight = 1.0, float(self.config.stage == MULTI)
        reading.labels = (POSITIVE,)
        if self.config.gradient_checkpointing:
            unet.enable_gradient_checkpointing(_recomputed)
        if self.config.stage == MULTI:
            self._open.enter_context(bind_motion(unet, self.networks.motion, self.config.frames))
        return self

    def __exit__(self, *error: object) -> None:
        """Unbind everything."""
        self._open.close()
        self.networks.unet.disable_gradient_checkpointing()
        self.networks.reading.kps = None
        read_bank(self.networks.unet, None)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The weights of the stage, see `diffusion_networks.trained_parts`."""
        return self._trained

    def num_samples(self) -> int:
        """Number of clips."""
        return len(self.data)

    def settings(self) -> dict[str, object]:
        """Settings that the learnt weights depend on, besides the trainer's."""
        values = {f.name: getattr(self.config, f.name) for f in dataclasses.fields(self.config)}
        named = {name: _marked(value) for name, value in values.items() if name not in NO_EFFECT}
        fingerprint = None if self.features is None else self.features.fingerprint()
        return {**named, "prediction": self.networks.prediction, "data": self.data.fingerprint(), "heard": fingerprint}

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device; a network of which nothing is trained also to a type."""
        self._device = device
        for network in self._all():
            trains = any(weight.requires_grad for weight in network.parameters())
            nn.Module.to(network, device, torch.float32 if trains else dtype)  # diffusers' own warns of nothing
        self.codec.to(device, dtype)
        self._alpha_bars = self._alpha_bars.to(device)

    def batch(self, step: int, part: int) -> ReferredBatch:
        """The clips of a step's part."""
        trainer = self.config.trainer
        number = trainer.batch_number(step, part)
        clips = self.data.batch(number, trainer.batch_size, trainer.seed, self.config.resolution)
        return self._referred(clips, np.random.default_rng([trainer.seed, 4, number]))

    def _referred(self, clips: ClipBatch, rng: np.random.Generator) -> ReferredBatch:
        pairs = list(zip(clips.videos, clips.starts, strict=True))
        places = [self._frames.place(*pair, rng) for pair in pairs]
        references = torch.stack([self._frames.picture(place, self.config.resolution) for place in places])
        if self.features is None:
            return ReferredBatch(clips, references, None)
        length = self.data.num_frames
        features = [self.features(video, start, start + length) for video, start in pairs]
        return ReferredBatch(clips, references, torch.stack(features))

    def loss(self, batch: ReferredBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The weighted error of the UNet's prediction; some clips have neither reference nor head nor sound."""
        size, length = batch.clips.frames.shape[:2]
        keep_mask = (torch.rand(size, generator=generator) >= self.config.drop).to(self._device)
        clean = self.codec.encode(batch.clips.frames.flatten(0, 1).to(self._device))
        levels = torch.randint(NUM_TIMESTEPS, (size,), generator=generator).repeat_interleave(length).to(self._device)
        noise = torch.randn(clean.shape, generator=generator)
        if self.config.noise_offset:
            noise = noise + self.config.noise_offset * torch.randn(*clean.shape[:2], 1, 1, generator=generator)
        noise = noise.to(self._device)
        alpha_bars = self._alpha_bars[levels].view(-1, 1, 1, 1)
        noisy = alpha_bars.sqrt() * clean + (1 - alpha_bars).sqrt() * noise
        predicted = self.predicted(batch, noisy, levels, keep_mask)
        errors = (predicted.float() - self._target(clean, noise, alpha_bars)).square().mean((1, 2, 3))
        if self.config.snr_limit:
            errors = errors * self._weights(alpha_bars.flatten())
        return errors.mean(), {"dropped": 1 - float(keep_mask.float().mean())}

    def _target(self, clean: Tensor, noise: Tensor, alpha_bars: Tensor) -> Tensor:
        """The noise (SVP, equation 1); of V-Express's own networks, the velocity."""
        if self.networks.prediction == NOISE:
            return noise
        return alpha_bars.sqrt() * noise - (1 - alpha_bars).sqrt() * clean

    def _weights(self, alpha_bars: Tensor) -> Tensor:
        """Loss weights (R,): min(SNR, limit), over SNR for the noise and over SNR + 1 for the velocity.

        Source: Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy".
        """
        limited = torch.minimum(alpha_bars, self.config.snr_limit * (1 - alpha_bars))  # min(SNR, limit) / (SNR + 1)
        return limited / alpha_bars if self.networks.prediction == NOISE else limited

    def predicted(self, batch: ReferredBatch, noisy: Tensor, levels: Tensor, kept: Tensor) -> Tensor:
        """The UNet's prediction (R, 4, h, h).

        Args:
            batch: the clips.
            noisy: (R, 4, h, h) latents.
            levels: (R,) timesteps.
            kept: (B,) bool, False for clips that are shown nothing. An empty reference is a bank of zeros, whose
                values are zeros too, since they have no bias.
        """
        networks, length = self.networks, batch.clips.frames.shape[1]
        keep = kept.float()
        bank = bank_of(networks.reference, self.codec.encode(batch.references.to(self._device)))
        rows = [(tokens * keep[:, None, None]).repeat_interleave(length, 0) for tokens in bank]
        set_bank(networks.unet, tuple(rows))
        head_drawings = [
            drawn_heads(track, self.config.resolution, networks.guider_points) for track in batch.clips.tracks
        ]
        kps = networks.guider(torch.cat(head_drawings).to(networks.guider.conv_in.weight))
        networks.reading.kps = kps * keep.repeat_interleave(length)[:, None, None, None]
        audio = self._audio(batch.features, keep)
        like = networks.unet.conv_in.weight
        return networks.unet(noisy.to(like), levels, audio.to(like), return_dict=False)[0]

    def _audio(self, features: Tensor | None, keep: Tensor) -> Tensor:
        """(R, 5, C) audio tokens; one of zeros (R, 1, C), which nothing looks at, where nothing is heard."""
        width = self.networks.unet.config.cross_attention_dim
        if features is None:
            return torch.zeros(len(keep), 1, width, device=self._device)
        tokens = self.networks.projection(features.flatten(0, 1).to(self._device))
        return tokens * keep.repeat_interleave(features.shape[1])[:, None, None]

    @torch.no_grad()
    def sample_images(self, tick: Callable[[], None]) -> Sequence[Tensor]:
        """Of some clips, side by side: the reference, then key points, sample and truth of some frames."""
        pictures = []
        for index in torch.linspace(0, len(self.data) - 1, min(SAMPLE_CLIPS, len(self.data))).round().long().tolist():
            clips = self.data.at([self.data.clip_at(index)], self.config.resolution)
            batch = self._referred(clips, np.random.default_rng(0))
            made = self.sampled(batch, tick).cpu()
            heads = 2 * drawn_heads(clips.tracks[0], self.config.resolution, self.networks.guider_points) - 1
            sampled = sorted({0, len(made) // 2, len(made) - 1})
            parts = [batch.references[0]]
            parts += [part for frame in sampled for part in (heads[frame], made[frame], clips.frames[0, frame])]
            strip = torch.cat(parts, 2).clamp(-1, 1)
            pictures.append(((strip + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous())
        return pictures

    @torch.no_grad()
    def sampled(self, batch: ReferredBatch, tick: Callable[[], None] = lambda: None) -> Tensor:
        """Sample the frames (F, 3, S, S), about −1..1, of a batch of one clip, by Euler's method with guidance."""
        networks, config = self.networks, self.config
        side, length = config.resolution, batch.clips.frames.shape[1]
        options = VExpressOptions(side, side, config.sample_steps, seed=config.trainer.seed)
        drawings = drawn_heads(batch.clips.tracks[0], side, networks.guider_points).to(self._device)
        control = HeadControl(networks, lambda frames: drawings[list(frames)])
        control.frames = range(length)
        audio = self._audio(batch.features, torch.ones(1 if batch.features is None else len(batch.features)))
        audio = audio.expand(length, -1, -1) if batch.features is None else audio
        noise = torch.randn(
            length, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(config.trainer.seed)
        ).to(self._device)
        read_bank(networks.unet, bank_of(networks.reference, self.codec.encode(batch.references.to(self._device))))
        try:
            denoiser = denoiser_of(networks, control)
            cond = Condition(audio, None, SAMPLE_CFG)
            sampling = sampling_of(networks, options)
            latents = sample(denoiser, torch.zeros_like(noise), noise, cond, sampling, lambda *_: tick())
        finally:
            read_bank(networks.unet, None)
            networks.reading.labels = (POSITIVE,)
        return self.codec.decode(latents).float()

    def export(self, averages: Mapping[str, Tensor], folder: Path, metadata: Mapping[str, str]) -> dict[str, Path]:
        """Load the averaged weights, and write all networks as V-Express's files."""
        with torch.no_grad():
            for name, weight in self._trained.items():
                weight.copy_(averages[name])
        return save_networks(self.networks, folder, metadata)


def _marked(value: object) -> object:
    if isinstance(value, Path):
        return file_mark(value)
    return [file_mark(path) for path in value] if isinstance(value, tuple) else value


def _recomputed(module: nn.Module, *inputs: object) -> Tensor:
    """Gradient checkpointing of a block of the UNet."""
    if isinstance(module, ReaderBlock):
        inputs = inputs[0], inputs[2]  # hidden states and audio tokens; between them is a mask, behind them more
    return checkpoint(module, *inputs, use_reentrant=False, preserve_rng_state=False)
