"""What a lip renderer paints on: the frames of a film, or a portrait that the warp moves, with their landmarks.

Shapes: T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

import torch
from torch import Tensor

from ...errors import InputError
from ...memory_map import MappedRows
from ...types import LandmarkTrack, Portrait, joined_shoulders
from ..contract import Film, RenderJob
from ..warp.build import warped_pictures


@dataclass(frozen=True)
class Footage:
    """Pictures to paint on, where their face is, and where it is to be."""

    source: Film | Portrait
    track: LandmarkTrack  # T frames of the face as it stands in the pictures
    target: LandmarkTrack  # T frames of the face as it is to be painted
    scenes: Tensor  # (T,) int64 number of each frame's scene
    pictures: Callable[[], Iterator[Tensor]]  # (H, W, 3) uint8 from the beginning, T of them

    def __len__(self) -> int:
        return len(self.track)

    @property
    def name(self) -> str:
        """Of the source, for messages."""
        return self.source.source

    @property
    def rest(self) -> LandmarkTrack | None:
        """One frame that is the face at rest in all scenes; None where each scene has one of its own."""
        return self.source.landmarks if isinstance(self.source, Portrait) else None


def footage_of(job: RenderJob) -> Footage:
    """The footage of a job; all of its motion is held, 140 KB a second, of a long job in a file.

    A portrait's head, eyes and brows are moved by the warp, so that only its mouth is left to be painted.

    Raises:
        InputError: another number of frames than the job says, or keypoints.
    """
    target = joined(job.motion)
    if len(target) != job.num_frames:
        raise InputError(f"the motion has {len(target)} frames, but {job.num_frames} are to be rendered.")
    if isinstance(job.source, Film):
        film = job.source
        scenes = torch.zeros(len(film.track), dtype=torch.int64) if film.scenes is None else film.scenes
        return Footage(film, film.track, target, scenes, film.pictures)
    whole = replace(job, motion=(target,))
    scenes = torch.zeros(len(target), dtype=torch.int64)
    return Footage(job.source, target, target, scenes, lambda: warped_pictures(whole))


def joined(spans: Iterable[LandmarkTrack]) -> LandmarkTrack:
    """Consecutive spans as one track, a long one's landmarks in a file; a single span as it is."""
    parts = iter(spans)
    some = list(islice(parts, 2))
    if not some:
        raise InputError("there is nothing to render: the motion has 0 frames.")
    if len(some) == 1:
        return some[0]
    rows, valid, shoulders = MappedRows(*some[0].points.shape[1:]), [], []
    for part in chain(some, parts):
        valid.append(part.valid)
        shoulders.append(part.shoulders)
        for points in part.points:
            rows.add(points)
    whole = {"points": rows.table(), "valid": torch.cat(valid), "shoulders": joined_shoulders(shoulders)}
    return replace(some[0], **whole)
