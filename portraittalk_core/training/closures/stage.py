"""Training of the closure network over classes of sounds, and of f and v alone, on made and recorded speech."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...engines.builtin.closure_net import ClosureNet
from ...engines.builtin.mouth_model import load_mouth, save_closures, save_mouth
from ...errors import InputError
from ...media.files import check_writable
from ...progress import Progress
from ...weights.load import read_metadata
from ..loop.ema import Ema
from ..mouth.augment import mask_bands
from ..mouth.speech_corpus import SHARES, CorpusClip, load_corpus, make_corpus
from .config import ClosureTrainer, ClosureTraining
from .labels import IGNORED, frame_classes
from .losses import class_loss, labiodental_loss, without_edges
from .recordings import aligned_recordings
from .vary import varied

POOL, RENEWED = 200, 3  # varied clips that are kept, and those of them that are made anew at each step
CLIP_NORM, WARM_UP = 1.0, 0.1


@dataclass(frozen=True)
class ClosureResult:
    """What a training made."""

    closures: Path
    clips: int
    recordings: int


def train_closures(config: ClosureTraining, on_progress: Progress | None = None) -> ClosureResult:
    """Train a closure network.

    Args:
        config: everything.
        on_progress: called with recordings aligned and recordings in all, then with steps; may raise to stop.

    Raises:
        InputError: no recording can be used, `config.mouth` is of another kind, or `config.base` holds no closures.
        MissingDependency: a synthesiser, or pocketsphinx for recordings, is not installed; no such file.
        OutputError: `config.out` cannot be written.
    """
    check_writable(config.out)
    mouth = None if config.mouth is None else copy.deepcopy(load_mouth(config.mouth))
    base = None if config.base is None else _closures_of(config.base)
    seed, shards = config.trainer.seed, []
    for hours, neural in ((config.hours, False), (config.neural_hours, True)):
        if hours:
            shards += make_corpus(config.corpus, hours, seed, None, neural)
    clips = load_corpus(shards)
    recordings = [] if config.recordings is None else aligned_recordings(config.recordings, on_progress)
    net = fit_closures(clips, recordings, config.trainer, on_progress, base)
    card = {
        "clips": len(clips), "recordings": len(recordings), "synthesisers": SHARES,
        **dataclasses.asdict(config.trainer),
    }  # fmt: skip
    if base is not None:
        card |= {"width": base.width, "base": read_metadata(config.base).get("card", "")}
    if mouth is None:
        save_closures(net, config.out, card)
    else:
        mouth.closures = net
        save_mouth(mouth, config.out, {"mouth": read_metadata(config.mouth).get("card", ""), "closures": card})
    return ClosureResult(config.out, len(clips), len(recordings))


def _closures_of(path: Path) -> ClosureNet:
    net = load_mouth(path).closures
    if net is None:
        raise InputError(f"{path.name} holds no closure network; give a file of `portraittalk train closures` as base.")
    return net


def fit_closures(
    clips: Sequence[CorpusClip],
    recordings: Sequence[CorpusClip],
    trainer: ClosureTrainer,
    on_progress: Progress | None = None,
    base: ClosureNet | None = None,
) -> ClosureNet:
    """A network in evaluation mode.

    Args:
        clips: synthesised speech.
        recordings: of people; may be none.
        trainer: sizes and rates.
        on_progress: called with steps done and steps in all; may raise to stop.
        base: a network to go on from: f and v are taught further, its other answers stay; None: from nothing.
    """
    torch.manual_seed(trainer.seed)
    random = np.random.default_rng(trainer.seed)
    sources = [_Pool(part, random) for part in (clips, recordings) if len(part)]
    shares = [1.0] if len(sources) == 1 else [1 - trainer.recorded, trainer.recorded]
    net = ClosureNet(trainer.width).train() if base is None else copy.deepcopy(base).train().requires_grad_(True)
    ema = Ema(dict(net.named_parameters()), trainer.ema_decay, lambda: dict(net.named_buffers()))
    optimizer = torch.optim.AdamW(net.parameters(), trainer.learning_rate, weight_decay=trainer.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, trainer.learning_rate, trainer.steps, pct_start=WARM_UP)
    for step in range(1, trainer.steps + 1):
        for source in sources:
            source.renew(RENEWED)
        chosen = random.choice(len(sources), trainer.batch, p=shares)
        parts = [_part(*sources[i].one(), trainer.segment, random) for i in chosen]
        mels, classes = (torch.stack(column) for column in zip(*parts, strict=True))
        logits = net(mels).flatten(0, 1)
        if base is None:
            loss = class_loss(logits, classes.flatten())
        else:
            with torch.no_grad():
                known = base(mels).flatten(0, 1)
            loss = labiodental_loss(logits, known, without_edges(classes).flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP_NORM)
        optimizer.step()
        schedule.step()
        ema.update()
        if on_progress:
            on_progress(step, trainer.steps)
    net.load_state_dict(ema.averages)
    return net.eval()


class _Pool:
    """Varied clips of a source."""

    def __init__(self, clips: Sequence[CorpusClip], random: np.random.Generator) -> None:
        self._clips, self._random = clips, random
        self._varied = [self._another() for _ in range(POOL)]

    def renew(self, count: int) -> None:
        """Make some of the clips anew."""
        for _ in range(count):
            self._varied[self._random.integers(POOL)] = self._another()

    def one(self) -> tuple[Tensor, Tensor]:
        """(M, 80) normalised and (M,) classes of one of the clips."""
        return self._varied[self._random.integers(POOL)]

    def _another(self) -> tuple[Tensor, Tensor]:
        clip = self._clips[self._random.integers(len(self._clips))]
        return varied(clip.mel, frame_classes(clip.sounds, clip.mel), clip.sounds, self._random)


def _part(mel: Tensor, classes: Tensor, segment: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(segment, 80) and (segment,) of a clip, as if its statistics had been measured on other words."""
    start = int(random.integers(0, max(1, len(mel) - segment + 1)))
    part, labels = mel[start : start + segment].float(), classes[start : start + segment]
    labels = F.pad(labels, (0, segment - len(part)), value=IGNORED)
    part = F.pad(part.T, (0, segment - len(part)), mode="replicate").T
    bands = torch.from_numpy(random.normal(0, 0.12, (1, part.shape[1]))).float()
    part = part * float(np.exp(random.normal(0, 0.08))) + bands + float(random.normal(0, 0.15))
    return mask_bands(part + 0.1 * torch.randn_like(part), random), labels
