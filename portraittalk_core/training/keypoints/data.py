"""Pairs of frames of one video for keypoint training, with the head's rotation in each.

Shapes: B pairs, S side of the pictures in pixels.
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
from ..data.order import example_at
from ..data.squares import fit_square
from ..data.video_clips import VideoClip

GAIN, SHIFT = 0.25, 0.1  # largest change of a colour's contrast and of its level, by augmentation
MIRROR = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))


@dataclass(frozen=True)
class PairBatch:
    """Batch of pairs: what a source looks like, and a driving frame to be made from it."""

    source: Tensor  # (B, 3, S, S) in 0..1
    driving: Tensor  # (B, 3, S, S)
    source_rotation: Tensor  # (B, 3, 3) of the head, x to the viewer's right, y down, z away
    driving_rotation: Tensor  # (B, 3, 3)


class FramePairs:
    """Pairs of frames from prepared videos.

    Args:
        videos: each of one face.
        augment: whether colours change and faces are mirrored, each pair's alike.

    Raises:
        InputError: no video shows the face in two frames.
    """

    def __init__(self, videos: Sequence[VideoClip], augment: bool = False) -> None:
        self.augment = augment
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
        others = [f for f in self._seen[number] if f != frame]
        source = others[int(draw.integers(len(others)))]
        video, rotation = self.videos[number], self._rotations[number]
        pictures = torch.stack([fit_square(video.read(f), side_px) for f in (source, frame)])
        turns = rotation[[source, frame]]
        if self.augment:
            pictures, turns = _changed(pictures, turns, draw)
        return *((pictures + 1) / 2).unbind(0), *turns.float().unbind(0)


def _changed(pictures: Tensor, turns: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, S, S) in −1..1 in other colours, and every second time mirrored, with their rotations."""
    gain, shift = (torch.from_numpy(draw.uniform(-1, 1, (1, 3, 1, 1))).float() for _ in range(2))
    pictures = (pictures * (1 + GAIN * gain) + SHIFT * shift).clamp(-1, 1)
    if draw.random() < 0.5:
        pictures, turns = pictures.flip(-1), MIRROR @ turns.float() @ MIRROR
    return pictures, turns
