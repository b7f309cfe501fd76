"""Style attention's training: the UNet learns to look at a style, and nothing but what looks at it changes.

Shapes: B clips, F frames of a clip, R = B · F rows, S side of the pictures in pixels, h = S / 8, D numbers of a style.
Source: SVP, section 3.4, third stage; `design/svp.md` 3d.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..diffusion.branches import Batch
from ..diffusion.checkpoint import load_sd15
from ..diffusion.schedule import NUM_TIMESTEPS, schedule_of, schedule_sigmas
from ..diffusion.sites import SITES
from ..diffusion.style_attention import FrameStyles, StyleRun, bind_style
from ..diffusion.text import find_tokenizer
from ..errors import InputError
from ..media.atomic import check_writable, explain_write_errors
from ..speech.encoders import load_speech_encoder
from ..style.extractor import load_extractor
from ..style.features import WHISPER
from ..style.projection import StyleAttention, load_style_attention, new_style_attention, save_style_attention
from ..weights.style_attention_files import StyleSizes
from .frozen import ClipTexts, VaeCodec
from .identity_stage import FrozenParts
from .style_attention_data import StyledBatch, StyledVideos, read_priors
from .style_attention_parts import Company, Playing, face_describer, load_company
from .style_config import StyleAttentionTraining
from .trainer import TrainingResult, train_stage
from .video_data import read_videos

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

ATTENTION_NAME = "style_attention.safetensors"
NO_EFFECT = ("out", "data", "tokenizer", "face_models", "gradient_checkpointing", "trainer")  # on what is learnt
Progress = Callable[[int, int], None]


class StyleAttentionStage:
    """The attention's training, as `trainer.Stage` wants it; it acts on the UNet inside a `with` block only.

    Styles are told in spreads from the videos' middle while the attention learns, so that blinks a minute do not drown
    what counts in hundredths; what was learnt is turned back to plain styles when it is exported.

    Args:
        frozen: none of their weights changes.
        net: what learns; of plain styles.
        data: whom to learn from.
        config: how.
        company: other networks that act; none of their weights changes.

    Raises:
        InputError: clips of another length, or styles of another space, than the attention is for.
    """

    def __init__(
        self,
        frozen: FrozenParts,
        net: StyleAttention,
        data: StyledVideos,
        config: StyleAttentionTraining,
        company: Company | None = None,
    ) -> None:
        if data.data.num_frames != config.clip_frames:
            raise InputError(f"the data has clips of {data.data.num_frames} frames, this needs {config.clip_frames}.")
        net.check_space(data.space, "of the videos")
        self.frozen, self.data, self.config = frozen, data, config
        frozen.unet.eval().requires_grad_(False)
        if config.gradient_checkpointing:
            frozen.unet.enable_gradient_checkpointing()
        self._centre, self._scale = data.centre, data.scale
        self.net = in_spreads(net, self._centre, self._scale).float().train().requires_grad_(True)
        blank = FrameStyles(torch.zeros(1, data.width), torch.ones(1))
        self._run = StyleRun(self.net, blank, Batch())
        self._playing = Playing(company or Company(), config.clip_frames)
        sigmas = schedule_sigmas(schedule_of(self._playing.company.motion))
        self._alpha_bars = (1 / (1 + sigmas**2)).float()
        self._device, self._open = torch.device("cpu"), contextlib.ExitStack()

    def __enter__(self) -> StyleAttentionStage:
        """Let the attention and its company act on the UNet."""
        self._open.enter_context(self._playing.bound(self.frozen.unet))
        self._open.enter_context(bind_style(self.frozen.unet, self._run))
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the UNet as it was."""
        self._open.close()

    def trainable(self) -> dict[str, nn.Parameter]:
        """The tokens' projection and the attentions."""
        return dict(self.net.named_parameters())

    def settings(self) -> dict[str, object]:
        """Everything that what is learnt depends on, besides the trainer's own."""
        kept = {f.name: getattr(self.config, f.name) for f in dataclasses.fields(self.config)}
        named = {name: _file_mark(v) if isinstance(v, Path) else v for name, v in kept.items() if name not in NO_EFFECT}
        return {**named, "space": self.data.space, "data": self.data.fingerprint()}

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device; what is frozen also to a type."""
        self._device = device
        nn.Module.to(self.frozen.unet, device, dtype)  # diffusers' own warns of nothing
        self.frozen.codec.to(device, dtype)
        self.frozen.texts.to(device, dtype)
        self._playing.to(device, dtype)
        self.net.to(device)
        self._alpha_bars = self._alpha_bars.to(device)

    def batch(self, step: int, part: int) -> StyledBatch:
        """The clips of a step's part."""
        trainer = self.config.trainer
        number = (step - 1) * trainer.gradient_accumulation + part
        return self.data.batch(number, trainer.batch_size, trainer.seed, self.config.resolution)

    def loss(self, batch: StyledBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The noise's error with a style that is drawn anew; some clips have neither style nor text nor face."""
        dropped = torch.rand(len(batch.means), generator=generator) < self.config.drop
        drawn = batch.means + batch.deviations * torch.randn(batch.means.shape, generator=generator)
        return self.error(batch, drawn, dropped, generator), {"dropped": float(dropped.float().mean())}

    def error(self, batch: StyledBatch, styles: Tensor, dropped: Tensor, generator: torch.Generator) -> Tensor:
        """The weighted error of the noise for clips in styles of one's choice.

        Args:
            batch: the clips.
            styles: (B, D) as they are, not in spreads.
            dropped: (B,) bool, which clips have neither style nor text nor face.
            generator: of noise and noise levels.
        """
        size, length = batch.clips.frames.shape[:2]
        clean = self.frozen.codec.encode(batch.clips.frames.flatten(0, 1).to(self._device))
        levels = torch.randint(NUM_TIMESTEPS, (size,), generator=generator).repeat_interleave(length).to(self._device)
        noise = torch.randn(clean.shape, generator=generator).to(self._device)
        kept = self._alpha_bars[levels].view(-1, 1, 1, 1)
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        errors = (self._noise(batch, noisy, levels, styles, dropped).float() - noise).square().mean((1, 2, 3))
        if self.config.snr_limit:
            kept = kept.flatten()
            errors = errors * (self.config.snr_limit * (1 - kept) / kept).clamp(max=1)
        return errors.mean()

    def sample_images(self, tick: Callable[[], None]) -> Sequence[Tensor]:
        """No pictures: what a style does shows in whole videos only."""
        tick()
        return ()

    def export(self, averages: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> Path:
        """Write the averaged weights, of plain styles; the stage has them, in spreads, from then on."""
        with torch.no_grad():
            for name, parameter in self.trainable().items():
                parameter.copy_(averages[name])
        plain = in_spreads(self.net.cpu(), -self._centre / self._scale, 1 / self._scale)
        return save_style_attention(plain, path, {**metadata, "space": self.data.space})

    def _noise(self, batch: StyledBatch, noisy: Tensor, levels: Tensor, styles: Tensor, dropped: Tensor) -> Tensor:
        """The UNet's noise (R, 4, h, h)."""
        unet, length = self.frozen.unet, batch.clips.frames.shape[1]
        styles = ((styles - self._centre) / self._scale).repeat_interleave(length, 0)
        self._run.styles = FrameStyles(styles, (~dropped).float().repeat_interleave(length))
        captions = ["" if drop else said for said, drop in zip(batch.clips.captions, dropped.tolist(), strict=True)]
        text = self.frozen.texts.tokens([caption for caption in captions for _ in range(length)])
        faces = batch.face_embeds
        if faces is not None:
            faces = faces.masked_fill(dropped[:, None], 0.0).repeat_interleave(length, 0)
        config = self.config
        self._playing.look(batch.clips, faces, config.resolution, config.drawing, self._device)
        noisy, text = noisy.to(unet.dtype), text.to(unet.dtype)
        more = self._playing.control(noisy, levels, text)
        return unet(noisy, levels, text, return_dict=False, **more)[0]


def in_spreads(net: StyleAttention, centre: Tensor, scale: Tensor) -> StyleAttention:
    """A copy that does with (style − centre) / scale what the attention does with the style.

    Args:
        net: unchanged.
        centre: (D,)
        scale: (D,) above 0.
    """
    made = copy.deepcopy(net)
    proj = made.style_proj.proj
    with torch.no_grad():
        weight = proj.weight.double()
        proj.bias.copy_(proj.bias.double() + weight @ centre.double())
        proj.weight.copy_(weight * scale.double())
    return made


@dataclass(frozen=True)
class StyleAttentionResult:
    """What a training has made."""

    attention: Path  # averaged weights
    space: str  # of the styles it knows
    training: TrainingResult


def train_style_attention(config: StyleAttentionTraining, on_progress: Progress | None = None) -> StyleAttentionResult:
    """Train a UNet's attention to style, or go on with it where it was stopped.

    Args:
        config: everything.
        on_progress: called with steps done and steps in all; may raise to stop.

    Raises:
        InputError: the data or a weight file cannot be used, or `config.out` holds another run.
        MissingDependency: diffusers, accelerate or a weight file is absent.
        OutputError: `config.out` cannot be written.
    """
    tell = on_progress or (lambda *_: None)
    with explain_write_errors(config.out):
        config.out.mkdir(parents=True, exist_ok=True)
    check_writable(config.out / ATTENTION_NAME)
    base = load_sd15(config.checkpoint)
    lacks = [name for name in ("vae", "text_encoder") if getattr(base, name) is None]
    if lacks:
        raise InputError(f"{config.checkpoint.name} lacks {' and '.join(lacks)}; give a complete SD1.5 checkpoint.")
    data = _data(config, lambda *_: tell(0, config.trainer.steps))
    tokenizer = find_tokenizer(config.tokenizer) if any(video.caption for video in data.data.videos) else None
    frozen = FrozenParts(base.unet, VaeCodec(base.vae), ClipTexts(base.text_encoder, tokenizer))
    net = starting_attention(base.unet, data, config)
    with StyleAttentionStage(frozen, net, data, config, load_company(base.unet, config)) as stage:
        training = train_stage(stage, config.trainer, config.out, tell)
        card = {"steps": str(training.steps), "settings_sha256": training.settings_hash, "weights": "ema"}
        path = stage.export(training.averages, config.out / ATTENTION_NAME, card)
    return StyleAttentionResult(path, data.space, training)


def starting_attention(
    unet: UNet2DConditionModel, data: StyledVideos, config: StyleAttentionTraining
) -> StyleAttention:
    """The style attention that training starts from: a file's, or a new one that adds nothing.

    A new one's projection is drawn for styles in spreads, whose numbers are about 1.

    Raises:
        InputError: the file is for styles of another space.
    """
    if config.start is not None:
        return load_style_attention(config.start).train()
    widths = {site.adapter_key: unet.get_submodule(site.attention(2)).to_q.out_features for site in SITES}
    sizes = StyleSizes(widths, data.space, data.width, unet.config.cross_attention_dim, config.num_tokens)
    new = new_style_attention(sizes, config.trainer.seed)
    return in_spreads(new, -data.centre / data.scale, 1 / data.scale)


def _data(config: StyleAttentionTraining, on_progress: Progress) -> StyledVideos:
    extractor = None if config.extractor is None else load_extractor(config.extractor)
    hears = extractor is not None and extractor.sizes.audio == WHISPER
    if hears and config.audio_encoder is None:
        raise InputError(f"{extractor.name} hears by Whisper tiny; give audio_encoder, openai/whisper-tiny's file.")
    encoder = load_speech_encoder(config.audio_encoder) if hears else None
    videos = read_videos(config.data, config.clip_frames)
    videos, priors = read_priors(config.data, videos, config.noise, extractor, encoder, on_progress)
    describe = None if config.identity is None else face_describer(config.face_models)
    return StyledVideos(videos, priors, describe, config.other_video)


def _file_mark(path: Path) -> str:
    """Tells a file or folder from another one wherever it lies."""
    size = f", {path.stat().st_size} bytes" if path.is_file() else ""
    return f"{path.name}{size}"
