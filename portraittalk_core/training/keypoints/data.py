"""Pairs of frames of one video for keypoint training, with the head's rotation in each.

Shapes: B pairs, S side of the pictures in pixels, G landmarks that guide keypoints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...face.geometry import head_pose, rotation_matrix
from ...face.topology import (
    CHIN,
    INNER_LIP_BOTTOM,
    INNER_LIP_TOP,
    LEFT_LOWER_LID,
    LEFT_UPPER_LID,
    LIPS,
    MOUTH_CORNERS,
    RIGHT_LOWER_LID,
    RIGHT_UPPER_LID,
)
from ...types import LandmarkTrack
from ..data.order import example_at
from ..data.squares import fit_square
from ..data.video_clips import VideoClip
from .variation import PictureVariation, Variation

GAIN, SHIFT = 0.25, 0.1  # largest change of a colour's contrast and of its level, by augmentation
ROOM = 1.5  # side of a region's box over what its landmarks span
# landmarks that guide the first keypoints: lips, chin, middles of the eyelids (right upper and lower, then left)
GUIDES = (INNER_LIP_TOP, INNER_LIP_BOTTOM, *MOUTH_CORNERS, 17, CHIN, 159, 145, 386, 374)
LIP_GUIDES = 5  # the first of them
MIRRORED = (0, 1, 3, 2, 4, 5, 8, 9, 6, 7)  # places among the guides of what stands there in the mirror
REGIONS = (LIPS, RIGHT_UPPER_LID + RIGHT_LOWER_LID, LEFT_UPPER_LID + LEFT_LOWER_LID)  # lips, then the eyes
MIRROR = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))


@dataclass(frozen=True)
class PairBatch:
    """Batch of pairs: what a source looks like, and a driving frame to be made from it."""

    source: Tensor  # (B, 3, S, S) in 0..1
    driving: Tensor  # (B, 3, S, S)
    source_rotation: Tensor  # (B, 3, 3) of the head, x to the viewer's right, y down, z away
    driving_rotation: Tensor  # (B, 3, 3)
    source_guides: Tensor  # (B, G, 2) in -1..1 of the picture, in the order of GUIDES
    driving_guides: Tensor  # (B, G, 2)
    source_points: Tensor  # (B, 478, 2) landmarks in -1..1 of the picture; in the mirror, right ones lie on the left
    driving_points: Tensor  # (B, 478, 2)
    regions: Tensor  # (B, 3, 3) of the driving frame, in the order of REGIONS: x, y and half a side of a square box


class FramePairs:
    """Pairs of frames from prepared videos.

    Args:
        videos: each of one face.
        augment: whether colours change and faces are mirrored, each pair's alike.
        variation: random changes of places, shapes and light.
        apart: each picture has changes of its own, colours too; else a pair's are alike, since one is drawn from the
            other, and what no source shows cannot be drawn.

    Raises:
        InputError: no video shows the face in two frames.
    """

    def __init__(
        self,
        videos: Sequence[VideoClip],
        augment: bool = False,
        variation: Variation | None = None,
        apart: bool = False,
    ) -> None:
        self.augment, self.variation, self.apart = augment, variation or Variation(), apart
        usable = [video for video in videos if int(video.track.valid.sum()) > 1]
        if not usable:
            raise InputError(f"none of the {len(videos)} videos shows the face in two frames; prepare longer ones.")
        self.videos = tuple(usable)
        self._seen = [video.track.valid.nonzero()[:, 0].tolist() for video in usable]
        self._rotations = [rotation_matrix(head_pose(video.track).angles_deg) for video in usable]
        self._frames = [(number, frame) for number, seen in enumerate(self._seen) for frame in seen]

    def __len__(self) -> int:
        """Driving frames."""
        return len(self._frames)

    def fingerprint(self) -> str:
        """Hash of names and landmarks."""
        digest = hashlib.sha256(f"{self.augment}".encode())
        for video in self.videos:
            digest.update(video.name.encode() + video.track.points.contiguous().numpy().tobytes())
            digest.update(video.track.valid.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def batch(self, number: int, size: int, seed: int, side_px: int) -> PairBatch:
        """The batch of a number, a function of its arguments alone.

        Every frame drives once before one drives again; its source is any other frame of its video.

        Args:
            number: of the batch, from 0.
            size: B.
            seed: of all choices.
            side_px: S.
        """
        draw = np.random.default_rng([seed, 4, number])
        pairs = [self._pair(number * size + i, seed, side_px, draw) for i in range(size)]
        return PairBatch(*(torch.stack(part) for part in zip(*pairs, strict=True)))

    def _pair(self, place: int, seed: int, side_px: int, draw: np.random.Generator) -> tuple[Tensor, ...]:
        number, frame = self._frames[example_at(place, len(self), seed)]
        other_frames = [f for f in self._seen[number] if f != frame]
        source = other_frames[int(draw.integers(len(other_frames)))]
        video, rotation = self.videos[number], self._rotations[number]
        pictures = torch.stack([fit_square(video.read(f), side_px) for f in (source, frame)])
        turns = rotation[[source, frame]]
        points = _on_square(video.track, [source, frame])
        if self.variation:
            variation = PictureVariation.draw(self.variation, 2, draw, same=not self.apart)
            pictures = variation.pictures((pictures + 1) / 2) * 2 - 1
            points, turns = variation.points(points), variation.rotations(turns)
        guides = points[:, list(GUIDES)]
        boxes = torch.stack([_box(points[1, list(members)]) for members in REGIONS])
        if self.augment:
            pictures, turns, mirrored = _changed(pictures, turns, draw, self.apart and bool(self.variation))
            if mirrored:
                guides = guides[:, list(MIRRORED)] * torch.tensor([-1.0, 1.0])
                boxes = boxes * torch.tensor([-1.0, 1.0, 1.0])
                points = points * torch.tensor([-1.0, 1.0])
        return *((pictures + 1) / 2).unbind(0), *turns.float().unbind(0), *guides.unbind(0), *points.unbind(0), boxes


def _on_square(track: LandmarkTrack, frames: Sequence[int]) -> Tensor:
    """(N, 478, 2) landmarks of frames on the square that `fit_square` cuts out, in -1..1."""
    size = torch.tensor([track.width, track.height], dtype=torch.float32)
    return (track.points_px[list(frames)][..., :2] - size / 2) / (size.min() / 2)


def _box(points: Tensor) -> Tensor:
    """Middle x and y, and half a side, of the square box around points (N, 2), with room."""
    low, high = points.amin(0), points.amax(0)
    return torch.cat([(low + high) / 2, ROOM * (high - low).max().view(1) / 2])


def _changed(
    pictures: Tensor, turns: Tensor, draw: np.random.Generator, apart: bool = False
) -> tuple[Tensor, Tensor, bool]:
    """Pictures (N, 3, S, S) in −1..1 in other colours, with their rotations; every second time all mirrored.

    Colours change alike, or, apart, in each picture for itself.
    """
    count = len(pictures) if apart else 1
    gain, shift = (torch.from_numpy(draw.uniform(-1, 1, (count, 3, 1, 1))).float() for _ in range(2))
    pictures = (pictures * (1 + GAIN * gain) + SHIFT * shift).clamp(-1, 1)
    mirrored = draw.random() < 0.5
    if mirrored:
        pictures, turns = pictures.flip(-1), MIRROR @ turns.float() @ MIRROR
    return pictures, turns, mirrored
