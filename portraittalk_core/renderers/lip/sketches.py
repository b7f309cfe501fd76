"""Sketches around each frame: of every frame's own landmarks, or of a window's that were predicted together.

Shapes: T frames, S side of the networks' crops.
Source: W. Zhong et al., "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors" (2023), whose
public inference draws the five predictions of one window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import InputError
from ...face.lip_points import CONTENT_POINTS, LIP_POINTS, POSE_POINTS
from ...face.sketch import draw_sketch
from ..contract import Film
from .contract import RADIUS
from .crop import LipBoxes
from .footage import Footage

WINDOW_RATE = 25  # frames a second of the films that the networks were trained on


class OwnSketches:
    """Every frame's own landmarks, 40 ms apart; beyond a shot's ends its outermost ones.

    Args:
        footage: its shots.
        boxes: of the faces.
        shape: (478, 3) landmarks of a frame to be painted, normalised to the picture.
    """

    def __init__(self, footage: Footage, boxes: LipBoxes, shape: Callable[[int], Tensor]) -> None:
        self._boxes, self._shape = boxes, shape
        self._shots = shots(footage)
        self._offsets = [round(step * footage.track.fps / WINDOW_RATE) for step in range(-RADIUS, RADIUS + 1)]
        self.reach = -self._offsets[0]  # frames before a frame that are looked at
        self._drawn: dict[int, Tensor] = {}

    def window(self, index: int) -> tuple[Tensor, Tensor]:
        """(2 RADIUS + 1, 3, S, S) sketches around a frame, and (131, 2) its landmarks, 0..1 of its crop."""
        first, last = (int(torch.searchsorted(self._shots, self._shots[index], right=end)) for end in (False, True))
        around = [min(max(index + offset, first), last - 1) for offset in self._offsets]
        missing = [at for at in dict.fromkeys(around) if at not in self._drawn]
        if missing:
            drawn = _draw(torch.stack([self._points(at) for at in missing]), self._boxes, missing)
            self._drawn |= {at: sketch.clone() for at, sketch in zip(missing, drawn, strict=True)}
        return torch.stack([self._drawn[at] for at in around]), self._points(index)

    def _points(self, index: int) -> Tensor:
        return self._boxes.points01(index, self._shape(index)[list(LIP_POINTS)])

    def forget(self, before: int) -> None:
        """Drop the sketches of the frames before one."""
        for index in [index for index in self._drawn if index < before]:
            del self._drawn[index]


class PredictedSketches:
    """The heads of five frames as they are filmed, with the lips and jaws that were predicted for them together.

    Args:
        footage: whose heads they are.
        boxes: of the faces.
        windows: (n, 5, 57, 2) float64 pixels, of consecutive frames from the first one on, see `RenderJob.windows`.
        rest: (478, 3) landmarks of a frame whose mouth is at rest.
        shares: (T,) how much of each prediction counts instead of `rest`.
    """

    reach = 0  # frames before a frame whose shapes are looked at

    def __init__(
        self,
        footage: Footage,
        boxes: LipBoxes,
        windows: Iterator[Tensor],
        rest: Callable[[int], Tensor],
        shares: Tensor,
    ) -> None:
        self._points, self._boxes, self._rest, self._shares = footage.track.points, boxes, rest, shares
        self._windows = (window for span in windows for window in span)
        self._next = 0

    def window(self, index: int) -> tuple[Tensor, Tensor]:
        """(5, 3, S, S) sketches around a frame, and (131, 2) its landmarks; frames are asked for in turn."""
        content: Tensor | None = None
        while self._next <= index:
            content = next(self._windows, None)
            if content is None:
                raise InputError(f"the engine predicted {self._next} windows of a film of {len(self._points)} frames.")
            self._next += 1
        around = [min(max(index + step, 0), len(self._points) - 1) for step in range(-RADIUS, RADIUS + 1)]
        points = torch.stack([self._face(at, placed) for at, placed in zip(around, content, strict=True)])
        return _draw(points, self._boxes, around), points[RADIUS]

    def _face(self, index: int, content: Tensor) -> Tensor:
        """(131, 2) of a frame's crop."""
        head = self._boxes.points01(index, self._points[index, list(POSE_POINTS)])
        mouth, share = self._boxes[index].points01(content), float(self._shares[index])
        if share < 1:
            mouth = torch.lerp(self._boxes.points01(index, self._rest(index)[list(CONTENT_POINTS)]), mouth, share)
        return torch.cat([head, mouth])

    def forget(self, before: int) -> None:
        """Nothing is kept."""


def _draw(points: Tensor, boxes: LipBoxes, frames: list[int]) -> Tensor:
    return draw_sketch(points, boxes.rule.size, torch.tensor([boxes[at].size_px for at in frames]))


def shots(footage: Footage) -> Tensor:
    """(T,) int64 rising number of each frame's shot: within it one frame follows the other in time.

    A film that runs again, or backwards, comes back to earlier scenes; between them there are cuts all the same.
    """
    cut = footage.scenes[1:] != footage.scenes[:-1]
    order = footage.source.order if isinstance(footage.source, Film) else None
    if order is not None:
        cut = cut | ((order[1:] - order[:-1]).abs() > 1)
    return F.pad(cut.long(), (1, 0)).cumsum(0)
