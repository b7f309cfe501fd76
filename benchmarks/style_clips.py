"""Real clips cut into segments, and clustering of the segments' styles by clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.errors import InputError, MediaError
from portraittalk_core.face.mesh.landmarks import track_faces
from portraittalk_core.media.audio import load_speech
from portraittalk_core.media.records import load_record
from portraittalk_core.media.video_read import probe_video, read_pictures
from portraittalk_core.metrics.clustering_strength import (
    clustering_strength,
    nearest_centroid_accuracy,
    pairwise_clustering_strength,
)
from portraittalk_core.speech.encoders import SpeechEncoder
from portraittalk_core.style.extractor import StyleExtractor, new_extractor_net
from portraittalk_core.style.prior import StylePrior
from portraittalk_core.style.reference import STATISTICS_SPREAD, Reference, speech_pieces, style_of
from portraittalk_core.style.statistics import measure_statistics
from portraittalk_core.types import LandmarkTrack, Speech

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
MIN_SEGMENTS = 2  # of a clip: one to classify, one for its centroid


@dataclass(frozen=True)
class StyleClip:
    """A real clip: its landmark track and speech."""

    name: str
    track: LandmarkTrack
    speech: Speech | None = None


@dataclass(frozen=True)
class ClusterScores:
    """Clustering scores of segments by clip."""

    by: str
    points: Tensor  # (M, D) in units in which all numbers count alike
    labels: Tensor  # (M,) number of the clip
    accuracy: float
    shuffled: float  # accuracy where clips are dealt out by chance, mean of 20
    strength: float
    pairwise: float


def load_style_clips(folder: Path, sounds: Path | None, on_skip: Callable[[str], None] = print) -> list[StyleClip]:
    """The clips of a folder of landmark tracks (.safetensors) or of videos, by name.

    Args:
        folder: where they are.
        sounds: folder of <name>.wav; None looks beside the clips.
        on_skip: called with a sentence on each clip that cannot be used.

    Raises:
        InputError: fewer than two can be used.
    """
    paths = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in VIDEOS}
    paths |= {path.stem: path for path in sorted(folder.glob("*.safetensors"))}  # which are quicker
    clips = []
    for name, path in sorted(paths.items()):
        try:
            sound = next((p for p in ((sounds or folder) / f"{name}.wav", path) if p.is_file()), None)
            speech = None if sound is None or sound.suffix == ".safetensors" else load_speech(sound)
            clips.append(StyleClip(name, _track(path), speech))
        except (InputError, MediaError) as error:
            on_skip(f"{name} is left out: {error}")
    if len(clips) < MIN_SEGMENTS:
        raise InputError(f"{folder} holds {len(clips)} clips that can be used; two are needed to tell them apart.")
    return clips


def _track(path: Path) -> LandmarkTrack:
    if path.suffix not in VIDEOS:
        return load_record(LandmarkTrack, path)
    fps = probe_video(path).fps
    return track_faces(read_pictures(path, fps), fps, source=path.name)


def segments(clip: StyleClip, seconds: float) -> list[StyleClip]:
    """Parts of a clip one after another, all of the same length: another one would tell which clip it is from."""
    length = int(seconds * clip.track.fps)
    count = len(clip.track) // length
    if count < MIN_SEGMENTS:
        return []
    parts = []
    for number in range(count):
        start = number * length
        part = clip.track.slice(start, start + length)
        sound = None if clip.speech is None else speech_pieces(clip.speech, [(start, part)])[0]
        parts.append(StyleClip(f"{clip.name} {number + 1}", part, sound))
    return parts


def reference_style(clip: StyleClip) -> StylePrior:
    """The style prior of a clip's statistics, as the nodes compute it."""
    return style_of(Reference((clip.track,), source=clip.name))


def cluster_by_statistics(clips: list[StyleClip], seconds: float, without: tuple[int, ...] = ()) -> ClusterScores:
    """Clustering scores of segments by standardised motion statistics."""
    columns = [number for number in range(len(STATISTICS_SPREAD)) if number not in without]
    spread = torch.tensor(STATISTICS_SPREAD)[columns]
    rows, labels = [], []
    for label, clip in enumerate(clips):
        parts = segments(clip, seconds)
        rows += [measure_statistics(part.track, window_s=60).mean(0)[columns] / spread for part in parts]
        labels += [label] * len(parts)
    return _cluster_scores("motion statistics" + (" (no rest pose)" if without else ""), torch.stack(rows), labels)


def untrained(extractor: StyleExtractor) -> StyleExtractor:
    """An extractor of the same sizes with random weights, as the baseline of a trained one."""
    network = new_extractor_net(extractor.sizes, seed=1).eval().requires_grad_(False)
    return StyleExtractor(network, torch.ones_like(extractor.spread), "untrained")


def cluster_by_extractor(
    clips: list[StyleClip], seconds: float, extractor: StyleExtractor, encoder: SpeechEncoder | None, sides: str
) -> ClusterScores:
    """Clustering scores of segments by an extractor's styles of "both" sides, of "sound" or of "face"."""
    rows, labels = [], []
    for label, clip in enumerate(clips):
        for part in segments(clip, seconds):
            sounds = (part.speech,) if part.speech is not None and sides != "face" else ()
            tracks = (part.track,) if sides != "sound" else ()
            if sides != "face" and not sounds:
                continue
            rows.append(style_of(Reference(tracks, sounds, part.name), None, extractor, encoder).mean)
            labels.append(label)
    if len(set(labels)) < MIN_SEGMENTS:
        raise InputError(f"{len(set(labels))} clips have a sound; two are needed.")
    return _cluster_scores(f"{extractor.name}, {sides}", torch.stack(rows), labels)


def _cluster_scores(by: str, points: Tensor, labels: list[int]) -> ClusterScores:
    names = torch.tensor(labels)
    accuracy = nearest_centroid_accuracy(points, names, leave_one_out=True)
    draw = torch.Generator().manual_seed(0)
    shuffled = [
        nearest_centroid_accuracy(points, names[torch.randperm(len(names), generator=draw)], leave_one_out=True)
        for _ in range(20)
    ]
    strength, pairs = clustering_strength(points, names), pairwise_clustering_strength(points, names)
    return ClusterScores(by, points, names, accuracy, sum(shuffled) / len(shuffled), strength, pairs)
