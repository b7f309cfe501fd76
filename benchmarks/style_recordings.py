"""What a recording adds to a style: the same motion as another recording would show it, and what its traces tell.

A clip's pieces share camera, light, size and the detector's noise, by which they could be told apart without any style.
So every piece is shown as another recording of its own, and pieces are compared with other clips of their speaker.

Shapes: T frames, M pieces, K clips, D numbers of a style.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from portraittalk_core.face.curve_statistics import gaussian_smoothed
from portraittalk_core.face.geometry import head_pose
from portraittalk_core.face.topology import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS
from portraittalk_core.types import LandmarkTrack

SIDE_PX = 1000
RECORDED_FPS = (20, 24, 25, 30, 50)
NOISE = 0.006  # of the inter-ocular distance, each landmark's deviation at most
DRAWS = 2000  # of the bootstrap
INTERVAL = (0.025, 0.975)


def another_recording(track: LandmarkTrack, generator: torch.Generator) -> LandmarkTrack:
    """The same motion with another size, place, roll, camera angle, frame rate, sharpness and noise of landmarks."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=generator))

    points, count = track.points_px.float(), len(track)
    ocular = (points[:, RIGHT_EYE_CORNERS[0]] - points[:, LEFT_EYE_CORNERS[0]]).norm(dim=1).median()
    if (sigma := between(0, 1.2)) > 0.2:
        points = gaussian_smoothed(points.flatten(1), sigma).view_as(points)
    ratio = RECORDED_FPS[int(between(0, len(RECORDED_FPS) - 1e-3))] / float(track.fps)
    frames = _sampled(points, (torch.arange(max(2, int(count * ratio))) + between(0, 1)) / ratio)
    points = _sampled(frames, torch.arange(count) * ratio)
    points = points + between(0, NOISE) * ocular * _noise(points.shape, between(0, 0.9), generator)
    turn = _rotation(2, between(-10, 10)) @ _rotation(1, between(-12, 12)) @ _rotation(0, between(-8, 8))
    place = torch.tensor([between(0.2, 0.8) * SIDE_PX, between(0.2, 0.8) * SIDE_PX, 0.0])
    points = between(0.5, 2) * (points - points.mean((0, 1))) @ turn.T + place
    return LandmarkTrack.from_px(points, SIDE_PX, SIDE_PX, track.fps, track.valid)


def traces(track: LandmarkTrack) -> Tensor:
    """(8,) what a recording shows of itself: size, place, mean turn and unsteadiness of the face."""
    pose = head_pose(track)
    jerk = track.points_px[..., :2].diff(n=3, dim=0).norm(dim=2).median() / pose.scale.median()
    size = pose.scale.mean() / track.width
    return torch.cat([size.log()[None], pose.translation[:, :2].mean(0), pose.angles_deg.mean(0) / 10,
                      torch.tensor([track.width / track.height]), jerk.log()[None]])  # fmt: skip


def nearest_own(points: Tensor, labels: Tensor) -> Tensor:
    """(M,) bool, whether a piece is nearest to the middle of its own clip's other pieces."""
    distances, centres = _distances(points, labels)
    counts = labels.bincount()[labels].double()
    rows = torch.arange(len(points))
    distances[rows, labels] *= counts / (counts - 1)  # without itself it is n / (n − 1) times as far
    return distances.argmin(1) == labels


def nearest_speaker(points: Tensor, labels: Tensor, speakers: Sequence[str]) -> tuple[float, float, int]:
    """Share of pieces that are nearest to another clip of their speaker, of all other clips; chance; and how many.

    Only pieces count whose speaker has another clip. Camera, light and microphone of that clip are others.
    """
    distances, _ = _distances(points, labels)
    hits, chances = [], []
    for row, label in enumerate(labels.tolist()):
        same = [speaker == speakers[label] for speaker in speakers]
        if sum(same) > 1:
            distances[row, label] = math.inf
            hits.append(same[int(distances[row].argmin())])
            chances.append((sum(same) - 1) / (len(speakers) - 1))
    return sum(hits) / max(len(hits), 1), sum(chances) / max(len(hits), 1), len(hits)


def interval(hits: Tensor, labels: Tensor) -> tuple[float, float]:
    """95 % interval of the mean of values of pieces, by drawing whole clips anew."""
    counts = labels.bincount().double()
    sums = torch.zeros_like(counts).index_add_(0, labels, hits.double())
    drawn = torch.randint(len(counts), (DRAWS, len(counts)), generator=torch.Generator().manual_seed(0))
    low, high = torch.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), torch.tensor(INTERVAL, dtype=torch.float64))
    return float(low), float(high)


def clip_mean(hits: Tensor, labels: Tensor) -> float:
    """Mean over clips of the mean over their pieces, so that long clips do not count more."""
    counts = labels.bincount().double()
    return float((torch.zeros_like(counts).index_add_(0, labels, hits.double()) / counts).mean())


def _distances(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (M, K) of pieces from the middles of clips, and these (K, D), in float64."""
    sums = torch.zeros(int(labels.max()) + 1, points.shape[1], dtype=torch.float64)
    centres = sums.index_add_(0, labels, points.double()) / labels.bincount()[:, None]
    return torch.cdist(points.double(), centres, compute_mode="donot_use_mm_for_euclid_dist"), centres


def _sampled(points: Tensor, at: Tensor) -> Tensor:
    at = at.clamp(0, len(points) - 1)
    low = at.floor().long()
    high = (low + 1).clamp(max=len(points) - 1)
    return torch.lerp(points[low], points[high], (at - low)[:, None, None].float())


def _noise(shape: torch.Size, memory: float, generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    for frame in range(1, shape[0]):
        noise[frame] = memory * noise[frame - 1] + math.sqrt(1 - memory**2) * noise[frame]
    return noise


def _rotation(axis: int, degrees: float) -> Tensor:
    angle, others = math.radians(degrees), [a for a in range(3) if a != axis]
    matrix = torch.eye(3)
    first, second = others
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[first, second], matrix[second, first] = -math.sin(angle), math.sin(angle)
    return matrix
