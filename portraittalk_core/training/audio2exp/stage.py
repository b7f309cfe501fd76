"""Training of Audio2Exp by the pictures that a frozen renderer makes of the expressions it moves.

Shapes: B windows, F = 5 frames of a window, N = B · F, K keypoints, R rows of speech of D channels, S side in pixels.
Source: ControlTalk, sections 3.2 to 3.4, equations 3 to 6. Beyond it: the silent pass has a target (in the paper, what
it leads to is left to chance), windows also hear another time of their clip, for which leaving the expression as it is
cannot be the best answer, and expressions are held within those of the clips: lip sync alone drives them to where the
renderer has learnt nothing, and mouths tear.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...errors import InputError
from ...losses.sync import sync_cosine, sync_loss
from ...media.files import check_writable, make_folder
from ...progress import Progress
from ...renderers.implicit.audio2exp.files import save_audio2exp
from ...renderers.implicit.audio2exp.network import Audio2Exp, Audio2ExpSize
from ...renderers.implicit.contract import KeypointModel, Keypoints
from ...renderers.implicit.files import open_keypoint_model
from ..data.kept_keypoints import KeptKeypoints, keep_keypoints, model_mark
from ..data.speech_rows import open_row_encoder, read_rows
from ..data.video_clips import read_list, read_videos
from ..data.windows import NUM_FRAMES, SyncWindows, WindowBatch
from ..loop.config import Clock
from ..loop.stage import MAIN, Loss, StepContext, Trainable
from ..loop.trainer import TrainingResult, train_stage
from ..sync.mouth_crop import crop_mouths, mouth_boxes
from ..sync.network import SyncNetwork, load_sync
from ..sync.stage import load_averages, usable
from .config import Audio2ExpTraining
from .losses import OutsideMouthLoss, range_loss

AUDIO2EXP_NAME = "audio2exp.safetensors"
KEPT = "keypoints"  # folder in `out`
NO_EFFECT = ("data", "renderer", "sync", "out", "clips", "hubert", "vgg19", "trainer")  # besides what they say
SHOWN_WINDOWS = 3


@dataclass(frozen=True)
class Frozen:
    """Networks that do not change, in evaluation mode."""

    renderer: KeypointModel
    sync: SyncNetwork

    def __post_init__(self) -> None:
        for network in (self.renderer, self.sync):
            network.eval().requires_grad_(False)


@dataclass(frozen=True)
class SpeechBatch:
    """A batch with the keypoints of its frames and all windows of speech that they hear."""

    windows: WindowBatch
    keypoints: Keypoints  # of N frames
    closed: Tensor  # (N, K, 3) their expressions with shut lips
    rows: Tensor  # (N, R, D) of every frame
    silence: Tensor  # (N, R, D)


class Audio2ExpData:
    """Windows with keypoints and speech.

    Args:
        windows: of the videos.
        keypoints: of the same videos.
    """

    def __init__(self, windows: SyncWindows, keypoints: KeptKeypoints) -> None:
        self.windows, self.keypoints = windows, keypoints

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, number: int, size: int, seed: int, side_px: int, other_audio: float) -> SpeechBatch:
        """The batch of a number, see `SyncWindows.batch`; `other_audio` is the share that hears another time."""
        batch = self.windows.batch(number, size, seed, side_px, other_audio)
        clips, rows = batch.clips, self.windows.rows
        all_keypoints = [
            self.keypoints.of(video, range(start, start + NUM_FRAMES))
            for video, start in zip(clips.videos, clips.starts, strict=True)
        ]
        audio = [
            rows.windows(video, range(start, start + NUM_FRAMES))
            for video, start in zip(clips.videos, batch.starts, strict=True)
        ]
        silence = [rows.silence(video)[None].expand(NUM_FRAMES, -1, -1) for video in clips.videos]
        keypoints = Keypoints.cat([part for part, _ in all_keypoints])
        closed = torch.cat([part for _, part in all_keypoints])
        return SpeechBatch(batch, keypoints, closed, torch.cat(audio), torch.cat(silence))


class Audio2ExpStage:
    """Audio2Exp's stage.

    Args:
        network: what learns; its sound encoder is the lip-sync network's.
        frozen: renderer and lip-sync network.
        data: to learn from.
        config: how.

    Raises:
        InputError: networks do not fit each other.
    """

    def __init__(self, network: Audio2Exp, frozen: Frozen, data: Audio2ExpData, config: Audio2ExpTraining) -> None:
        self.network, self.frozen, self.data, self.config = network.float().eval(), frozen, data, config
        network.requires_grad_(True)
        network.audio_encoder.requires_grad_(config.train_audio_encoder)
        self.outside = OutsideMouthLoss(config.vgg19)
        self._spread, self._limits = data.keypoints.mouth_spread(), data.keypoints.expression_limits()
        self._steps = Clock.of(config.trainer, len(data)).total
        self._device = torch.device("cpu")

    def optimizers(self) -> dict[str, Trainable]:
        """The layer that begins at zero, and the sound encoder if it is fine-tuned."""
        return {MAIN: Trainable.of(self.network)}

    def settings(self) -> dict[str, object]:
        """Settings that the learnt weights depend on, besides the trainer's."""
        fields = [f.name for f in dataclasses.fields(self.config) if f.name not in NO_EFFECT]
        values = {name: getattr(self.config, name) for name in fields}
        marks = {"renderer": model_mark(self.frozen.renderer), "sync": model_mark(self.frozen.sync)}
        # the ramp is a share of all steps: a run of another length is another training
        return {**values, **marks, "data": self.data.windows.fingerprint(), "ramp_steps": self._steps}

    def num_samples(self) -> int:
        """Windows of all clips."""
        return len(self.data)

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device; all weights stay float32, for gradients pass through the frozen networks."""
        self._device = device
        for part in (self.network, self.frozen.renderer, self.frozen.sync, self.outside):
            part.to(device)

    def batch(self, step: int, part: int) -> SpeechBatch:
        """The windows of a step's part."""
        trainer = self.config.trainer
        number = trainer.batch_number(step, part)
        side = self.frozen.renderer.input_size
        return self.data.batch(number, trainer.batch_size, trainer.seed, side, self.config.other_audio)

    def losses(self, batch: SpeechBatch, context: StepContext) -> Iterator[Loss]:
        """Equation 6, and the silent pass's loss."""
        config = self.config
        alpha = config.alpha_at(context.step, self._steps)
        size = len(batch.windows.starts)
        silent = torch.rand(size, generator=context.generator) < config.silence
        silent = silent.repeat_interleave(NUM_FRAMES).to(self._device)
        expression, rows, silence = (
            part.to(self._device) for part in (batch.keypoints.expression, batch.rows, batch.silence)
        )
        shut = self.network(expression, silence)
        moved = self.network(torch.where(silent[:, None, None], shut, expression), rows, alpha)
        rendered, target, boxes = self.render(batch, moved)
        first = batch.windows.rows.to(self._device)
        cosines = self._cosines(rendered, boxes, first)
        terms = {
            "perceptual": (config.perceptual, self.outside(rendered, target, boxes)),
            "sync": (config.sync_weight, sync_loss(cosines, config.sync_loss)),
        }
        if config.silent_target != "none" and silent.any():
            terms["silence"] = (config.silent_weight, self._silent_loss(batch, shut, silent))
        if config.range_weight:
            low, high = (limit.to(self._device) for limit in self._limits)
            terms["range"] = (config.range_weight, range_loss(moved, low, high, self._spread))
        total = sum(weight * value for weight, value in terms.values())
        logged = {name: float(value.detach()) for name, (_, value) in terms.items()}
        yield Loss(MAIN, total, {**logged, "cosine": float(cosines.detach().mean()), "alpha": alpha})

    def _silent_loss(self, batch: SpeechBatch, shut: Tensor, silent: Tensor) -> Tensor:
        """Of the windows that the silent pass was used for; 1 in the mean where nothing is shut, for expressions."""
        if self.config.silent_target == "expression":
            return ((shut - batch.closed.to(self._device))[silent] / self._spread).square().mean()
        rendered, _, boxes = self.render(batch, shut)
        rows = batch.silence[::NUM_FRAMES].to(self._device)
        return sync_loss(self._cosines(rendered, boxes, rows)[silent[::NUM_FRAMES]])

    def render(self, batch: SpeechBatch, expression: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frames (N, 3, S, S) with other expressions, the true ones, and the mouths' boxes (N, 4) in them."""
        model, keypoints = self.frozen.renderer, batch.keypoints
        keypoints = Keypoints(*(getattr(keypoints, f.name).to(self._device) for f in dataclasses.fields(keypoints)))
        frames = batch.windows.frames.flatten(0, 1).to(self._device)
        with torch.no_grad():
            features, source = model.features(frames), model.place(keypoints)
        placed = model.place(dataclasses.replace(keypoints, expression=expression))
        rendered = model.render(features, source, placed)
        side = rendered.shape[-1]
        if side != frames.shape[-1]:
            frames = interpolate(frames, (side, side), mode="bilinear", align_corners=False)
        points = torch.cat([track.points[..., :2] for track in batch.windows.clips.tracks]) * side
        return rendered, frames, mouth_boxes(points).to(self._device)

    def _cosines(self, rendered: Tensor, boxes: Tensor, rows: Tensor) -> Tensor:
        """(B,) cosines of the windows' mouths with windows of speech (B, R, D)."""
        sync = self.frozen.sync
        crops = crop_mouths(rendered, boxes, sync.sizes.crop_size).unflatten(0, (-1, NUM_FRAMES))
        return sync_cosine(sync.mouth_encoder(crops), sync.embed_rows(rows))

    def sample_images(self, tick: Callable[[], None]) -> Sequence[Tensor]:
        """Of some windows' first frames, from left to right: as they are, silent, with speech."""
        size = min(SHOWN_WINDOWS, len(self.data))
        batch = self.data.batch(0, size, self.config.trainer.seed, self.frozen.renderer.input_size, 0)
        expression = batch.keypoints.expression.to(self._device)
        shut = self.network(expression, batch.silence.to(self._device))
        spoken = self.network(shut, batch.rows.to(self._device))
        pictures = []
        for moved in (shut, spoken):
            rendered, target, _ = self.render(batch, moved)
            pictures.append(rendered[::NUM_FRAMES].cpu())
            tick()
        rows = torch.cat([target[::NUM_FRAMES].cpu(), *pictures], 3)
        sheet = torch.cat(list(rows), 1)
        return [(sheet.clamp(0, 1) * 255).round().byte().permute(1, 2, 0)]


@dataclass(frozen=True)
class Audio2ExpResult:
    """File and result of a training."""

    audio2exp: Path  # averaged weights
    training: TrainingResult
    dropped: tuple[tuple[str, str], ...]  # name of a clip that was left out, and reason


def train_audio2exp(config: Audio2ExpTraining, on_progress: Progress | None = None) -> Audio2ExpResult:
    """Train Audio2Exp, resuming from its last checkpoint.

    Args:
        config: everything.
        on_progress: called with steps done and steps in all; may raise to stop.

    Raises:
        InputError: the data or a weight file cannot be used, or `config.out` holds another run.
        MissingDependency: accelerate, or a weight file, is absent.
        OutputError: `config.out` cannot be written.
    """
    notify, path = on_progress or (lambda *_: None), config.out / AUDIO2EXP_NAME
    make_folder(config.out)
    check_writable(path)

    def tick(*_: object) -> None:
        notify(0, config.trainer.steps)

    renderer, _ = open_keypoint_model(config.renderer)
    frozen, encoder = Frozen(renderer, load_sync(config.sync)), open_row_encoder(config.hubert)
    videos = read_videos(config.data, NUM_FRAMES, None if config.clips is None else read_list(config.clips))
    kept, rows, dropped = read_rows(config.data, usable(videos), encoder, tick)
    network = new_audio2exp(frozen, rows.width, f"{encoder.name} rows")
    data = Audio2ExpData(SyncWindows(kept, rows), keep_keypoints(config.out / KEPT, kept, renderer, tick))
    training = train_stage(Audio2ExpStage(network, frozen, data, config), config.trainer, config.out, on_progress)
    network.to("cpu")
    load_averages(network, {**dict(network.state_dict()), **training.averages})
    card = {"steps": str(training.steps), "settings_sha256": training.settings_hash, "weights": "ema"}
    save_audio2exp(path, network, {**card, "encoder": encoder.name})
    return Audio2ExpResult(path, training, dropped)


def new_audio2exp(frozen: Frozen, row_width: int, source: str) -> Audio2Exp:
    """Audio2Exp that adds nothing yet, with the lip-sync network's sound encoder.

    Raises:
        InputError: the lip-sync network hears rows of another width.
    """
    sync = frozen.sync
    if sync.row_width != row_width:
        raise InputError(
            f"the lip-sync network hears rows of {sync.row_width} channels, and {source} have {row_width}; give the "
            "hubert that it was trained with, or none if it was trained with none."
        )
    size = Audio2ExpSize(frozen.renderer.layout, row_width, widths=sync.sizes.audio_widths)
    network = Audio2Exp(size)
    network.audio_encoder.load_state_dict(sync.audio_encoder.state_dict())
    return network
