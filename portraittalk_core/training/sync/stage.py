"""Training of the lip-sync network: mouth crops and speech of one time against speech of another time of the clip.

Shapes: B windows.
Source: ControlTalk, section 3.4; Wav2Lip, section 3.2: binary cross-entropy of the cosine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...errors import InputError
from ...losses.sync import sync_contrastive_loss
from ...media.files import check_writable, make_folder
from ...progress import Progress
from ..data.speech_rows import open_row_encoder, read_rows
from ..data.video_clips import VideoData, read_list, read_videos
from ..data.windows import NUM_FRAMES, SyncWindows, WindowBatch
from ..loop.stage import MAIN, Loss, StepContext, Trainable
from ..loop.trainer import TrainingResult, train_stage
from .config import SyncTraining
from .mouth_crop import crop_mouths, mouth_boxes
from .network import SyncNetwork, cosine_matrix, save_sync

SYNC_NAME = "sync.safetensors"
NO_EFFECT = ("data", "out", "clips", "held_out", "hubert", "trainer")  # on what is learnt, besides what the data say
SCORE_BATCHES, SHOWN = 8, 16  # batches of the score; windows of a sample picture
OTHER_SEED = 10_007  # added to training's: windows in another order, with other wrong speech
SCALE_PX = 8  # of a cosine in a sample picture


@dataclass(frozen=True)
class SyncScore:
    """How well right pairs are told from wrong ones, half of each."""

    accuracy: float  # share of windows on the right side of the middle between both kinds' mean cosines
    right: float  # mean cosine of pairs in sync
    wrong: float  # … of others


@dataclass(frozen=True)
class SyncResult:
    """File, result and score of a training."""

    network: Path
    training: TrainingResult
    score: SyncScore
    dropped: tuple[tuple[str, str], ...]  # name of a clip that was left out, and reason


class SyncStage:
    """The lip-sync network's stage.

    Args:
        network: what learns.
        windows: to learn from.
        config: how.
    """

    def __init__(self, network: SyncNetwork, windows: SyncWindows, config: SyncTraining) -> None:
        self.network, self.windows, self.config = network.float().train().requires_grad_(True), windows, config
        self._device = torch.device("cpu")

    def optimizers(self) -> dict[str, Trainable]:
        """One optimiser for both encoders."""
        return {MAIN: Trainable.of(self.network)}

    def settings(self) -> dict[str, object]:
        """Settings that the learnt weights depend on, besides the trainer's."""
        fields = [f.name for f in dataclasses.fields(self.config) if f.name not in NO_EFFECT]
        return {name: getattr(self.config, name) for name in fields} | {"data": self.windows.fingerprint()}

    def num_samples(self) -> int:
        """Windows of all clips."""
        return len(self.windows)

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device; the weights stay float32."""
        self._device = device
        self.network.to(device)

    def batch(self, step: int, part: int) -> WindowBatch:
        """The windows of a step's part."""
        trainer = self.config.trainer
        number = trainer.batch_number(step, part)
        return sync_batch(self.windows, number, trainer.batch_size, trainer.seed, self.config.negatives)

    def losses(self, batch: WindowBatch, context: StepContext) -> Iterator[Loss]:
        """Binary cross-entropy of the cosines."""
        cosines = self.network(mouths(batch, self.config.sizes.crop_size).to(self._device), batch.rows.to(self._device))
        in_sync = batch.in_sync.to(self._device)
        logged = {
            name: float(cosines.detach()[of].mean())
            for name, of in (("right", in_sync), ("wrong", ~in_sync))
            if of.any()
        }
        yield Loss(MAIN, sync_contrastive_loss(cosines, in_sync), logged)

    def sample_images(self, tick: Callable[[], None]) -> Sequence[Tensor]:
        """Cosines of some windows (rows) with each other's speech (columns): the diagonal is to become bright."""
        batch = sync_batch(self.windows, 0, min(SHOWN, len(self.windows)), self.config.trainer.seed + OTHER_SEED, 0)
        self.network.eval()
        crops, rows = mouths(batch, self.config.sizes.crop_size), batch.rows
        cosines = cosine_matrix(self.network, crops.to(self._device), rows.to(self._device)).cpu()
        self.network.train()
        tick()
        grey = (cosines.clamp(0, 1) * 255).round().byte()
        large = grey.repeat_interleave(SCALE_PX, 0).repeat_interleave(SCALE_PX, 1)
        return [large[..., None].expand(-1, -1, 3)]


def sync_batch(windows: SyncWindows, number: int, size: int, seed: int, wrong: float) -> WindowBatch:
    """The batch of a number, with pictures of the size that they were prepared in."""
    side = windows.data.videos[0].track.width
    return windows.batch(number, size, seed, side, wrong)


def mouths(batch: WindowBatch, crop_size: int) -> Tensor:
    """(B, 5, 3, S, S) mouth crops of a batch, RGB in 0..1."""
    boxes = torch.cat([mouth_boxes(points) for points in batch.clips.points_px])
    return crop_mouths(batch.frames.flatten(0, 1), boxes, crop_size).unflatten(0, (-1, NUM_FRAMES))


@torch.no_grad()
def sync_score(network: SyncNetwork, windows: SyncWindows, size: int, seed: int) -> SyncScore:
    """Score of a network in evaluation mode on windows, half of them with wrong speech.

    Args:
        network: both encoders.
        windows: best ones that it was not trained on.
        size: windows of a batch; eight batches count, or as many as there are windows.
        seed: of the order and of the wrong speech.
    """
    cosines, in_sync, device = [], [], next(network.parameters()).device
    for number in range(max(1, min(SCORE_BATCHES, len(windows) // size))):
        batch = sync_batch(windows, number, min(size, len(windows)), seed, 0.5)
        crops = mouths(batch, network.sizes.crop_size)
        cosines.append(network(crops.to(device), batch.rows.to(device)).cpu())
        in_sync.append(batch.in_sync)
    values, right = torch.cat(cosines), torch.cat(in_sync)
    if right.all() or not right.any():
        raise InputError(f"{len(right)} windows are too few to score a lip-sync network; hold back more clips.")
    means = values[right].mean(), values[~right].mean()
    correct = (values > sum(means) / 2) == right
    return SyncScore(float(correct.float().mean()), *(float(mean) for mean in means))


def train_sync(config: SyncTraining, on_progress: Progress | None = None) -> SyncResult:
    """Train the lip-sync network, resuming from its last checkpoint.

    Args:
        config: everything.
        on_progress: called with steps done and steps in all; may raise to stop.

    Raises:
        InputError: the data or HuBERT's file cannot be used, or `config.out` holds another run.
        MissingDependency: accelerate, or a weight file, is absent.
        OutputError: `config.out` cannot be written.
    """
    notify, path = on_progress or (lambda *_: None), config.out / SYNC_NAME
    make_folder(config.out)
    check_writable(path)
    encoder = open_row_encoder(config.hubert)

    def read(names: Path | None) -> tuple[SyncWindows, tuple[tuple[str, str], ...]]:
        videos = read_videos(config.data, NUM_FRAMES, None if names is None else read_list(names))
        kept, rows, dropped = read_rows(
            config.data, usable(videos), encoder, lambda *_: notify(0, config.trainer.steps)
        )
        return SyncWindows(kept, rows), dropped

    windows, dropped = read(config.clips)
    network = new_sync_network(config, windows.rows.width)
    stage = SyncStage(network, windows, config)
    training = train_stage(stage, config.trainer, config.out, on_progress)
    load_averages(network, training.averages)
    scored = windows if config.held_out is None else read(config.held_out)[0]
    score = sync_score(network.eval(), scored, config.trainer.batch_size, config.trainer.seed + OTHER_SEED)
    card = {"steps": str(training.steps), "settings_sha256": training.settings_hash, "weights": "ema"}
    card |= {"rows": encoder.name, "accuracy": f"{score.accuracy:.3f}"}
    return SyncResult(save_sync(network, path, card), training, score, dropped)


def new_sync_network(config: SyncTraining, row_width: int) -> SyncNetwork:
    """A network with random weights of the configuration's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.trainer.seed)
        return SyncNetwork(config.sizes, row_width)


def usable(data: VideoData) -> list:
    """Videos that show the face in at least one window."""
    return [data.videos[number] for number in sorted({data.clip_at(index)[0] for index in range(len(data))})]


@torch.no_grad()
def load_averages(network: torch.nn.Module, averages: Mapping[str, Tensor], prefix: str = "") -> None:
    """Put a training's averaged weights and buffers into a network."""
    for name, tensor in network.state_dict(keep_vars=True).items():
        tensor.copy_(averages[f"{prefix}{name}"])
