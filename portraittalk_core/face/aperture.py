"""Apertures of the face (the mouth and the two eyes), in their own axes.

An aperture's axes: u along the line from its viewer's-left to its viewer's-right corner, v across it (down on an
upright face), origin midway between the corners; both in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import topology as topo

TABLE = 129  # heights of an edge that are kept along it: between them it is straight

FOLDED = 0.05  # of the mean way between two points of an edge: nearer ones are folded back
EVEN = np.linspace(0, 1, TABLE, dtype=np.float32)

Array = NDArray[np.float32]
Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels of the region, ends exclusive

# upper chain, lower chain, from one corner to the other
MOUTH = (topo.INNER_UPPER_LIP, topo.INNER_LOWER_LIP)
RIGHT_EYE = (topo.RIGHT_UPPER_LID, topo.RIGHT_LOWER_LID)
LEFT_EYE = (topo.LEFT_UPPER_LID, topo.LEFT_LOWER_LID)


@dataclass(frozen=True)
class Aperture:
    """One opening in one frame."""

    origin: Tensor  # (2,) pixels
    along: Tensor  # (2,) unit vector from corner to corner
    width: float  # corner to corner, pixels
    upper: tuple[Tensor, Tensor]  # (u, v) of the upper edge, u ascending
    lower: tuple[Tensor, Tensor]  # (u, v) of the lower edge
    gap: float  # greatest distance between the edges, pixels

    @staticmethod
    def of(points_px: Tensor, chains: tuple[tuple[int, ...], tuple[int, ...]]) -> Aperture:
        """The opening between two chains of landmarks, (478, 2) pixels on the processor."""
        # so few numbers take numpy a fourth of torch's time
        points = points_px.numpy()
        upper, lower = (points[list(chain)] for chain in chains)
        origin = (upper[0] + upper[-1]) / 2
        span = upper[-1] - upper[0]
        width = max(float(np.hypot(*span)), 1.0)
        along = span / np.float32(width)
        edges = []
        for chain in (upper, lower):
            offset = chain - origin
            u, v = offset @ along, offset[:, 1] * along[0] - offset[:, 0] * along[1]
            # a turned head can fold the chain's end back; keep u ascending so that it stays a function
            edges.append((np.maximum.accumulate(u) + 1e-3 * np.arange(len(u), dtype=np.float32), v))
        (upper_u, upper_v), below = edges
        gap = max(0.0, float((np.interp(upper_u, *below) - upper_v).max()))
        above, below = (tuple(torch.from_numpy(row) for row in edge) for edge in edges)
        return Aperture(torch.from_numpy(origin), torch.from_numpy(along), width, above, below, gap)

    @property
    def across(self) -> Tensor:
        """(2,) unit vector from the upper edge to the lower one, at a right angle to `along`."""
        return torch.stack([-self.along[1], self.along[0]])

    def pixels_of(self, u: Tensor, v: Tensor) -> Tensor:
        """(..., 2) picture positions of (u, v), as `axes_of` tells them."""
        return self.origin + u[..., None] * self.along + v[..., None] * self.across

    def axes_of(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(u, v) of (..., 2) picture positions."""
        return _to_axes(pixels - self.origin, self.along)

    def axes_on(self, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor]:
        """(u, v), each (h, w), of the places of a grid with columns at (w,) `xs` and rows at (h,) `ys`."""
        (x0, y0), (ax, ay) = self.origin.tolist(), self.along.tolist()
        dx, dy = xs - x0, (ys - y0)[:, None]
        return dx * ax + dy * ay, dy * ax - dx * ay

    def edge_heights(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Heights v of the upper and of the lower edge at `u`, on smooth curves; beyond the corners, their own."""
        upper, lower = self.edges_at(u.numpy())
        return torch.from_numpy(upper), torch.from_numpy(lower)

    def edges_at(self, u: Array) -> tuple[Array, Array]:
        """`edge_heights` of an array."""
        (upper, lower), starts, densities = self._edges
        place = _places(u, starts[0], densities[0])
        if starts[0] == starts[1] and densities[0] == densities[1]:
            return _looked_up(upper, *place), _looked_up(lower, *place)
        return _looked_up(upper, *place), _looked_up(lower, *_places(u, starts[1], densities[1]))

    @cached_property
    def _edges(self) -> tuple[Array, list[float], list[float]]:
        return _tables(*(np.stack([row.numpy() for row in axis]) for axis in zip(self.upper, self.lower, strict=True)))


def pixel_box(points: Tensor, margin: float, region: Box) -> Box | None:
    """The pixels of `region` within `margin` pixels of any of (N, 2) points; None if there are none."""
    # so few numbers take numpy a third of torch's time
    array = points.numpy()
    (left, top), (right, bottom) = (array.min(0) - margin).tolist(), (array.max(0) + margin).tolist()
    x0, y0 = max(region[0], int(left)), max(region[1], int(top))
    x1, y1 = min(region[2], int(right) + 2), min(region[3], int(bottom) + 2)
    return (x0, y0, x1, y1) if x1 - x0 >= 2 and y1 - y0 >= 2 else None


def pixel_axes(box: Box) -> tuple[Tensor, Tensor]:
    """Positions x (w,) and y (h,) of a box's pixel centres."""
    x0, y0, x1, y1 = box
    return torch.arange(x0, x1) + 0.5, torch.arange(y0, y1) + 0.5


def pixel_centres(box: Box) -> Tensor:
    """(h, w, 2) positions of a box's pixel centres."""
    return torch.stack(torch.meshgrid(*pixel_axes(box), indexing="xy"), -1)


def soft_step(x: Tensor, width: float) -> Tensor:
    """Smooth step from 0 below −width/2 to 1 above width/2."""
    t = (x / width + 0.5).clamp(0, 1)
    return t * t * (3 - 2 * t)


def soft_steps(x: Array, width: float) -> Array:
    """`soft_step` of an array."""
    t = x * np.float32(1 / width)
    t += np.float32(0.5)
    np.maximum(t, 0, out=t)
    np.minimum(t, 1, out=t)
    return t * t * (3 - 2 * t)


def _to_axes(offset: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    dx, dy = offset.unbind(-1)
    return dx * along[0] + dy * along[1], dy * along[0] - dx * along[1]


def _tables(known_x: Array, known_y: Array) -> tuple[Array, list[float], list[float]]:
    """Even places along cubics through the points of two edges, whose slopes are their neighbours' (Catmull and Rom).

    Args:
        known_x: (2, N) ascending.
        known_y: (2, N).

    Returns:
        (2, TABLE) heights; of each edge the first place, and how many places one pixel has.
    """
    steps = np.maximum(np.diff(known_x), np.float32(1e-6))
    slopes = np.diff(known_y) / steps
    inner = (slopes[:, :-1] * steps[:, 1:] + slopes[:, 1:] * steps[:, :-1]) / (steps[:, :-1] + steps[:, 1:])
    # where a turned head folds an edge back there is no slope, only a jump: the other side's counts
    folded = steps < FOLDED * steps.mean(1, keepdims=True)
    inner = np.where(folded[:, :-1], slopes[:, 1:], np.where(folded[:, 1:], slopes[:, :-1], inner))
    tangents = np.concatenate([slopes[:, :1], inner, slopes[:, -1:]], 1)
    first, length = known_x[:, :1], np.maximum(known_x[:, -1:] - known_x[:, :1], np.float32(1e-6))
    x = first + EVEN * length
    last, count = known_x.shape[1] - 2, known_x.shape[1]
    left = np.stack([row.searchsorted(places) for row, places in zip(known_x, x, strict=True)])
    left = np.clip(left - 1, 0, last)
    of_piece, of_point = left + np.array([[0], [last + 1]]), left + np.array([[0], [count]])
    x0, y0, m0 = (of.ravel()[of_point] for of in (known_x, known_y, tangents))
    m1, step, rise = tangents.ravel()[of_point + 1], steps.ravel()[of_piece], slopes.ravel()[of_piece]
    t = (x - x0) / step
    heights = y0 + t * step * (m0 + t * (3 * rise - 2 * m0 - m1 + t * (m0 + m1 - 2 * rise)))
    return heights, first[:, 0].tolist(), ((TABLE - 1) / length[:, 0]).tolist()


def _places(x: Array, start: float, density: float) -> tuple[Array, Array]:
    """Which entry of a table lies before each `x`, and the way to the next one, 0..1."""
    place = (x - np.float32(start)) * np.float32(density)
    np.maximum(place, 0, out=place)
    np.minimum(place, TABLE - 1, out=place)
    left = np.minimum(place.astype(np.intp), TABLE - 2)
    return left, place - left.astype(np.float32)


def _looked_up(heights: Array, left: Array, share: Array) -> Array:
    """Heights between those of a table, linear."""
    rises = np.diff(heights)
    # `clip`: numpy looks an entry up six times as fast where it need not raise
    return heights.take(left, mode="clip") + rises.take(left, mode="clip") * share
