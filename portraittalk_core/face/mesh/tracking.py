"""Tracking of one face over the frames of a video, and interpolation of gaps."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ...memory_map import MappedRows, release_memory
from ...types import NUM_LANDMARKS
from ..choice import FaceChoice
from .backends import MeshBackend
from .refinement import most_alike, refine
from .search import detect_faces, detect_upright, upside_down

TRACKING_CROPS = (1.7, 2.3)  # square crops around the last face, whose landmarks are averaged
SEARCH_EVERY = 25  # pictures between thorough searches while the face is gone


class Follower:
    """Tracker of one face: refines near its last position, and searches the whole picture when it is lost.

    Among several faces only one that overlaps the last place can be the same again; a face that was alone when it was
    chosen may reappear anywhere. A film whose face stands upside down when it is first seen is followed turned.
    """

    def __init__(self, mesh: MeshBackend, face_index: int | FaceChoice, face_order: str) -> None:
        self.mesh, self.face_index, self.face_order = mesh, face_index, face_order
        self.last: Tensor | None = None  # (478, 3) pixels
        self.was_alone = False
        self.is_turned = False  # the pictures are looked at upside down, and `last` is in the turned one
        self.num_missing = 0
        self.most = torch.empty(0, NUM_LANDMARKS, 3)  # faces seen at once, pixels, while the right one was not

    def see(self, picture: Tensor) -> Tensor | None:
        """(478, 3) pixels of the face in the next picture, or None."""
        face, upright = None, upside_down(picture) if self.is_turned else picture
        if self.last is not None:
            face = refine(upright, self.last, self.mesh, TRACKING_CROPS)
        if face is None:
            face = self._search(upright)
        if face is None:
            self.num_missing += 1
            return None
        self.last, self.num_missing = face, 0
        if not self.is_turned:
            return face
        height, width = picture.shape[:2]
        return torch.tensor([width, height, 0.0]) - face * torch.tensor([1.0, 1.0, -1.0])

    def _search(self, picture: Tensor) -> Tensor | None:
        height, width = picture.shape[:2]
        thorough = self.num_missing % SEARCH_EVERY == 0
        if self.last is None:
            faces, self.is_turned = detect_upright(picture, self.mesh, self.face_order, thorough)
        else:
            faces = detect_faces(picture, self.mesh, self.face_order, thorough)
        faces = faces * torch.tensor([width, height, width], dtype=torch.float32)
        if self.last is not None and not self.was_alone:
            return most_alike(faces, self.last, min_iou=0.1)
        index = self._chosen(faces, width, height)
        if index is None:
            self.most = faces if len(faces) > len(self.most) else self.most
            if self.last is None:
                self.is_turned = False  # until the face is there
            return None
        self.was_alone = len(faces) == 1
        return faces[index]

    def _chosen(self, faces: Tensor, width: int, height: int) -> int | None:
        """Which of (F, 478, 3) faces in pixels is the one; one that was alone may be anywhere when it is back."""
        if not isinstance(self.face_index, int):
            is_back = self.last is not None and len(faces) == 1
            return 0 if is_back else self.face_index.index(faces, width, height)
        return self.face_index if self.face_index < len(faces) else None


class Seen:
    """Landmarks of a face in frame after frame, some without it; those of a long film lie in a file."""

    def __init__(self) -> None:
        self._rows = MappedRows(NUM_LANDMARKS, 3)
        self._seen: list[bool] = []

    def add(self, frame: Tensor | None) -> None:
        """Take the next frame's (478, 3) landmarks, or None."""
        self._rows.add(frame)
        self._seen.append(frame is not None)

    @property
    def valid(self) -> Tensor:
        """(T,) bool: which frames have landmarks."""
        return torch.tensor(self._seen, dtype=torch.bool)

    def filled(self, on_missing: str) -> Tensor:
        """(T, 478, 3) landmarks with the gaps filled, see `filled`; what was gathered is given up."""
        points = self._rows.table()
        numbers = [number for number, is_seen in enumerate(self._seen) if is_seen]
        points[: numbers[0]], points[numbers[-1] + 1 :] = points[numbers[0]].clone(), points[numbers[-1]].clone()
        for first, second in pairwise(numbers):
            share = torch.arange(1, second - first)[:, None, None] / (second - first)
            end = points[second] if on_missing == "interpolate" else points[first]
            points[first + 1 : second] = torch.lerp(points[first][None], end[None], share)
        release_memory()
        return points


def filled(frames: list[Tensor | None], on_missing: str) -> Tensor:
    """(T, 478, 3) landmarks with the gaps filled; at least one frame must show the face.

    Args:
        frames: (478, 3) or None.
        on_missing: "interpolate" moves straight from the last seen to the next one; else the last one is repeated. At
            the ends the nearest one is repeated either way.
    """
    tracked = Seen()
    for frame in frames:
        tracked.add(frame)
    return tracked.filled(on_missing)
