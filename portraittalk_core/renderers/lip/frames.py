"""Frames on their way to a lip model: read, cropped and sketched ahead, in a thread of their own, a batch at a time.

Shapes: B frames of a batch, N of them to be painted, S side of the networks' crops, H and W of the pictures.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...memory_map import release_memory
from ..sections import Section, Sections
from .crop import LipBoxes
from .footage import Footage
from .inside import gaps, parted_share
from .policy import RestingMouth
from .sketches import OwnSketches, PredictedSketches

MOST_BYTES = 48_000_000  # of a batch's pictures: several batches are on their way at once


@dataclass(frozen=True)
class FrameBatch:
    """Consecutive frames, with the crops of those that are to be painted."""

    first: int  # number of the first frame
    pictures: list[Tensor]  # B of (H, W, 3) uint8
    shapes: dict[int, Tensor]  # (478, 3) landmarks, normalised to the pictures, of the positions that are to be changed
    drawn: list[int]  # N positions within the batch that are to be painted, some of them
    shares: list[float]  # N, how much of each painting is shown
    crops: Tensor  # (N, 3, S, S) float 0..1, as they are filmed
    sketches: Tensor | None  # (N, 2 RADIUS + 1, 3, S, S); None where none are needed
    points: Tensor | None  # (N, 131, 2) landmarks of the crops, 0..1 of each; None where no sketches are needed
    finished: Section | None  # painted crops (B, S, S, 3) of an earlier run

    @property
    def stop(self) -> int:
        """Frame number after the last one."""
        return self.first + len(self.pictures)


class FrameReader:
    """Reads a footage in batches.

    Args:
        footage: pictures and landmarks.
        boxes: of the faces.
        weights: (T,) how much of each frame is painted; 0 not at all.
        gate: (T,) how far the mouth is from its rest.
        batch_size: frames at once, at most; fewer of large pictures.
        sketched: whether sketches are needed.
        windows: (n, 5, 57, 2) lips and jaws predicted together, see `RenderJob.windows`; None: each frame's sketch is
            of its own landmarks.
        shares: (T,) of `inside.inside_shares`, where insides of mouths alone are shown; None: whole paintings are.
    """

    def __init__(  # noqa: PLR0913 - one parameter a property
        self,
        footage: Footage,
        boxes: LipBoxes,
        weights: Tensor,
        gate: Tensor,
        batch_size: int,
        sketched: bool,
        windows: Iterator[Tensor] | None = None,
        *,
        shares: Tensor | None = None,
    ) -> None:
        self._shares = shares
        self._footage, self._boxes, self._weights, self._gate = footage, boxes, weights, gate
        self._sketched, self._size = sketched, boxes.rule.size
        bytes_a_frame = 3 * footage.track.width * footage.track.height
        self.batch_size = max(1, min(batch_size, MOST_BYTES // bytes_a_frame))
        self._resting = RestingMouth(footage.track, footage.scenes, footage.rest)
        self._shapes: dict[int, Tensor] = {}
        self._sketches: OwnSketches | PredictedSketches
        if windows is None:
            self._sketches = OwnSketches(footage, boxes, self.shape)
        else:
            self._sketches = PredictedSketches(footage, boxes, windows, self._rest, gate)

    def batches(self, sections: Sections | None = None) -> Generator[FrameBatch, None, None]:
        """All frames, in turn.

        Args:
            sections: of an earlier run; a finished one is a batch of its own.
        """
        pictures, first = self._footage.pictures(), 0
        while first < len(self._footage):
            found = None if sections is None else sections.find(first, len(self._footage) - first)
            if found is not None and found.pictures.shape[1:] != (self._size, self._size, 3):
                found = None
            count = self.batch_size if found is None else len(found)
            taken = list(itertools.islice(pictures, min(count, len(self._footage) - first)))
            yield self._batch(first, taken, found)
            first += len(taken)
            release_memory()

    def _batch(self, first: int, pictures: list[Tensor], found: Section | None) -> FrameBatch:
        changed = [at for at in range(len(pictures)) if float(self._weights[first + at]) > 0]
        shapes = {at: self.shape(first + at) for at in changed}
        shares = {at: self._share(first + at, shape) for at, shape in shapes.items()}
        drawn = [at for at in changed if shares[at] > 0]
        crops = [self._boxes[first + at].take(pictures[at], self._size) for at in drawn]
        windows = [self._sketches.window(first + at) for at in drawn] if self._sketched and found is None else []
        self.forget(first + len(pictures) - self._sketches.reach)
        return FrameBatch(
            first,
            pictures,
            shapes,
            drawn,
            [shares[at] for at in drawn],
            torch.stack(crops) if crops else torch.empty(0, 3, self._size, self._size),
            *(map(torch.stack, zip(*windows, strict=True)) if windows else (None, None)),
            found,
        )

    def share(self, index: int) -> float:
        """How much of a frame's painting is shown."""
        return self._share(index, self.shape(index))

    def _share(self, index: int, shape: Tensor) -> float:
        if self._shares is None:
            return 1.0
        track = self._footage.track
        return float(self._shares[index] * parted_share(gaps(shape[None], track.width, track.height))[0])

    def shape(self, index: int) -> Tensor:
        """(478, 3) landmarks of a frame to be painted: at rest where nobody speaks, nearly as filmed where it fades."""
        if index not in self._shapes:
            target = self._resting.blend(index, self._footage.target.points[index], float(self._gate[index]))
            filmed, weight = self._footage.track.points[index], float(self._weights[index])
            self._shapes[index] = target if weight >= 1 else torch.lerp(filmed, target, weight)
        return self._shapes[index]

    def _rest(self, index: int) -> Tensor:
        """(478, 3) landmarks of a frame with its mouth at rest."""
        return self._resting.blend(index, self._footage.track.points[index], 0.0)

    def forget(self, before: int) -> None:
        """Drop what was kept of the frames before one."""
        self._sketches.forget(before)
        for index in [index for index in self._shapes if index < before]:
            del self._shapes[index]
