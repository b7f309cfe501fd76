"""Training of the discriminant extractor in closed form: augmented speakers, and pieces of real clips.

Shapes: K clips, N frames, M numbers of a motion, F statistics, D numbers of a style.
Source: Fisher 1936; Hatch, Kajarekar and Stolcke 2006; `docs/design/styles.md` 5.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...media.files import check_writable, make_folder
from ...metrics.clustering_strength import clustering_strength, nearest_centroid_accuracy
from ...progress import Progress
from ...style.discriminant import (
    NUM_EXPRESSIONS,
    NUM_STATISTICS,
    DiscriminantNet,
    motion_of,
    motion_statistics,
)
from ...style.extractor import StyleExtractor, save_extractor
from ...style.features import expression_features
from .augmented import draw_style, recorded, styled
from .data import prepared_tracks
from .discriminant_config import DiscriminantTraining

EXTRACTOR_NAME = "style_extractor.safetensors"
RIDGE = 1e-4  # added to the covariance of standardised statistics
HELD_OUT_STYLES = 200  # that scores are measured by
OTHER_SEED = 10_007  # added to training's, for those


@dataclass(frozen=True)
class DiscriminantResult:
    """File and scores of a training."""

    extractor: Path
    num_people: int
    num_real: int  # clips
    num_augmented: int  # clips
    accuracy: float  # nearest centroid, leave one out, of augmented speakers that were not trained on
    strength: float  # their clustering strength


@dataclass(frozen=True)
class Samples:
    """Statistics of clips whose classes are known."""

    statistics: Tensor  # (K, F)
    labels: Tensor  # (K,) from 0, none left out


def train_discriminant(config: DiscriminantTraining, on_progress: Progress | None = None) -> DiscriminantResult:
    """Train the discriminant extractor and write it.

    Raises:
        InputError: no folder of prepared clips, or none that is long enough.
        OutputError: `config.out` cannot be written.
    """
    notify = on_progress or (lambda *_: None)
    path = config.out / EXTRACTOR_NAME
    make_folder(config.out)
    check_writable(path)
    people = read_motion(config.data, min(config.lengths), config.leave_out)
    real = real_samples(people, min(config.lengths), config.seed)
    augmented = augmented_samples(people, config, config.styles, config.seed, notify)
    network, spread = fitted(augmented, real, config)
    held_out = augmented_samples(people, config, min(HELD_OUT_STYLES, config.styles), config.seed + OTHER_SEED)
    with torch.no_grad():
        styles = network.project((held_out.statistics - network.centre) / network.scale)
    counts = {"people": len(people), "real": sum(map(len, people)), "augmented": len(augmented.labels)}
    card = {**{name: str(count) for name, count in counts.items()}, "data_sha256": _fingerprint(people)}
    save_extractor(StyleExtractor(network.eval(), spread), path, card)
    accuracy = nearest_centroid_accuracy(styles, held_out.labels, leave_one_out=True)
    return DiscriminantResult(path, *counts.values(), accuracy, clustering_strength(styles, held_out.labels))


def read_motion(folder: Path, num_frames: int, leave_out: tuple[str, ...] = ()) -> list[list[np.ndarray]]:
    """Motion (T, M) of each person's clips, of prepared videos; the first folder of a name is the person.

    Raises:
        InputError: no folder, a name in `leave_out` that it lacks, or no clip of `2 * num_frames` frames.
    """
    people: dict[str, list[np.ndarray]] = {}
    tracks = prepared_tracks(folder)
    if absent := sorted(set(leave_out) - set(tracks)):
        raise InputError(f"{folder} has no {absent[0]}, which leave_out names; give FOLDER/CLIP as they lie there.")
    for name, track in tracks.items():
        if name in leave_out:
            continue
        if bool(track.valid.all()) and track.seconds * 25 >= 2 * num_frames:
            motion = motion_of(expression_features(track, None, name).values[None])[0].double().numpy()
            people.setdefault(name.split("/", maxsplit=1)[0], []).append(motion)
    if not people:
        raise InputError(
            f"{folder} holds no clip of {2 * num_frames} frames that shows a face throughout; prepare longer ones."
        )
    return list(people.values())


def real_samples(people: list[list[np.ndarray]], num_frames: int, seed: int) -> Samples:
    """Statistics of equal pieces of every real clip, as they are and as another recording would show them."""
    rng = np.random.default_rng([seed, 2])
    pieces, labels = [], []
    for label, clip in enumerate(clip for clips in people for clip in clips):
        for start in range(0, len(clip) - num_frames + 1, num_frames):
            piece = clip[start : start + num_frames]
            pieces += [piece, recorded(piece, rng)]
            labels += [label, label]
    return Samples(_statistics(pieces), torch.tensor(labels))


def augmented_samples(
    people: list[list[np.ndarray]], config: DiscriminantTraining, num_styles: int, seed: int,
    on_progress: Progress = lambda *_: None,
) -> Samples:  # fmt: skip
    """Statistics of clips of augmented speakers, of all lengths in turn, each as another recording would show it."""
    rng = np.random.default_rng([seed, 1])
    frames = np.concatenate([clip for clips in people for clip in clips])
    scale = np.maximum(frames[:, :NUM_EXPRESSIONS].std(0), 1e-3)
    shares = np.sqrt([len(clips) for clips in people])
    shares = shares / shares.sum()
    by_length: dict[int, list[np.ndarray]] = {length: [] for length in config.lengths}
    labels: dict[int, list[int]] = {length: [] for length in config.lengths}
    for number in range(num_styles):
        length = config.lengths[number % len(config.lengths)]
        style = draw_style(rng, shares)
        clips = people[style.person]
        for _ in range(config.clips):
            motion = styled(clips[rng.integers(len(clips))], style, scale, length, rng)
            by_length[length].append(recorded(motion, rng))
            labels[length].append(number)
        on_progress(number + 1, num_styles)
    used = [length for length in config.lengths if by_length[length]]
    statistics = torch.cat([_statistics(by_length[length]) for length in used])
    return Samples(statistics, torch.tensor([label for length in used for label in labels[length]]))


def fitted(augmented: Samples, real: Samples, config: DiscriminantTraining) -> tuple[DiscriminantNet, Tensor]:
    """The network of the discriminants, and the deviation (D,) of augmented speakers' styles."""
    network = DiscriminantNet(config.sizes)
    centre, scale = augmented.statistics.mean(0), augmented.statistics.std(0).clamp(min=1e-6)
    within, means = _within((augmented.statistics - centre) / scale, augmented.labels)
    of_real, _ = _within((real.statistics - centre) / scale, real.labels)
    within = (1 - config.real) * within + config.real * of_real
    within = (1 - config.shrinkage) * within + config.shrinkage * torch.diag(within.diagonal())
    values, vectors = torch.linalg.eigh(within + RIDGE * torch.eye(NUM_STATISTICS, dtype=torch.float64))
    whitening = vectors / values.sqrt()
    _, directions = torch.linalg.eigh(torch.cov((means @ whitening).T))
    projection = whitening @ directions[:, -config.width :].flip(1)
    largest = projection.gather(0, projection.abs().argmax(0, keepdim=True))
    projection = projection * largest.sign()  # a direction and its opposite are equally good: one is chosen
    with torch.no_grad():
        network.centre.copy_(centre)
        network.scale.copy_(scale)
        network.project.weight.copy_(projection.T)
    return network.requires_grad_(False), (means @ projection).std(0).float()


def _within(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Covariance (F, F) within classes, and the classes' means (L, F), in float64."""
    points = points.double()
    counts = labels.bincount()
    means = torch.zeros(len(counts), points.shape[1], dtype=torch.float64).index_add_(0, labels, points)
    means = means / counts[:, None]
    centred = points - means[labels]
    return centred.T @ centred / (len(points) - len(counts)), means


def _statistics(motions: list[np.ndarray]) -> Tensor:
    """(K, F) statistics of motions of one length."""
    parts = np.array_split(np.stack(motions).astype(np.float32), max(len(motions) // 512, 1))
    return torch.cat([motion_statistics(torch.from_numpy(part)) for part in parts])


def _fingerprint(people: list[list[np.ndarray]]) -> str:
    digest = hashlib.sha256()
    for clip in (clip for clips in people for clip in clips):
        digest.update(clip.tobytes())
    return digest.hexdigest()
