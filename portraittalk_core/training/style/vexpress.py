"""Training stage of style attention on V-Express: conditions of each clip, and velocity prediction.

Shapes: B clips, F frames of a clip, R = B · F frames, T frames of a video, S side of pictures in pixels, h = S / 8, D
numbers of a style, C channels of the audio tokens.
Source: SVP, sections 3.3 and 3.4, third stage; V-Express (Wang et al. 2024); `docs/design/styles.md` 5;
`docs/design/vexpress.md` 1, 4, 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...diffusion.latents import TinyVae
from ...diffusion.motion_modules import bind_motion
from ...diffusion.vae import load_vae
from ...errors import InputError
from ...layers.attention import NEGATIVE, POSITIVE
from ...layers.temporal import check_frames
from ...progress import Progress
from ...renderers.vexpress.denoiser import schedule_of_prediction
from ...renderers.vexpress.head_keypoints import draw_heads, key_points
from ...renderers.vexpress.load import SUFFIXES, load_vexpress
from ...renderers.vexpress.reference import Bank, ReaderBlock, blocks_of, read_bank, write_bank
from ...renderers.vexpress.unet import NOISE, VExpress
from ...speech.encoders import load_speech_encoder
from ...style.attention import FrameStyles
from ...style.attention_files import VEXPRESS
from ...style.projection import StyleAttention
from ...types import LandmarkTrack
from ..data.video_clips import read_videos
from ..loop.frozen import LatentCodec, VaeLatentCodec
from .attention_base import StyleStage, file_mark
from .attention_data import StyledBatch, StyledVideos, read_styled
from .config import StyleAttentionTraining
from .vexpress_audio import AudioTokens, Listener, TokenFiles, hear_videos

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

TOKENS_FOLDER = "heard"  # the folder of the videos' audio tokens


@dataclass(frozen=True)
class VExpressParts:
    """Frozen networks and audio tokens around the attention."""

    networks: VExpress
    codec: LatentCodec
    tokens: AudioTokens


@dataclass(frozen=True, eq=False)
class _Cues:
    """Conditions of the UNet's blocks for one clip."""

    bank: Bank
    label: str
    kps: Tensor | None  # (F, C, h, w)
    styles: FrameStyles


class VExpressStyleStage(StyleStage):
    """Training stage on V-Express: velocity prediction with a reference, key points and audio tokens.

    Clip goes after clip through the UNet, since it reads one reference at a time; the gradients' memory grows with the
    batch all the same.

    Args:
        parts: none of their weights changes.
        net: what learns; of plain styles.
        data: whom to learn from; the audio tokens are of the same videos.
        config: how.

    Raises:
        InputError: clips of another length, or styles of another space, than the attention is for, or longer clips
            than the motion modules know.
    """

    trained_on = VEXPRESS
    sees_references = True
    foreign = ("controlnet", "animate_net", "motion", "identity", "drawing", "vexpress")

    def __init__(
        self, parts: VExpressParts, net: StyleAttention, data: StyledVideos, config: StyleAttentionTraining
    ) -> None:
        super().__init__(net, data, config, schedule_of_prediction(parts.networks.prediction))
        networks = parts.networks
        check_frames(config.clip_frames, networks.motion.length)
        for network in (networks.unet, networks.motion, networks.reference, networks.guider):
            network.eval().requires_grad_(False)
        self.parts, self._current = parts, None

    @property
    def unet(self) -> UNet2DConditionModel:
        """V-Express's denoising UNet."""
        return self.parts.networks.unet

    def settings(self) -> dict[str, object]:
        """The stage's settings, and V-Express's files."""
        files = sorted(file_mark(file) for path in self.config.vexpress for file in _weight_files(path))
        more = {"trained_on": self.trained_on, "vexpress": files, "heard": self.parts.tokens.fingerprint()}
        return {**super().settings(), **more}

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Bind the motion modules, with full weights of reference and audio."""
        networks, config = self.parts.networks, self.config
        reading, weights = networks.reading, (networks.reading.reference_weight, networks.reading.audio_weight)
        reading.reference_weight = reading.audio_weight = 1.0
        if config.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing(self._recomputed)
        try:
            with bind_motion(self.unet, networks.motion, config.clip_frames):
                yield
        finally:
            self._current = reading.kps = None
            reading.labels, (reading.reference_weight, reading.audio_weight) = (POSITIVE,), weights
            read_bank(self.unet, None)
            self.unet.disable_gradient_checkpointing()

    def place_frozen(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device; all but the motion modules also to a type."""
        networks = self.parts.networks
        for network in (networks.unet, networks.reference, networks.guider):
            nn.Module.to(network, device, dtype)  # diffusers' own warns of nothing
        networks.motion.to(device)
        self.parts.codec.to(device, dtype)

    def encoded(self, pictures: Tensor) -> Tensor:
        """Latents (R, 4, h, h) of pictures (R, 3, S, S)."""
        return self.parts.codec.encode(pictures)

    def target(self, clean: Tensor, noise: Tensor, alpha_bars: Tensor) -> Tensor:
        """The velocity (Salimans & Ho 2022, section 4), or the noise of networks that predict it."""
        if self.parts.networks.prediction == NOISE:
            return noise
        return alpha_bars.sqrt() * noise - (1 - alpha_bars).sqrt() * clean

    def weights(self, alpha_bars: Tensor) -> Tensor:
        """min(SNR, limit) / (SNR + 1), which is 0 where all is noise; over SNR where noise is predicted.

        Source: Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy".
        """
        if self.parts.networks.prediction == NOISE:
            return (self.config.snr_limit * (1 - alpha_bars) / alpha_bars).clamp(max=1)
        return torch.minimum(alpha_bars, self.config.snr_limit * (1 - alpha_bars))  # SNR = ᾱ / (1 − ᾱ)

    def predicted(self, batch: StyledBatch, noisy: Tensor, levels: Tensor, styles: Tensor, dropped: Tensor) -> Tensor:
        """The UNet's velocity (R, 4, h, h); dropped clips have no reference, key points, sound or style."""
        unet, length, parts = self.unet, batch.clips.frames.shape[1], []
        for clip, (frames, level) in enumerate(zip(noisy.split(length), levels.split(length), strict=True)):
            drop = bool(dropped[clip])
            start = batch.clips.starts[clip]
            audio = self.parts.tokens(batch.clips.videos[clip], start, start + length)
            audio = (torch.zeros_like(audio) if drop else audio).to(self._device, unet.dtype)
            # a style of no strength, rather than none, keeps the loss a function of what learns
            style = FrameStyles(styles[clip][None], torch.tensor([float(not drop)]))
            self._set_cues(_Cues(self._nothing(), NEGATIVE, None, style) if drop else self._cues(batch, clip, style))
            parts.append(unet(frames.to(unet.dtype), level, audio, return_dict=False)[0])
        return torch.cat(parts)

    @torch.no_grad()
    def _cues(self, batch: StyledBatch, clip: int, style: FrameStyles) -> _Cues:
        """Conditions of a clip: its reference, and its head's key points."""
        networks = self.parts.networks
        latents = self.encoded(batch.references[clip][None].to(self._device))
        drawings = drawn_heads(batch.clips.tracks[clip], self.config.resolution, networks.guider_points)
        kps = networks.guider(drawings.to(networks.guider.conv_in.weight))
        return _Cues(write_bank(networks.reference, latents), POSITIVE, kps, style)

    def _nothing(self) -> Bank:
        """An empty reference bank."""
        layers = [block.attn1_5.to_k for block in blocks_of(self.unet)]
        return tuple(torch.zeros(1, 1, layer.in_features, device=self._device) for layer in layers)

    def _set_cues(self, cues: _Cues) -> None:
        """Set the conditions of the UNet's blocks."""
        if cues is self._current:
            return
        read_bank(self.unet, cues.bank)
        reading = self.parts.networks.reading
        reading.labels, reading.kps, self._run.styles = (cues.label,), cues.kps, cues.styles
        self._current = cues

    def _recomputed(self, module: nn.Module, *inputs: object) -> Tensor:
        """Gradient checkpointing of a block: activations are recomputed with the current clip's conditions."""
        cues = self._current
        if isinstance(module, ReaderBlock):
            inputs = inputs[0], inputs[2]  # hidden states and audio tokens; between them is a mask, behind them more

        def call(*inputs: Tensor) -> Tensor:
            self._set_cues(cues)  # at recomputation the UNet may be at another clip already
            return module(*inputs)

        return checkpoint(call, *inputs, use_reentrant=False, preserve_rng_state=False)


def drawn_heads(track: LandmarkTrack, side_px: int, count: int = 3) -> Tensor:
    """Key point images (F, 3, S, S), float 0..1.

    Args:
        track: on square pictures, of any size.
        side_px: S.
        count: points that the guider sees, 3 or 8.
    """
    points = key_points(track, count) * (side_px / track.width)
    return torch.stack(list(draw_heads(points, side_px, side_px))).permute(0, 3, 1, 2).float() / 255


def read_vexpress(
    config: StyleAttentionTraining, on_progress: Progress | None = None
) -> tuple[VExpressParts, StyledVideos, tuple[tuple[str, str], ...]]:
    """Load V-Express and the videos of a configuration; returns also the videos without sound, with reasons.

    Raises:
        MissingDependency: a file is absent.
        InputError: a file is something else, or does not fit; no video can be used.
    """
    vae = load_vae(config.checkpoint)  # before V-Express, so that the rest of its file is gone by then
    if isinstance(vae, TinyVae):
        raise InputError(f"{config.checkpoint.name} is a TAESD, too rough to train with; give SD1.5's VAE, or SD1.5.")
    networks = load_vexpress(config.vexpress)
    check_frames(config.clip_frames, networks.motion.length)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    listener = Listener(
        load_speech_encoder(config.speech_encoder, device), networks.projection.to(device), config.out / TOKENS_FOLDER
    )
    videos = read_videos(config.data, config.clip_frames)
    videos, files, dropped = hear_videos(config.data, videos, listener, on_progress)
    networks.projection.cpu()
    data = read_styled(config, videos, on_progress=on_progress)
    tokens = TokenFiles([files[video.name] for video in data.data.videos])
    return VExpressParts(networks, VaeLatentCodec(vae), tokens), data, dropped


def _weight_files(path: Path) -> list[Path]:
    return [inner for inner in path.iterdir() if inner.suffix in SUFFIXES] if path.is_dir() else [path]
