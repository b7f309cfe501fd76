"""Style attention's training on V-Express: what its UNet is shown of every clip, and the velocity that it is to tell.

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
from ...diffusion.schedule import ZERO_SNR
from ...diffusion.vae import load_vae
from ...errors import InputError
from ...layers.attention import NEGATIVE, POSITIVE
from ...layers.temporal import check_frames
from ...progress import Progress
from ...renderers.vexpress.head_keypoints import draw_three, three_points
from ...renderers.vexpress.load import SUFFIXES, load_vexpress
from ...renderers.vexpress.reference import Bank, ReaderBlock, blocks_of, read_bank, write_bank
from ...renderers.vexpress.unet import VExpress
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
from .vexpress_audio import Heard, Listener, TokenFiles, hear_videos

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

HEARD = "heard"  # the folder of the videos' audio tokens


@dataclass(frozen=True)
class VExpressParts:
    """What the attention learns to work with; all frozen."""

    networks: VExpress
    codec: LatentCodec
    heard: Heard


@dataclass(frozen=True, eq=False)
class _Cues:
    """What the UNet's blocks read while they work on one clip."""

    bank: Bank
    label: str
    kps: Tensor | None  # (F, C, h, w)
    styles: FrameStyles


class VExpressStyleStage(StyleStage):
    """The training on V-Express, whose UNet tells the velocity and reads a reference, key points and what is heard.

    Clip goes after clip through the UNet, since it reads one reference at a time; the gradients' memory grows with the
    batch all the same.

    Args:
        parts: none of their weights changes.
        net: what learns; of plain styles.
        data: whom to learn from; what is heard is of the same videos.
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
        super().__init__(net, data, config, ZERO_SNR)
        networks = parts.networks
        check_frames(config.clip_frames, networks.motion.length)
        for one in (networks.unet, networks.motion, networks.reference, networks.guider):
            one.eval().requires_grad_(False)
        self.parts, self._shown = parts, None

    @property
    def unet(self) -> UNet2DConditionModel:
        """V-Express's, which reads."""
        return self.parts.networks.unet

    def settings(self) -> dict[str, object]:
        """As every stage's, with the base."""
        files = sorted(file_mark(file) for path in self.config.vexpress for file in _weight_files(path))
        more = {"trained_on": self.trained_on, "vexpress": files, "heard": self.parts.heard.fingerprint()}
        return {**super().settings(), **more}

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Let the motion modules act, and the reference and the audio with all their weight."""
        networks, config = self.parts.networks, self.config
        reading, weights = networks.reading, (networks.reading.reference_weight, networks.reading.audio_weight)
        reading.reference_weight = reading.audio_weight = 1.0
        if config.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing(self._again)
        try:
            with bind_motion(self.unet, networks.motion, config.clip_frames):
                yield
        finally:
            self._shown = reading.kps = None
            reading.labels, (reading.reference_weight, reading.audio_weight) = (POSITIVE,), weights
            read_bank(self.unet, None)
            self.unet.disable_gradient_checkpointing()

    def place_frozen(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device; all but the motion modules also to a type."""
        networks = self.parts.networks
        for one in (networks.unet, networks.reference, networks.guider):
            nn.Module.to(one, device, dtype)  # diffusers' own warns of nothing
        networks.motion.to(device)
        self.parts.codec.to(device, dtype)

    def encoded(self, pictures: Tensor) -> Tensor:
        """Latents (R, 4, h, h) of pictures (R, 3, S, S)."""
        return self.parts.codec.encode(pictures)

    def target(self, clean: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
        """The velocity (Salimans & Ho 2022, section 4)."""
        return kept.sqrt() * noise - (1 - kept).sqrt() * clean

    def weights(self, kept: Tensor) -> Tensor:
        """min(SNR, limit) / (SNR + 1), which is 0 where all is noise.

        Source: Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy", for the velocity.
        """
        return torch.minimum(kept, self.config.snr_limit * (1 - kept))  # SNR = kept / (1 − kept)

    def predicted(self, batch: StyledBatch, noisy: Tensor, levels: Tensor, styles: Tensor, dropped: Tensor) -> Tensor:
        """The UNet's velocity (R, 4, h, h); dropped clips have no reference, key points, sound or style."""
        unet, length, parts = self.unet, batch.clips.frames.shape[1], []
        for clip, (frames, level) in enumerate(zip(noisy.split(length), levels.split(length), strict=True)):
            drop = bool(dropped[clip])
            start = batch.clips.starts[clip]
            audio = self.parts.heard(batch.clips.videos[clip], start, start + length)
            audio = (torch.zeros_like(audio) if drop else audio).to(self._device, unet.dtype)
            # a style of no strength, rather than none, keeps the loss a function of what learns
            style = FrameStyles(styles[clip][None], torch.tensor([float(not drop)]))
            self._show(_Cues(self._nothing(), NEGATIVE, None, style) if drop else self._cues(batch, clip, style))
            parts.append(unet(frames.to(unet.dtype), level, audio, return_dict=False)[0])
        return torch.cat(parts)

    @torch.no_grad()
    def _cues(self, batch: StyledBatch, clip: int, style: FrameStyles) -> _Cues:
        """What a clip is shown: its reference, and its own head."""
        networks = self.parts.networks
        latents = self.encoded(batch.references[clip][None].to(self._device))
        drawings = drawn_heads(batch.clips.tracks[clip], self.config.resolution)
        kps = networks.guider(drawings.to(networks.guider.conv_in.weight))
        return _Cues(write_bank(networks.reference, latents), POSITIVE, kps, style)

    def _nothing(self) -> Bank:
        """An empty bank."""
        layers = [block.attn1_5.to_k for block in blocks_of(self.unet)]
        return tuple(torch.zeros(1, 1, layer.in_features, device=self._device) for layer in layers)

    def _show(self, cues: _Cues) -> None:
        """Let the UNet's blocks read what a clip is shown."""
        if cues is self._shown:
            return
        read_bank(self.unet, cues.bank)
        reading = self.parts.networks.reading
        reading.labels, reading.kps, self._run.styles = (cues.label,), cues.kps, cues.styles
        self._shown = cues

    def _again(self, module: nn.Module, *given: object) -> Tensor:
        """A part of the UNet whose inner values are not kept but made again, of the clip that is at work now."""
        cues = self._shown
        if isinstance(module, ReaderBlock):
            given = given[0], given[2]  # hidden states and audio tokens; between them is a mask, behind them more

        def call(*given: Tensor) -> Tensor:
            self._show(cues)  # when values are made again, the UNet may be at another clip already
            return module(*given)

        return checkpoint(call, *given, use_reentrant=False, preserve_rng_state=False)


def drawn_heads(track: LandmarkTrack, side_px: int) -> Tensor:
    """(F, 3, S, S) float 0..1: V-Express's drawing of the key points of every frame.

    Args:
        track: on square pictures, of any size.
        side_px: S.
    """
    points = three_points(track) * (side_px / track.width)
    return torch.stack(list(draw_three(points, side_px, side_px))).permute(0, 3, 1, 2).float() / 255


def read_vexpress(
    config: StyleAttentionTraining, on_progress: Progress | None = None
) -> tuple[VExpressParts, StyledVideos, tuple[tuple[str, str], ...]]:
    """What a configuration names: V-Express, the videos, and the videos without sound, with reasons.

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
        load_speech_encoder(config.speech_encoder, device), networks.projection.to(device), config.out / HEARD
    )
    videos = read_videos(config.data, config.clip_frames)
    videos, files, dropped = hear_videos(config.data, videos, listener, on_progress)
    networks.projection.cpu()
    data = read_styled(config, videos, on_progress=on_progress)
    heard = TokenFiles([files[video.name] for video in data.data.videos])
    return VExpressParts(networks, VaeLatentCodec(vae), heard), data, dropped


def _weight_files(path: Path) -> list[Path]:
    return [inner for inner in path.iterdir() if inner.suffix in SUFFIXES] if path.is_dir() else [path]
