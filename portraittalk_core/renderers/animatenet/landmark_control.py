"""Drawing of landmarks as the hint picture that a landmark ControlNet was trained on.

Three drawings of a LandmarkTrack: "mediapipe_face" for ControlNetMediaPipeFace, "head_kps" for guiders that see the
upper face only (so that the lips are free to follow the speech), "landmarks" for those that want the bare points.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...checks import check_choice, check_range
from ...errors import InputError
from ...face import topology as topo
from ...types import LandmarkTrack
from .line_drawing import paint_lines

MIN_SIDE_PX, MAX_SIDE_PX = 16, 4096
MIN_FACE_PX = 64  # a smaller face was left out of the ControlNet's training pictures
IRIS_HALF_PX = 2
FULL_SIZE_PX = 512  # height at which the radii below hold
KPS_RADIUS_PX, DOT_RADIUS_PX = 4, 1

# Chains and RGB colours of the hint, in the order they are drawn; the lines run from point to point of a chain.
_FACE_CHAINS = (
    ((10, 200, 10), ((*topo.FACE_OVAL, topo.FACE_OVAL[0]),)),
    ((10, 200, 180), (topo.LEFT_LOWER_LID[::-1], topo.LEFT_UPPER_LID[::-1])),
    ((10, 220, 180), (topo.LEFT_BROW[:5], topo.LEFT_BROW[5:])),
    ((180, 200, 10), (topo.RIGHT_LOWER_LID, topo.RIGHT_UPPER_LID)),
    ((180, 220, 10), (topo.RIGHT_BROW[:5], topo.RIGHT_BROW[5:])),
    (
        (10, 180, 10),
        (topo.OUTER_LOWER_LIP, topo.OUTER_UPPER_LIP, topo.INNER_LOWER_LIP, topo.INNER_UPPER_LIP),
    ),
)
_IRISES = ((topo.RIGHT_IRIS[0], (250, 200, 10)), (topo.LEFT_IRIS[0], (10, 200, 250)))

# Edges of the face, pupils, bridge of the nose: what moves with the head and the eyes, nothing that speech moves.
HEAD_KPS = (
    (234, (255, 0, 0)),
    (454, (0, 255, 0)),
    (topo.RIGHT_IRIS[0], (0, 0, 255)),
    (topo.LEFT_IRIS[0], (255, 255, 0)),
    (168, (255, 0, 255)),
    (6, (0, 255, 255)),
    (197, (255, 128, 0)),
    (195, (128, 0, 255)),
)


def draw_condition(track: LandmarkTrack, index: int, width: int, height: int, style: str = "mediapipe_face") -> Tensor:
    """Draw the hint picture of one frame on black; normalised landmarks are scaled to its size.

    Args:
        track: what to draw.
        index: of the frame.
        width: of the picture in pixels: eight times the latents' width.
        height: likewise.
        style: one of `STYLES`.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        InputError: no such frame or style, or a side outside 16..4096 pixels.

    Source: PortraitTalk, section 3.2; drawing of CrucibleAI's ControlNetMediaPipeFace.
    """
    _check_drawing(width, height, style)
    if not 0 <= index < len(track):
        raise InputError(f"frame {index} was asked for, but the track holds frames 0 to {len(track) - 1}.")
    return _draw(track, index, (width, height), style)


def _check_drawing(width: int, height: int, style: str) -> None:
    check_choice(style, STYLES, "the drawing's style")
    check_range(width, MIN_SIDE_PX, MAX_SIDE_PX, "the drawing's width")
    check_range(height, MIN_SIDE_PX, MAX_SIDE_PX, "the drawing's height")


def _draw(track: LandmarkTrack, index: int, size: tuple[int, int], style: str) -> Tensor:
    width, height = size
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    # double precision: the pixel is the floor of x · width, and the product must not be rounded up to it
    _STYLES[style](canvas, track.points[index, :, :2].detach().cpu().double().numpy())
    return torch.from_numpy(canvas)


def _draw_face(canvas: np.ndarray, points: np.ndarray) -> None:
    """Oval, eyes, brows and lips as lines, the irises as squares; a line with an end outside is left out whole."""
    height, width = canvas.shape[:2]
    size = np.array([width, height])
    if (np.ptp(points, axis=0) * size).min() < MIN_FACE_PX:
        return
    inside = ((points >= 0) & (points <= 1)).all(1)
    pixels = np.minimum(np.floor(points * size), size - 1)
    visible = inside[_STARTS] & inside[_ENDS]
    paint_lines(canvas, pixels[_STARTS[visible]], pixels[_ENDS[visible]], _COLOURS[visible])
    for iris, colour in _IRISES:
        x, y = points[iris]
        column, row = int(np.floor(x * width)), int(np.floor(y * height))
        # less than half a square from the top or left border the training pictures have no iris at all
        if inside[iris] and x < 1 and y < 1 and min(row, column) >= IRIS_HALF_PX:
            rows, columns = (slice(at - IRIS_HALF_PX, at + IRIS_HALF_PX) for at in (row, column))
            canvas[rows, columns] = colour


def _draw_head_kps(canvas: np.ndarray, points: np.ndarray) -> None:
    """Eight discs in fixed colours, no lines; later ones cover earlier ones.

    Source: SVP, section 3 (which names the points), drawn as in V-Express (radius 4 at 512 pixels).
    """
    radius = max(1, round(KPS_RADIUS_PX * canvas.shape[0] / FULL_SIZE_PX))
    for index, colour in HEAD_KPS:
        _paint_discs(canvas, points[index : index + 1], radius, colour)


def _draw_landmarks(canvas: np.ndarray, points: np.ndarray) -> None:
    """All points as white dots."""
    _paint_discs(canvas, points, round(DOT_RADIUS_PX * canvas.shape[0] / FULL_SIZE_PX), (255, 255, 255))


def _paint_discs(canvas: np.ndarray, points: np.ndarray, radius: int, colour: tuple[int, int, int]) -> None:
    """Discs around normalised points (N, 2): all pixels no further than the radius; cut at the borders."""
    height, width = canvas.shape[:2]
    reach = np.arange(-radius, radius + 1)
    disc = np.stack(np.meshgrid(reach, reach), -1).reshape(-1, 2)
    disc = disc[(disc**2).sum(1) <= radius**2]
    # what lies far away must still fit into a whole number
    centres = np.floor(np.clip(points, -4, 4) * [width, height]).astype(np.int64)
    pixels = (centres[:, None] + disc).reshape(-1, 2)
    visible = (pixels >= 0).all(1) & (pixels < [width, height]).all(1)
    canvas[pixels[visible, 1], pixels[visible, 0]] = colour


def _edges() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and last points (124,) and colours (124, 3) of the hint's lines."""
    lines = [
        (start, end, colour)
        for colour, chains in _FACE_CHAINS
        for chain in chains
        for start, end in zip(chain, chain[1:], strict=False)
    ]
    starts, ends, colours = zip(*lines, strict=True)
    return np.array(starts), np.array(ends), np.array(colours, dtype=np.uint8)


_STARTS, _ENDS, _COLOURS = _edges()
_STYLES: dict[str, Callable[[np.ndarray, np.ndarray], None]] = {
    "mediapipe_face": _draw_face,
    "head_kps": _draw_head_kps,
    "landmarks": _draw_landmarks,
}
STYLES = tuple(_STYLES)
