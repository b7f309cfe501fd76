"""Base of style attention's training stages on any UNet.

Shapes: B clips, F frames of a clip, R = B · F frames, S side of pictures in pixels, h = S / 8, D numbers of a style.
Source: SVP, section 3.4, third stage; `docs/design/styles.md` 5.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from ...diffusion.branches import Batch
from ...diffusion.schedule import NUM_TIMESTEPS, schedule_sigmas
from ...errors import InputError
from ...style.attention import FrameStyles, StyleRun, bind_style
from ...style.attention_files import MEAN, SAMPLING
from ...style.projection import StyleAttention, save_style_attention
from ..loop.stage import SingleLossStage
from .attention_data import StyledBatch, StyledVideos
from .config import StyleAttentionTraining

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

NO_EFFECT = ("out", "data", "tokenizer", "face_models", "gradient_checkpointing", "trainer")  # on what is learnt


class StyleStage(SingleLossStage, ABC):
    """Style attention's training stage; it is bound to the UNet inside a `with` block only.

    A subclass is the base that the attention is trained on: what its UNet is shown, what it is to tell of the noise,
    and how much each noise level counts.

    Styles are standardised by the videos' mean and deviation while the attention learns, so that blinks a minute do not
    drown what counts in hundredths; what was learnt is turned back to plain styles when it is exported.

    Args:
        net: what learns; of plain styles.
        data: whom to learn from.
        config: how.
        schedule: name of the noise levels.

    Raises:
        InputError: clips of another length, or styles of another space, than the attention is for.
    """

    trained_on: ClassVar[str]  # what the weight file says of its base
    sees_references: ClassVar[bool] = False  # whether batches are to have a picture of the person at another time
    foreign: ClassVar[tuple[str, ...]] = ()  # settings that are another base's

    def __init__(self, net: StyleAttention, data: StyledVideos, config: StyleAttentionTraining, schedule: str) -> None:
        if data.data.num_frames != config.clip_frames:
            raise InputError(f"the data has clips of {data.data.num_frames} frames, this needs {config.clip_frames}.")
        net.check_space(data.space, "of the videos")
        self.data, self.config = data, config
        self._centre, self._scale = data.centre, data.scale
        self.net = standardised(net, self._centre, self._scale).float().train().requires_grad_(True)
        blank = FrameStyles(torch.zeros(1, data.width), torch.ones(1))
        self._run = StyleRun(self.net, blank, Batch())
        self._alpha_bars = (1 / (1 + schedule_sigmas(schedule) ** 2)).float()
        self._device, self._open = torch.device("cpu"), contextlib.ExitStack()

    @property
    @abstractmethod
    def unet(self) -> UNet2DConditionModel:
        """UNet that the style attention conditions."""

    @abstractmethod
    def bound(self) -> AbstractContextManager[None]:
        """Bind all conditions but the style to the UNet within the context."""

    @abstractmethod
    def place_frozen(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the frozen networks to a device and type."""

    @abstractmethod
    def encoded(self, pictures: Tensor) -> Tensor:
        """Latents (R, 4, h, h) of pictures (R, 3, S, S)."""

    @abstractmethod
    def predicted(self, batch: StyledBatch, noisy: Tensor, levels: Tensor, styles: Tensor, dropped: Tensor) -> Tensor:
        """The UNet's prediction (R, 4, h, h) for noisy latents at timesteps (R,) and standardised styles (B, D)."""

    @abstractmethod
    def target(self, clean: Tensor, noise: Tensor, alpha_bars: Tensor) -> Tensor:
        """Target (R, 4, h, h) of the prediction at ᾱ (R, 1, 1, 1)."""

    @abstractmethod
    def weights(self, alpha_bars: Tensor) -> Tensor:
        """Loss weights (R,) at ᾱ (R,)."""

    def __enter__(self) -> StyleStage:
        """Bind the style attention and the other conditions to the UNet."""
        self._open.enter_context(self.bound())
        self._open.enter_context(bind_style(self.unet, self._run))
        return self

    def __exit__(self, *error: object) -> None:
        """Unbind from the UNet."""
        self._open.close()

    def trainable(self) -> dict[str, nn.Parameter]:
        """Weights of the token projection and of the attentions."""
        return dict(self.net.named_parameters())

    def num_samples(self) -> int:
        """Number of clips."""
        return len(self.data.data)

    def settings(self) -> dict[str, object]:
        """Settings that the learnt weights depend on, besides the trainer's."""
        left_out = (*NO_EFFECT, *self.foreign)
        left_out += () if self.config.deterministic else ("deterministic",)  # as before there was one
        values = {f.name: getattr(self.config, f.name) for f in dataclasses.fields(self.config)}
        named = {name: file_mark(v) if isinstance(v, Path) else v for name, v in values.items() if name not in left_out}
        return {**named, "space": self.data.space, "data": self.data.fingerprint()}

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device; frozen networks also to a type."""
        self._device = device
        self.place_frozen(device, dtype)
        self.net.to(device)
        self._alpha_bars = self._alpha_bars.to(device)

    def batch(self, step: int, part: int) -> StyledBatch:
        """The clips of a step's part."""
        trainer = self.config.trainer
        number = trainer.batch_number(step, part)
        side = self.config.resolution
        return self.data.batch(number, trainer.batch_size, trainer.seed, side, self.sees_references)

    def loss(self, batch: StyledBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The weighted error with sampled styles, or their means; some clips have their conditions dropped."""
        dropped = torch.rand(len(batch.means), generator=generator) < self.config.drop
        noise = torch.randn(batch.means.shape, generator=generator)
        styles = batch.means if self.config.deterministic else batch.means + batch.deviations * noise
        return self.error(batch, styles, dropped, generator), {"dropped": float(dropped.float().mean())}

    def error(self, batch: StyledBatch, styles: Tensor, dropped: Tensor, generator: torch.Generator) -> Tensor:
        """The weighted error of the UNet's predictions for clips in given styles.

        Args:
            batch: the clips.
            styles: (B, D) not standardised.
            dropped: (B,) bool, clips without style and all other conditions.
            generator: of noise and noise levels.
        """
        size, length = batch.clips.frames.shape[:2]
        clean = self.encoded(batch.clips.frames.flatten(0, 1).to(self._device))
        levels = torch.randint(NUM_TIMESTEPS, (size,), generator=generator).repeat_interleave(length).to(self._device)
        noise = torch.randn(clean.shape, generator=generator).to(self._device)
        alpha_bars = self._alpha_bars[levels].view(-1, 1, 1, 1)
        noisy = alpha_bars.sqrt() * clean + (1 - alpha_bars).sqrt() * noise
        predicted = self.predicted(batch, noisy, levels, (styles - self._centre) / self._scale, dropped)
        errors = (predicted.float() - self.target(clean, noise, alpha_bars)).square().mean((1, 2, 3))
        if self.config.snr_limit:
            errors = errors * self.weights(alpha_bars.flatten())
        return errors.mean()

    def sample_images(self, tick: Callable[[], None]) -> Sequence[Tensor]:
        """No pictures: styles show in videos only."""
        tick()
        return ()

    def export(self, averages: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> Path:
        """Load the averaged weights, and write them for plain rather than standardised styles."""
        with torch.no_grad():
            for name, parameter in self.trainable().items():
                parameter.copy_(averages[name])
        plain = standardised(self.net.cpu(), -self._centre / self._scale, 1 / self._scale)
        card = {**metadata, "space": self.data.space, "trained_on": self.trained_on}
        card |= {SAMPLING: MEAN} if self.config.deterministic else {}
        return save_style_attention(plain, path, card)


def standardised(net: StyleAttention, centre: Tensor, scale: Tensor) -> StyleAttention:
    """Copy of an attention whose input is (style − centre) / scale in place of the style.

    Args:
        net: unchanged.
        centre: (D,)
        scale: (D,) above 0.
    """
    copied = copy.deepcopy(net)
    proj = copied.style_proj.proj
    with torch.no_grad():
        weight = proj.weight.double()
        proj.bias.copy_(proj.bias.double() + weight @ centre.double())
        proj.weight.copy_(weight * scale.double())
    return copied


def file_mark(path: Path) -> str:
    """Name and size of a file or folder, independent of its location."""
    size = f", {path.stat().st_size} bytes" if path.is_file() else ""
    return f"{path.name}{size}"
