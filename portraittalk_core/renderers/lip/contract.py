"""Interface of lip models: reference features, and pictures of a face crop whose hidden half is painted anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

MEL, WHISPER, NO_SOUND = "mel", "whisper", "none"  # what a model hears
RADIUS = 2  # frames before and after the one to be painted, whose sketches it sees


@dataclass(frozen=True)
class LipCropRule:
    """How a family frames the face for its networks."""

    points: tuple[int, ...]  # of the mesh, whose box is the crop
    pad_px: float  # on every side of that box, in pixels of the film
    square: bool  # whether the box is made square; else the crop is resized without keeping its shape
    size: int  # side of the crops
    smooth: bool = False  # whether the box follows the face smoothly; else each frame has its own
    middle: int | None = None  # of the mesh; if given, the box's top lies as far above this point as its bottom below
    below_px: float = 0.0  # more below the box, in pixels of the film
    pad_share: float = 0.0  # more on every side, of the longer side of the points' box: the same at every size of face
    below_share: float = 0.0  # more below, of that side; where `middle` is given, above too
    fixed_point: bool = False  # whether crops are resized in OpenCV's 8-bit arithmetic, never averaged


@dataclass(frozen=True)
class References:
    """Face crops from which a speaker's lips and skin are taken. Pictures are RGB float 0..1.

    A still picture gives the same one N times.
    """

    pictures: Tensor  # (N, 3, S, S) whole face crops
    sketches: Tensor  # (N, 3, S, S) their drawn landmarks
    lips: Tensor  # (M, 3, S, S) lips kept in place, black around them
    lip_sketches: Tensor  # (M, 3, S, S)
    lip_points: Tensor | None = None  # (M, 131, 2) landmarks LIP_POINTS of the lip references, 0..1 of the crop


@dataclass(frozen=True)
class LipBatch:
    """B frames to paint."""

    pictures: Tensor  # (B, 3, S, S) the film's own face crops, RGB 0..1; the model hides the lower half itself
    sketches: Tensor  # (B, 2 * RADIUS + 1, 3, S, S) drawn landmarks around each frame, clamped at the film's ends
    sound: Tensor | None  # (B, ...) rows of each frame, of the model's kind
    points: Tensor | None = None  # (B, 131, 2) landmarks LIP_POINTS that each frame is to have, 0..1 of the crop


class LipModel(Protocol):
    """A family's networks, in eval mode, without gradients.

    A model of the kind WHISPER has `listen(speech, fps)` besides: a function from numbers of frames to what is heard in
    them (B, ...), and what is heard in silence (...).
    """

    name: str  # "lips", "iplap" or "musetalk"
    crop: LipCropRule
    sound: str  # MEL, WHISPER or NO_SOUND
    needs_sketches: bool
    needs_references: bool  # False: a frame's own picture is all it takes, and `paint` gets None for features
    usual: tuple[int, int]  # references and lip references where no numbers are given
    device: torch.device
    dtype: torch.dtype

    def encode(self, references: References) -> Any:
        """Features of the references, computed once a clip, some at a time."""

    def with_share(self, features: Any, share: float) -> Any | None:
        """Features of which a share 0..1 of what is painted counts; None where painting is not added to references."""

    def paint(self, features: Any, batch: LipBatch) -> Tensor:
        """(B, 3, S, S) RGB float32 0..1: the whole crops, with painted mouths."""
