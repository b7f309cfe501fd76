"""Temporal jitter: mean acceleration of landmarks that speech hardly moves.

Shapes: T frames, N landmarks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_finite, check_shape
from ..errors import InputError, ShapeError
from ..face import topology as topo
from ..face.canonical import canonical_face
from ..face.geometry import align, interocular_px
from ..types import LandmarkTrack
from .meter import Meter, MeterFactory

MIN_FRAMES = 3  # in a row


class JitterMeter:
    """Jitter of landmarks that come in parts; memory stays the same.

    Args:
        without_head: take the head's position, turn and size out of every frame first.
    """

    def __init__(self, without_head: bool = False) -> None:
        self.without_head = without_head
        self.num_frames = 0  # that have a neighbour on both sides
        self._last: tuple[Tensor, Tensor] | None = None  # places and flags of the two frames before
        self._moved = self._eyes = 0.0
        self._num_faces = 0

    def update(self, points_px: Tensor, valid: Tensor | None = None) -> None:
        """Add the next frames.

        Args:
            points_px: (T, 468 or 478, 3) pixels.
            valid: (T,) bool, where a face was seen; None: everywhere.

        Raises:
            InputError: not MediaPipe's landmarks, or values that are not numbers.
        """
        check_shape(points_px, "T N 3", "points_px")
        if points_px.shape[1] < topo.NUM_MESH_POINTS:
            raise InputError(f"jitter needs MediaPipe's 468 or 478 landmarks; {points_px.shape[1]} were given.")
        flags = torch.ones(len(points_px), dtype=torch.bool) if valid is None else valid
        if flags.dtype != torch.bool or flags.shape != points_px.shape[:1]:
            raise ShapeError(f"{len(points_px)} frames need as many bool flags, not {tuple(flags.shape)}.")
        points = torch.where(flags[:, None, None], points_px, torch.zeros_like(points_px)).double()
        check_finite(points, "points_px")
        places, eyes = self._places(points)
        self._eyes, self._num_faces = self._eyes + float(eyes[flags].sum()), self._num_faces + int(flags.sum())
        if self._last is not None:
            places, flags = torch.cat([self._last[0], places]), torch.cat([self._last[1], flags])
        self._last = places[-2:], flags[-2:]
        bend = (places[2:] - 2 * places[1:-1] + places[:-2]).norm(dim=2).mean(1)
        complete = flags[2:] & flags[1:-1] & flags[:-2]
        self._moved, self.num_frames = self._moved + float(bend[complete].sum()), self.num_frames + int(complete.sum())

    def result(self) -> float:
        """Mean acceleration, percent of the inter-ocular distance per frame²; 0 for a face that glides evenly.

        Raises:
            InputError: never a face in three frames in a row.
        """
        if not self.num_frames:
            raise InputError(f"jitter needs a face in {MIN_FRAMES} frames in a row, and there are none.")
        return 100 * (self._moved / self.num_frames) / max(self._eyes / self._num_faces, 1e-6)

    def _places(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(T, R, 2) positions of points that speech hardly moves, and (T,) inter-ocular distances in the same unit."""
        rigid = list(topo.RIGID)
        if not self.without_head:
            return points[:, rigid, :2], interocular_px(points)
        plain = canonical_face().double()
        scale, rotation, shift = align(points[:, rigid], plain[rigid].expand(len(points), -1, -1))
        local = scale[:, None, None] * points[:, rigid] @ rotation.transpose(1, 2) + shift[:, None]
        return local[..., :2], interocular_px(plain[None]).expand(len(points))


def jitter(points_px: Tensor, valid: Tensor | None = None, without_head: bool = False) -> float:
    """Jitter of a whole clip: see `JitterMeter`.

    Args:
        points_px: (T, 468 or 478, 3) pixels.
        valid: (T,) bool, where a face was seen; None: everywhere.
        without_head: take the head's motion out first.

    Returns:
        ≥ 0, percent of the inter-ocular distance per frame²; compare at one frame rate only.

    Raises:
        InputError: never a face in three frames in a row.
    """
    meter = JitterMeter(without_head)
    meter.update(points_px, valid)
    return meter.result()


class TrackJitter(Meter):
    """Jitter of a track that comes in parts.

    Args:
        without_head: take the head's motion out first.
    """

    def __init__(self, without_head: bool) -> None:
        self._meter = JitterMeter(without_head)

    def update(self, track: LandmarkTrack) -> None:
        """Add the next frames."""
        self._meter.update(track.points_px, track.valid)

    def result(self) -> float:
        """As `JitterMeter.result`."""
        return self._meter.result()


def track_jitter(without_head: bool = False) -> MeterFactory:
    """For the registry: jitter of a track that comes in parts."""
    return lambda _context: TrackJitter(without_head)
