"""What every training of style attention shares, whatever UNet looks at the style.

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
from ...style.projection import StyleAttention, save_style_attention
from ..loop.stage import SingleLossStage
from .attention_data import StyledBatch, StyledVideos
from .config import StyleAttentionTraining

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

NO_EFFECT = ("out", "data", "tokenizer", "face_models", "gradient_checkpointing", "trainer")  # on what is learnt


class StyleStage(SingleLossStage, ABC):
    """The attention's training stage; it acts on the UNet inside a `with` block only.

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
        self.net = in_spreads(net, self._centre, self._scale).float().train().requires_grad_(True)
        blank = FrameStyles(torch.zeros(1, data.width), torch.ones(1))
        self._run = StyleRun(self.net, blank, Batch())
        self._alpha_bars = (1 / (1 + schedule_sigmas(schedule) ** 2)).float()
        self._device, self._open = torch.device("cpu"), contextlib.ExitStack()

    @property
    @abstractmethod
    def unet(self) -> UNet2DConditionModel:
        """That is to look at the style."""

    @abstractmethod
    def bound(self) -> AbstractContextManager[None]:
        """Let everything but the style act on the UNet for as long as the context lasts."""

    @abstractmethod
    def place_frozen(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move all that does not learn to a device, and to a type."""

    @abstractmethod
    def encoded(self, pictures: Tensor) -> Tensor:
        """Latents (R, 4, h, h) of pictures (R, 3, S, S)."""

    @abstractmethod
    def predicted(self, batch: StyledBatch, noisy: Tensor, levels: Tensor, styles: Tensor, dropped: Tensor) -> Tensor:
        """What the UNet tells (R, 4, h, h) of noisy latents at timesteps (R,), in styles (B, D) in spreads."""

    @abstractmethod
    def target(self, clean: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
        """What it is to tell (R, 4, h, h), where `kept` (R, 1, 1, 1) of the signal's power is left."""

    @abstractmethod
    def weights(self, kept: Tensor) -> Tensor:
        """How much an error counts where `kept` (R,) of the signal's power is left."""

    def __enter__(self) -> StyleStage:
        """Let the attention and its company act on the UNet."""
        self._open.enter_context(self.bound())
        self._open.enter_context(bind_style(self.unet, self._run))
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the UNet as it was."""
        self._open.close()

    def trainable(self) -> dict[str, nn.Parameter]:
        """The tokens' projection and the attentions."""
        return dict(self.net.named_parameters())

    def num_samples(self) -> int:
        """Clips."""
        return len(self.data.data)

    def settings(self) -> dict[str, object]:
        """Everything that what is learnt depends on, besides the trainer's own."""
        left_out = (*NO_EFFECT, *self.foreign)
        kept = {f.name: getattr(self.config, f.name) for f in dataclasses.fields(self.config)}
        named = {name: file_mark(v) if isinstance(v, Path) else v for name, v in kept.items() if name not in left_out}
        return {**named, "space": self.data.space, "data": self.data.fingerprint()}

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device; what is frozen also to a type."""
        self._device = device
        self.place_frozen(device, dtype)
        self.net.to(device)
        self._alpha_bars = self._alpha_bars.to(device)

    def batch(self, step: int, part: int) -> StyledBatch:
        """The clips of a step's part."""
        trainer = self.config.trainer
        number = (step - 1) * trainer.gradient_accumulation + part
        side = self.config.resolution
        return self.data.batch(number, trainer.batch_size, trainer.seed, side, self.sees_references)

    def loss(self, batch: StyledBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The weighted error with a style that is drawn anew; some clips are shown nothing but noise."""
        dropped = torch.rand(len(batch.means), generator=generator) < self.config.drop
        drawn = batch.means + batch.deviations * torch.randn(batch.means.shape, generator=generator)
        return self.error(batch, drawn, dropped, generator), {"dropped": float(dropped.float().mean())}

    def error(self, batch: StyledBatch, styles: Tensor, dropped: Tensor, generator: torch.Generator) -> Tensor:
        """The weighted error of what the UNet tells of clips in styles of one's choice.

        Args:
            batch: the clips.
            styles: (B, D) as they are, not in spreads.
            dropped: (B,) bool, which clips have no style, and nothing else to go by.
            generator: of noise and noise levels.
        """
        size, length = batch.clips.frames.shape[:2]
        clean = self.encoded(batch.clips.frames.flatten(0, 1).to(self._device))
        levels = torch.randint(NUM_TIMESTEPS, (size,), generator=generator).repeat_interleave(length).to(self._device)
        noise = torch.randn(clean.shape, generator=generator).to(self._device)
        kept = self._alpha_bars[levels].view(-1, 1, 1, 1)
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        found = self.predicted(batch, noisy, levels, (styles - self._centre) / self._scale, dropped)
        errors = (found.float() - self.target(clean, noise, kept)).square().mean((1, 2, 3))
        if self.config.snr_limit:
            errors = errors * self.weights(kept.flatten())
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
        card = {**metadata, "space": self.data.space, "trained_on": self.trained_on}
        return save_style_attention(plain, path, card)


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


def file_mark(path: Path) -> str:
    """Tells a file or folder from another one wherever it lies."""
    size = f", {path.stat().st_size} bytes" if path.is_file() else ""
    return f"{path.name}{size}"
