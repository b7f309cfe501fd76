"""Training of style attention on SD1.5 or V-Express, and the stage on SD1.5.

Shapes: B clips, F frames of a clip, R = B · F frames, S side of pictures in pixels, h = S / 8, D numbers of a style.
Source: SVP, section 3.4, third stage; `docs/design/styles.md` 5.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...diffusion.checkpoint import load_sd15
from ...diffusion.schedule import schedule_of
from ...diffusion.sites import SITES
from ...diffusion.text import find_tokenizer
from ...errors import InputError
from ...media.files import check_writable, make_folder
from ...progress import Progress
from ...style.attention import FrameStyles
from ...style.attention_files import BASE, StyleSizes
from ...style.projection import StyleAttention, load_style_attention, new_style_attention
from ..data.video_clips import read_videos
from ..identitynet.stage import FrozenParts
from ..loop.frozen import ClipTexts, VaeLatentCodec
from ..loop.trainer import TrainingResult, train_stage
from .attention_base import StyleStage, standardised
from .attention_data import StyledBatch, StyledVideos, read_styled
from .attention_parts import BoundConditioners, Conditioners, face_describer, load_conditioners
from .config import StyleAttentionTraining
from .vexpress import VExpressStyleStage, read_vexpress

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

ATTENTION_NAME = "style_attention.safetensors"
Dropped = tuple[tuple[str, str], ...]  # names of videos, and reasons


class StyleAttentionStage(StyleStage):
    """Training stage on SD1.5: noise prediction with text and optional conditioners.

    Args:
        frozen: none of their weights changes.
        net: what learns; of plain styles.
        data: whom to learn from.
        config: how.
        conditioners: other networks that act; none of their weights changes.

    Raises:
        InputError: clips of another length, or styles of another space, than the attention is for.
    """

    trained_on = BASE
    foreign = ("vexpress", "speech_encoder")

    def __init__(
        self,
        frozen: FrozenParts,
        net: StyleAttention,
        data: StyledVideos,
        config: StyleAttentionTraining,
        conditioners: Conditioners | None = None,
    ) -> None:
        conditioners = conditioners or Conditioners()
        super().__init__(net, data, config, schedule_of(conditioners.motion))
        self.frozen = frozen
        frozen.unet.eval().requires_grad_(False)
        if config.gradient_checkpointing:
            frozen.unet.enable_gradient_checkpointing()
        self._bound = BoundConditioners(conditioners, config.clip_frames)

    @property
    def unet(self) -> UNet2DConditionModel:
        """SD1.5's UNet."""
        return self.frozen.unet

    def bound(self) -> AbstractContextManager[None]:
        """Bind the conditioners to the UNet."""
        return self._bound.bound(self.unet)

    def place_frozen(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device and a type; of the conditioners only the ControlNet to the type."""
        nn.Module.to(self.unet, device, dtype)  # diffusers' own warns of nothing
        self.frozen.codec.to(device, dtype)
        self.frozen.texts.to(device, dtype)
        self._bound.to(device, dtype)

    def encoded(self, pictures: Tensor) -> Tensor:
        """Latents (R, 4, h, h) of pictures (R, 3, S, S)."""
        return self.frozen.codec.encode(pictures)

    def target(self, clean: Tensor, noise: Tensor, alpha_bars: Tensor) -> Tensor:
        """The noise."""
        return noise

    def weights(self, alpha_bars: Tensor) -> Tensor:
        """min(SNR, limit) / SNR (Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy")."""
        return (self.config.snr_limit * (1 - alpha_bars) / alpha_bars).clamp(max=1)

    def predicted(self, batch: StyledBatch, noisy: Tensor, levels: Tensor, styles: Tensor, dropped: Tensor) -> Tensor:
        """The UNet's noise (R, 4, h, h); dropped clips have neither style nor text nor face."""
        unet, length = self.unet, batch.clips.frames.shape[1]
        styles = styles.repeat_interleave(length, 0)
        self._run.styles = FrameStyles(styles, (~dropped).float().repeat_interleave(length))
        captions = [
            "" if drop else caption for caption, drop in zip(batch.clips.captions, dropped.tolist(), strict=True)
        ]
        text = self.frozen.texts.tokens([caption for caption in captions for _ in range(length)])
        faces = batch.face_embeds
        if faces is not None:
            faces = faces.masked_fill(dropped[:, None], 0.0).repeat_interleave(length, 0)
        config = self.config
        self._bound.set_batch(batch.clips, faces, config.resolution, config.drawing, self._device)
        noisy, text = noisy.to(unet.dtype), text.to(unet.dtype)
        more = self._bound.control(noisy, levels, text)
        return unet(noisy, levels, text, return_dict=False, **more)[0]


@dataclass(frozen=True)
class StyleAttentionResult:
    """File and result of a training."""

    attention: Path  # averaged weights
    space: str  # of the styles it knows
    training: TrainingResult
    trained_on: str = StyleAttentionStage.trained_on  # the base that it acts in
    dropped: Dropped = ()  # videos that were left out, and why


def train_style_attention(config: StyleAttentionTraining, on_progress: Progress | None = None) -> StyleAttentionResult:
    """Train a UNet's style attention, resuming from its last checkpoint.

    Args:
        config: everything.
        on_progress: called with steps done and steps in all; may raise to stop.

    Raises:
        InputError: the data or a weight file cannot be used, or `config.out` holds another run.
        MissingDependency: diffusers, accelerate or a weight file is absent.
        OutputError: `config.out` cannot be written.
    """
    notify = on_progress or (lambda *_: None)
    check_writable(make_folder(config.out) / ATTENTION_NAME)
    make = _on_sd15 if config.vexpress is None else _on_vexpress
    ready, dropped = make(config, lambda *_: notify(0, config.trainer.steps))
    with ready as stage:
        training = train_stage(stage, config.trainer, config.out, notify)
        card = {"steps": str(training.steps), "settings_sha256": training.settings_hash, "weights": "ema"}
        path = stage.export(training.averages, config.out / ATTENTION_NAME, card)
    return StyleAttentionResult(path, stage.data.space, training, stage.trained_on, dropped)


def _on_sd15(config: StyleAttentionTraining, on_progress: Progress) -> tuple[StyleStage, Dropped]:
    base = load_sd15(config.checkpoint)
    missing = [name for name in ("vae", "text_encoder") if getattr(base, name) is None]
    if missing:
        raise InputError(f"{config.checkpoint.name} lacks {' and '.join(missing)}; give a complete SD1.5 checkpoint.")
    videos = read_videos(config.data, config.clip_frames)
    describe = None if config.identity is None else face_describer(config.face_models)
    data = read_styled(config, videos, describe, on_progress)
    tokenizer = find_tokenizer(config.tokenizer) if any(video.caption for video in data.data.videos) else None
    frozen = FrozenParts(base.unet, VaeLatentCodec(base.vae), ClipTexts(base.text_encoder, tokenizer))
    net = starting_attention(base.unet, data, config)
    return StyleAttentionStage(frozen, net, data, config, load_conditioners(base.unet, config)), ()


def _on_vexpress(config: StyleAttentionTraining, on_progress: Progress) -> tuple[StyleStage, Dropped]:
    parts, data, dropped = read_vexpress(config, on_progress)
    net = starting_attention(parts.networks.unet, data, config)
    return VExpressStyleStage(parts, net, data, config), dropped


def starting_attention(
    unet: UNet2DConditionModel, data: StyledVideos, config: StyleAttentionTraining
) -> StyleAttention:
    """Initial style attention: a file's, or a new one with zero output.

    A new one's projection is initialised for standardised styles.

    Raises:
        InputError: the file is for styles of another space.
    """
    if config.start is not None:
        return load_style_attention(config.start).train()
    widths = {site.adapter_key: unet.get_submodule(site.attention(2)).to_q.out_features for site in SITES}
    sizes = StyleSizes(widths, data.space, data.width, unet.config.cross_attention_dim, config.num_tokens)
    new = new_style_attention(sizes, config.trainer.seed)
    return standardised(new, -data.centre / data.scale, 1 / data.scale)
