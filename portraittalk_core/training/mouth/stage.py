"""Training of the mouth network on the synthesised corpus."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...checks import check_range
from ...engines.builtin.mouth_net import STRIDE, MouthNet, measure_mel
from ...progress import Progress
from ...threads import one_torch_thread
from .augment import mask_bands
from .real_clips import real_batch, real_loss
from .speaker import SpeakerClip
from .speech_corpus import CorpusClip

WEIGHTS = (2.5, 1.0, 0.7, 1.0, 0.5, 1.5, 3.0)  # of the errors, one per output
VOICE_RIDGE = 10.0


_LIMITS = (
    ("steps", 1, 1_000_000), ("batch", 1, 4096), ("segment", 50, 10_000), ("width", 1, 4096),
    ("learning_rate", 1e-7, 1.0), ("weight_decay", 0, 10), ("velocity", 0, 1e4), ("correlation", 0, 1e4),
    ("closing", 0, 1e4), ("real", 0, 1e4), ("real_batch", 1, 4096), ("seed", 0, 2**32 - 1),
)  # fmt: skip


@dataclass(frozen=True)
class MouthTraining:
    """Settings of the mouth network's training."""

    steps: int = 5000
    batch: int = 32
    segment: int = 400  # frames of 10 ms
    width: int = 96
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    velocity: float = 3.0  # weight of the error of the movement's speed
    correlation: float = 0.3  # weight of 1 − Pearson's r of opening and jaw
    closing: float = 0.0  # how much more an error weighs where lips close or tuck
    real: float = 0.0  # weight of 1 − r on real speakers' videos, where there are some
    real_batch: int = 8  # clips of them in a step
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in _LIMITS:
            check_range(getattr(self, name), low, high, f"training.{name}")


@dataclass(frozen=True)
class _Example:
    mel: Tensor  # (M, 80) normalised, half precision
    targets: Tensor  # (M / 2, 7)
    voice: Tensor  # (M / 2,) voice activity


def train_mouth(
    clips: Sequence[CorpusClip],
    training: MouthTraining,
    on_progress: Progress | None = None,
    on_loss: Callable[[int, float], None] | None = None,
    base: MouthNet | None = None,
    real: Sequence[SpeakerClip] = (),
) -> MouthNet:
    """Train the network.

    Args:
        clips: the corpus.
        training: sizes and rates.
        on_progress: called with steps done and steps in all; may raise to stop.
        on_loss: called now and then with the step and the mean loss since the last call.
        base: a network to begin with, whose width counts; None begins with random weights.
        real: clips of real speakers; needs a weight `training.real`.

    Returns:
        The network in evaluation mode.
    """
    torch.manual_seed(training.seed)
    random = np.random.default_rng(training.seed)
    examples = [prepare(clip) for clip in clips]
    net = copy.deepcopy(base).requires_grad_(True) if base else MouthNet(training.width)
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.learning_rate, training.steps, pct_start=0.1)
    shares = np.array([len(example.mel) for example in examples], float)
    shares /= shares.sum()
    total = 0.0
    for step in range(1, training.steps + 1):
        indices = random.choice(len(examples), training.batch, p=shares)
        mel, targets = _batch([examples[i] for i in indices], training.segment, random)
        parts: list[SpeakerClip] = []
        if len(real) and training.real:
            seen, parts = real_batch(
                [real[i] for i in random.integers(0, len(real), training.real_batch)], training.segment, random
            )
            mel = torch.cat([mel, seen])
        loss = torch.zeros(())
        for answer, weight in zip(net.both(mel), (0.5, 1.0), strict=True):  # live, and refined
            loss = loss + weight * _loss(answer[: len(targets)], targets, training)
            if parts:
                loss = loss + weight * training.real * real_loss(answer[len(targets) :], parts)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += float(loss.detach())
        if on_progress:
            on_progress(step, training.steps)
        if on_loss and step % 200 == 0:
            on_loss(step, total / 200)
            total = 0.0
    return net.eval()


def prepare(clip: CorpusClip) -> _Example:
    """Normalised features and targets of a clip."""
    mel = clip.mel.float()
    targets, voice = (
        torch.from_numpy(part[::STRIDE].astype(np.float32)) for part in (clip.targets, clip.voice_activity)
    )
    return _Example(measure_mel(mel).normalise(mel).half(), targets, voice)


def fit_voice(net: MouthNet, clips: Sequence[CorpusClip]) -> None:
    """Fit the network's voice activity output by ridge regression on its last features.

    Args:
        net: its voice rows are set, all else stays.
        clips: with and without a voice.
    """
    width = net.width + 1
    sums = [(torch.zeros(width, width), torch.zeros(width)) for _ in range(2)]
    with torch.inference_mode(), one_torch_thread():
        for example in map(prepare, clips):
            for (square, mixed), part in zip(sums, net.features(example.mel.float()[None]), strict=True):
                features = torch.cat([part[0], torch.ones(1, part.shape[2])])[:, : len(example.voice)]
                square.add_(features @ features.T)
                mixed.add_(features @ example.voice)
    for (square, mixed), head in zip(sums, (net.early, net.late), strict=True):
        solved = torch.linalg.solve(square + VOICE_RIDGE * torch.eye(width), mixed)
        with torch.no_grad():
            head.weight[-1, :, 0], head.bias[-1] = solved[:-1], solved[-1]


def _batch(examples: list[_Example], segment: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    mels, targets = [], []
    for example in examples:
        start = int(random.integers(0, max(1, len(example.mel) - segment + 1))) // STRIDE * STRIDE
        mel = example.mel[start : start + segment].float()
        target = example.targets[start // STRIDE : start // STRIDE + segment // STRIDE]
        mel = F.pad(mel.T, (0, segment - len(mel)), mode="replicate").T
        target = F.pad(target.T, (0, segment // STRIDE - len(target)), mode="replicate").T
        # as if the clip's statistics had been measured on other words
        scale = float(np.exp(random.normal(0, 0.08)))
        mel = mel * scale + torch.from_numpy(random.normal(0, 0.12, (1, mel.shape[1]))).float() + random.normal(0, 0.15)
        mels.append(mask_bands(mel + 0.1 * torch.randn_like(mel), random))
        targets.append(target)
    return torch.stack(mels), torch.stack(targets)


def _loss(predicted: Tensor, target: Tensor, training: MouthTraining) -> Tensor:
    predicted = predicted[..., : len(WEIGHTS)]  # the voice is fitted afterwards
    closing = target[..., 5:].amax(-1, keepdim=True)  # lips tuck or press
    weights = torch.tensor(WEIGHTS) * (1 + training.closing * closing)
    place = ((predicted - target) ** 2 * weights).mean()
    speed = ((predicted.diff(dim=1) - target.diff(dim=1)) ** 2 * weights[:, 1:]).mean()
    first = predicted[..., :2] - predicted[..., :2].mean(1, keepdim=True)
    second = target[..., :2] - target[..., :2].mean(1, keepdim=True)
    norms = first.square().sum(1) * second.square().sum(1)
    alike = (first * second).sum(1) / (norms + 1e-4).sqrt()
    return place + training.velocity * speed + training.correlation * 0.1 * (1 - alike).mean()
