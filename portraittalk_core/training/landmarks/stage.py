"""Training of the landmark generator: lips and jaw of five frames from their speech, their heads and other faces.

Shapes: B windows, F = 5 frames of a window.
Source: W. Zhong et al., "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors" (2023),
section 3.1, equations 1 and 2, and its public code. References never lie in the window that is predicted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...engines.landmark_generator.engine import CROP_MARGIN
from ...engines.landmark_generator.network import WINDOW, LandmarkNet, load_landmark_net, save_landmark_net
from ...face.lip_points import CONTENT
from ...face.sketch import draw_sketch
from ...media.files import check_writable, make_folder
from ...progress import Progress
from ..data.kept_keypoints import model_mark
from ..data.video_clips import read_list, read_videos
from ..loop.stage import MAIN, Loss, StepContext, Trainable
from ..loop.trainer import TrainingResult, train_stage
from ..sync.stage import load_averages
from .config import LandmarkTraining
from .data import LandmarkBatch, LandmarkWindows, read_clips

LANDMARKS_NAME = "landmark_generator.safetensors"
NO_EFFECT = ("data", "out", "clips", "held_out", "base", "trainer")  # on what is learnt, besides what they say
SCORED, SCORE_SEED = 512, 10_007  # windows of the score, and what is added to the seed for their order
SHOWN, SKETCH_PX = 4, 128  # windows of a sample picture, and its sketches' side


def predict(net: LandmarkNet, batch: LandmarkBatch) -> Tensor:
    """(B, 5, 57, 2) predicted content of a batch."""
    sound = net.encode_sound(batch.sound.flatten(0, 1)).unflatten(0, (-1, WINDOW))
    pose = net.encode_pose(batch.pose.flatten(0, 1)).unflatten(0, (-1, WINDOW))
    references = net.encode_reference(batch.references.flatten(0, 1)).unflatten(0, (len(batch.references), -1))
    return net(sound, pose, references)


def landmark_losses(predicted: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of places and of velocities.

    Args:
        predicted: (B, 5, 57, 2).
        content: (B, 5, 57, 2) what was to be predicted.

    Returns:
        The mean absolute difference of coordinates, and the mean distance of the changes (57 · 2 numbers at once) from
        one frame to the next.
    """
    velocities = (part.diff(dim=1).flatten(2).flatten(0, 1) for part in (predicted, content))
    return F.l1_loss(predicted, content), F.pairwise_distance(*velocities).mean()


class LandmarkStage:
    """The landmark generator's stage.

    Args:
        network: what learns.
        windows: to learn from.
        config: how.
    """

    def __init__(self, network: LandmarkNet, windows: LandmarkWindows, config: LandmarkTraining) -> None:
        self.network, self.windows, self.config = network.float().train().requires_grad_(True), windows, config
        self._device = torch.device("cpu")
        self._begins = None if config.base is None else model_mark(network)

    def optimizers(self) -> dict[str, Trainable]:
        """One optimiser for the whole network."""
        return {MAIN: Trainable.of(self.network)}

    def settings(self) -> dict[str, object]:
        """Settings that the learnt weights depend on, besides the trainer's."""
        names = [f.name for f in dataclasses.fields(self.config) if f.name not in NO_EFFECT]
        data = {"data": self.windows.fingerprint(), "base": self._begins}
        return {name: getattr(self.config, name) for name in names} | data

    def num_samples(self) -> int:
        """Windows of all clips."""
        return len(self.windows)

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device; the weights stay float32."""
        self._device = device
        self.network.to(device)

    def batch(self, step: int, part: int) -> LandmarkBatch:
        """The windows of a step's part."""
        trainer = self.config.trainer
        number = trainer.batch_number(step, part)
        return self.windows.batch(number, trainer.batch_size, trainer.seed)

    def losses(self, batch: LandmarkBatch, context: StepContext) -> Iterator[Loss]:
        """Places and velocities."""
        batch = batch.to(self._device)
        places, velocities = landmark_losses(predict(self.network, batch).float(), batch.content)
        logged = {"l1": float(places.detach()), "velocity": float(velocities.detach())}
        yield Loss(MAIN, places + self.config.velocity * velocities, logged)

    def sample_images(self, tick: Callable[[], None]) -> Sequence[Tensor]:
        """Sketches of some windows' middle frames: as they are above, as predicted below."""
        batch = self.windows.batch(0, min(SHOWN, len(self.windows)), self.config.trainer.seed + SCORE_SEED)
        self.network.eval()
        predicted = predict(self.network, batch.to(self._device)).float().cpu()
        self.network.train()
        tick()
        rows = []
        for content in (batch.content, predicted):
            faces = torch.cat([batch.pose, content], 2)[:, WINDOW // 2]
            rows.append(torch.cat(list(draw_sketch(faces, SKETCH_PX)), 2))
        return [(torch.cat(rows, 1) * 255).round().byte().permute(1, 2, 0)]


@dataclass(frozen=True)
class LandmarkScore:
    """Mean absolute differences of predicted from true content, in sides of the crop."""

    l1: float
    resting_l1: float  # of the mean of the references in the place of the prediction: what a deaf network could reach
    velocity: float


@dataclass(frozen=True)
class LandmarkResult:
    """File, result and score of a training."""

    network: Path  # averaged weights
    training: TrainingResult
    score: LandmarkScore
    dropped: tuple[tuple[str, str], ...]  # name of a clip that was left out, and reason


@torch.no_grad()
def landmark_score(network: LandmarkNet, windows: LandmarkWindows, size: int, seed: int) -> LandmarkScore:
    """Score of a network in evaluation mode.

    Args:
        network: on any device.
        windows: best ones that it was not trained on.
        size: windows of a batch.
        seed: of the order and of the references.
    """
    size, device = min(size, len(windows)), next(network.parameters()).device
    sums, count = torch.zeros(3, dtype=torch.float64), max(1, min(SCORED, len(windows)) // size)
    for number in range(count):
        batch = windows.batch(number, size, seed)
        content = batch.content
        resting = batch.references[:, None, :, CONTENT].mean(2).expand_as(content)
        places, velocities = landmark_losses(predict(network, batch.to(device)).float().cpu(), content)
        sums += torch.stack([places, F.l1_loss(resting, content), velocities]).double() / count
    return LandmarkScore(*sums.tolist())


def train_landmarks(config: LandmarkTraining, on_progress: Progress | None = None) -> LandmarkResult:
    """Train the landmark generator, resuming from its last checkpoint.

    Args:
        config: everything.
        on_progress: called with steps done and steps in all; may raise to stop.

    Raises:
        InputError: the data or the weights to begin with cannot be used, or `config.out` holds another run.
        MissingDependency: accelerate, or a weight file, is absent.
        OutputError: `config.out` cannot be written.
    """
    path = config.out / LANDMARKS_NAME
    make_folder(config.out)
    check_writable(path)

    def read(names: Path | None) -> tuple[LandmarkWindows, tuple[tuple[str, str], ...]]:
        videos = read_videos(config.data, WINDOW, None if names is None else read_list(names)).videos
        clips, dropped = read_clips(config.data, videos, config.crop_pad)
        return LandmarkWindows(clips), dropped

    windows, dropped = read(config.clips)
    network = new_landmark_net(config)
    training = train_stage(LandmarkStage(network, windows, config), config.trainer, config.out, on_progress)
    load_averages(network, training.averages)
    scored = windows if config.held_out is None else read(config.held_out)[0]
    trainer = config.trainer
    score = landmark_score(network.eval(), scored, trainer.batch_size, trainer.seed + SCORE_SEED)
    card = {"steps": str(training.steps), "settings_sha256": training.settings_hash, "weights": "ema"}
    card |= {CROP_MARGIN: str(config.crop_pad), "l1": f"{score.l1:.5f}"}
    return LandmarkResult(save_landmark_net(network.cpu(), path, card), training, score, dropped)


def new_landmark_net(config: LandmarkTraining) -> LandmarkNet:
    """The network that training begins with.

    Raises:
        InputError, MissingDependency: the weights to begin with cannot be used.
    """
    if config.base is not None:
        return load_landmark_net(config.base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.trainer.seed)
        return LandmarkNet(config.sizes)
