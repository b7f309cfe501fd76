"""Finds faces and their five points with an SCRFD network, such as InsightFace's det_10g, that onnxruntime runs.

Shapes: H, W of the picture; A anchors of a feature level, two at every cell of its grid.
Source: Guo et al. 2021, "Sample and Computation Redistribution for Efficient Face Detection"; boxes and points are
distances from an anchor, in strides, as in Tian et al. 2019, "FCOS", equation 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...checks import check_shape
from ...errors import InputError, ShapeError
from ...media.resize import resize_unfiltered
from .boxes import suppress

STRIDES = (8, 16, 32)  # pixels between the cells of a level
ANCHORS_PER_CELL = 2
WIDTHS = {1: "scores", 4: "boxes", 10: "points"}  # numbers of an anchor in the outputs of each kind
INPUT_SIZES = tuple(range(640, 319, -64))  # a face that fills the picture is found only in a smaller one
MIN_SCORE, MAX_OVERLAP = 0.5, 0.4


class Session(Protocol):
    """Protocol of onnxruntime.InferenceSession, as far as it is used."""

    def get_inputs(self) -> Sequence:
        """Each has a name and a shape."""

    def run(self, names: None, feeds: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        """All outputs."""


@dataclass(frozen=True)
class DetectedFace:
    """One face in a picture."""

    box: tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels
    points: Tensor  # (5, 2) px: left eye, right eye, nose, mouth left, mouth right, as the viewer sees them
    score: float  # 0..1

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return max(self.box[2] - self.box[0], 0) * max(self.box[3] - self.box[1], 0)


class FaceDetector:
    """SCRFD face detector over an open onnxruntime session.

    Args:
        session: of an SCRFD network with five points.
        name: of its file, for messages.
    """

    def __init__(self, session: Session, name: str = "the face detector") -> None:
        self._session, self.name = session, name
        entry = session.get_inputs()[0]
        self._input = entry.name
        sides = [side for side in entry.shape[2:4] if isinstance(side, int) and side > 0]
        if len(sides) == 2 and (sides[0] % STRIDES[-1] or sides[1] % STRIDES[-1]):
            raise InputError(f"{name} takes pictures of {sides[1]}×{sides[0]}, not of multiples of {STRIDES[-1]}.")
        self._fixed = (sides[0], sides[1]) if len(sides) == 2 else None  # height and width

    def detect(self, picture: Tensor, on_look: Callable[[], None] | None = None) -> list[DetectedFace]:
        """Faces in a picture, the largest first; several input sizes are tried until one gives a detection.

        Args:
            picture: (H, W, 3) uint8.
            on_look: called before every try; may raise to stop.

        Raises:
            ShapeError: not such a picture.
            InputError: the network is another one.
        """
        check_shape(picture, "H W 3", "the picture")
        if picture.dtype != torch.uint8 or not picture.numel():
            raise ShapeError(f"the picture must be uint8 and not empty, not {picture.dtype} {tuple(picture.shape)}.")
        for size in [self._fixed] if self._fixed else [(side, side) for side in INPUT_SIZES]:
            if on_look:
                on_look()
            if faces := self.detect_at(picture, *size):
                return sorted(faces, key=lambda face: face.area, reverse=True)
        return []

    def detect_at(self, picture: Tensor, height: int, width: int) -> list[DetectedFace]:
        """Faces in a picture letterboxed to height×width, the highest score first."""
        small, scale = letterbox(picture, height, width)
        blob = ((small - 127.5) / 128).permute(2, 0, 1)[None].contiguous().numpy()
        outputs = [torch.from_numpy(np.asarray(o, np.float32)) for o in self._session.run(None, {self._input: blob})]
        scores, boxes, points = (torch.cat(parts) for parts in self._decoded(outputs, height, width))
        sure = (scores >= MIN_SCORE).nonzero()[:, 0]
        order = sure[scores[sure].argsort(descending=True, stable=True)]
        selected = order[suppress(boxes[order], MAX_OVERLAP, end=1)]  # sides count both ends, as pixels do
        return [
            DetectedFace(tuple((boxes[i] / scale).tolist()), (points[i] / scale).reshape(5, 2), float(scores[i]))
            for i in selected.tolist()
        ]

    def _decoded(self, outputs: list[Tensor], height: int, width: int) -> tuple[list[Tensor], ...]:
        """Scores (A,), boxes (A, 4) and points (A, 10) of every level, in pixels of the network's input."""
        kinds: dict[str, list[Tensor]] = {kind: [] for kind in WIDTHS.values()}
        for output in outputs:
            if output.ndim and output.shape[-1] in WIDTHS:
                kinds[WIDTHS[output.shape[-1]]].append(output.reshape(-1, output.shape[-1]))
        anchors = [ANCHORS_PER_CELL * (height // stride) * (width // stride) for stride in STRIDES]
        for level in kinds.values():
            level.sort(key=len, reverse=True)
            if [len(output) for output in level] != anchors:
                shapes = ", ".join(str(tuple(output.shape)) for output in outputs)
                raise InputError(
                    f"{self.name} is not an SCRFD face detector with five points, such as det_10g.onnx of buffalo_l: "
                    f"it gives {shapes} for a picture of {width}×{height}."
                )
        boxes, points = [], []
        for stride, distances, offsets in zip(STRIDES, kinds["boxes"], kinds["points"], strict=True):
            at = anchor_places(height, width, stride)
            boxes.append(torch.cat([at - distances[:, :2] * stride, at + distances[:, 2:] * stride], 1))
            points.append(at.repeat(1, 5) + offsets * stride)
        return [scores[:, 0] for scores in kinds["scores"]], boxes, points


def letterbox(picture: Tensor, height: int, width: int) -> tuple[Tensor, float]:
    """A picture in the upper left corner of a black one, as large as fits, unfiltered: the network was trained so.

    Args:
        picture: (H, W, 3) uint8.
        height: of the result.
        width: of the result.

    Returns:
        (height, width, 3) float of whole numbers 0..255, and how much larger than the picture it is.
    """
    tall, wide = picture.shape[:2]
    if tall * width > wide * height:
        new_tall, new_wide = height, max(int(height * wide / tall), 1)
    else:
        new_tall, new_wide = max(int(width * tall / wide), 1), width
    result = torch.zeros(height, width, 3)
    result[:new_tall, :new_wide] = resize_unfiltered(picture, (new_tall, new_wide))
    return result, new_tall / tall


def anchor_places(height: int, width: int, stride: int) -> Tensor:
    """(A, 2) anchor centres, x and y in pixels: cells row by row, each as often as it has anchors."""
    y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
    cells = torch.stack([x, y], -1).reshape(-1, 2).float() * stride
    return cells.repeat_interleave(ANCHORS_PER_CELL, 0)
