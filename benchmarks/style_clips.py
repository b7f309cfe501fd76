"""Real clips cut into segments, and clustering of the segments' styles by clip."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.errors import InputError, MediaError
from portraittalk_core.face.mesh.landmarks import track_faces
from portraittalk_core.media.audio import load_speech
from portraittalk_core.media.records import load_record
from portraittalk_core.media.video_read import probe_video, read_pictures
from portraittalk_core.metrics.clustering_strength import clustering_strength, pairwise_clustering_strength
from portraittalk_core.speech.encoders import SpeechEncoder
from portraittalk_core.style.discriminant import DiscriminantNet
from portraittalk_core.style.extractor import StyleExtractor, new_extractor_net
from portraittalk_core.style.prior import StylePrior
from portraittalk_core.style.reference import STATISTICS_SPREAD, Reference, speech_pieces, style_of
from portraittalk_core.style.statistics import measure_statistics
from portraittalk_core.types import LandmarkTrack, Speech

from .style_recordings import another_recording, clip_mean, interval, nearest_own, nearest_speaker, traces

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
MIN_SEGMENTS = 2  # of a clip: one to classify, one for its centroid


@dataclass(frozen=True)
class StyleClip:
    """A real clip: its landmark track and speech."""

    name: str
    track: LandmarkTrack
    speech: Speech | None = None
    speaker: str = ""  # the clip's own name where no table tells


@dataclass(frozen=True)
class ClusterScores:
    """Clustering scores of segments by clip."""

    by: str
    points: Tensor  # (M, D) in units in which all numbers count alike
    labels: Tensor  # (M,) number of the clip
    hits: Tensor  # (M,) bool: nearest to its own clip
    bounds: tuple[float, float]  # of the accuracy, 95 %, clips drawn anew
    by_clip: float  # accuracy where every clip counts alike
    speaker: tuple[float, float, int]  # as of `style_recordings.nearest_speaker`
    shuffled: float  # accuracy where clips are dealt out by chance, mean of 20
    strength: float
    pairwise: float

    @property
    def accuracy(self) -> float:
        """Share of segments that are nearest to their own clip."""
        return float(self.hits.double().mean())


def load_style_clips(
    folder: Path, sounds: Path | None, on_skip: Callable[[str], None] = print, table: Path | None = None
) -> list[StyleClip]:
    """The clips of a folder of landmark tracks (.safetensors) or of videos, by name.

    Args:
        folder: where they are.
        sounds: folder of <name>.wav; None looks beside the clips.
        on_skip: called with a sentence on each clip that cannot be used.
        table: CSV with columns file and speaker.

    Raises:
        InputError: fewer than two can be used.
    """
    paths = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in VIDEOS}
    paths |= {path.stem: path for path in sorted(folder.glob("*.safetensors"))}  # which are quicker
    clips, speakers = [], {} if table is None else _speakers(table)
    for name, path in sorted(paths.items()):
        try:
            sound = next((p for p in ((sounds or folder) / f"{name}.wav", path) if p.is_file()), None)
            speech = None if sound is None or sound.suffix == ".safetensors" else load_speech(sound)
            clips.append(StyleClip(name, _track(path), speech, speakers.get(name, name)))
        except (InputError, MediaError) as error:
            on_skip(f"{name} is left out: {error}")
    if len(clips) < MIN_SEGMENTS:
        raise InputError(f"{folder} holds {len(clips)} clips that can be used; two are needed to tell them apart.")
    return clips


def _speakers(table: Path) -> dict[str, str]:
    with table.open(newline="", encoding="utf-8") as lines:
        return {Path(row["file"]).stem: row["speaker"] for row in csv.DictReader(lines)}


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
        parts.append(StyleClip(f"{clip.name} {number + 1}", part, sound, clip.speaker))
    return parts


def recorded_anew(parts: list[StyleClip], seed: int | None) -> list[StyleClip]:
    """Segments, each as a recording of its own would show it; as they are without a seed."""
    if seed is None:
        return parts
    draw = torch.Generator().manual_seed(seed)
    return [replace(part, track=another_recording(part.track, draw)) for part in parts]


def reference_style(clip: StyleClip) -> StylePrior:
    """The style prior of a clip's statistics, as the nodes compute it."""
    return style_of(Reference((clip.track,), source=clip.name))


def cluster_by_statistics(
    clips: list[StyleClip], seconds: float, without: tuple[int, ...] = (), seed: int | None = None
) -> ClusterScores:
    """Clustering scores of segments by standardised motion statistics; with a seed, each of a recording of its own."""
    columns = [number for number in range(len(STATISTICS_SPREAD)) if number not in without]
    spread = torch.tensor(STATISTICS_SPREAD)[columns]
    name = "motion statistics" + (" (no rest pose)" if without else "")
    return _clustered(
        name, clips, seconds, seed, lambda part: measure_statistics(part.track, window_s=60).mean(0)[columns] / spread
    )


def cluster_by_traces(clips: list[StyleClip], seconds: float, seed: int | None = None) -> ClusterScores:
    """Clustering scores of segments by what the recording shows of itself, standardised over all segments."""
    scores = _clustered("the recording alone", clips, seconds, seed, lambda part: traces(part.track))
    points = (scores.points - scores.points.mean(0)) / scores.points.std(0).clamp(min=1e-6)
    return _cluster_scores(scores.by, points, scores.labels, clips)


def untrained(extractor: StyleExtractor) -> StyleExtractor:
    """An extractor of the same sizes with random weights, as the baseline of a trained one."""
    if isinstance(extractor.network, DiscriminantNet):
        network = DiscriminantNet(extractor.network.sizes)
        network.load_state_dict(extractor.network.state_dict())
        weight = network.project.weight.data
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
        return StyleExtractor(
            network.eval().requires_grad_(False), torch.ones_like(extractor.spread), "random projection"
        )
    network = new_extractor_net(extractor.sizes, seed=1).eval().requires_grad_(False)
    return StyleExtractor(network, torch.ones_like(extractor.spread), "untrained")


def cluster_by_extractor(
    clips: list[StyleClip],
    seconds: float,
    extractor: StyleExtractor,
    encoder: SpeechEncoder | None,
    sides: str,
    seed: int | None = None,
) -> ClusterScores:
    """Clustering scores of segments by an extractor's styles of "both" sides, of "sound" or of "face"."""

    def style(part: StyleClip) -> Tensor | None:
        sounds = (part.speech,) if part.speech is not None and sides != "face" else ()
        tracks = (part.track,) if sides != "sound" else ()
        if sides != "face" and not sounds:
            return None
        return style_of(Reference(tracks, sounds, part.name), None, extractor, encoder).mean

    if sides != "face" and not extractor.hears:
        raise InputError(f"{extractor.name} does not hear.")
    return _clustered(f"{extractor.name}, {sides}", clips, seconds, seed, style)


def _clustered(
    by: str,
    clips: list[StyleClip],
    seconds: float,
    seed: int | None,
    describe: Callable[[StyleClip], Tensor | None],
) -> ClusterScores:
    rows, labels, used = [], [], []
    for number, clip in enumerate(clips):
        parts = recorded_anew(segments(clip, seconds), None if seed is None else 1000 * seed + number)
        points = [point for point in map(describe, parts) if point is not None]
        if len(points) >= MIN_SEGMENTS:
            rows += points
            labels += [len(used)] * len(points)
            used.append(clip)
    if len(used) < MIN_SEGMENTS:
        raise InputError(f"{len(used)} clips have a sound; two are needed.")
    return _cluster_scores(by, torch.stack(rows), torch.tensor(labels), used)


def _cluster_scores(by: str, points: Tensor, labels: Tensor, clips: list[StyleClip]) -> ClusterScores:
    hits = nearest_own(points, labels)
    draw = torch.Generator().manual_seed(0)
    dealt = [labels[torch.randperm(len(labels), generator=draw)] for _ in range(20)]
    shuffled = [float(nearest_own(points, names).double().mean()) for names in dealt]
    return ClusterScores(
        by, points, labels, hits, interval(hits, labels), clip_mean(hits, labels),
        nearest_speaker(points, labels, [clip.speaker or clip.name for clip in clips]), sum(shuffled) / len(shuffled),
        clustering_strength(points, labels), pairwise_clustering_strength(points, labels),
    )  # fmt: skip
