"""The face that a MASK, a BOUNDING_BOX or a BBOX points to."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from ...portraittalk_core.checks import abbreviated
from ...portraittalk_core.errors import InputError, NoFaceError
from ...portraittalk_core.face.choice import BoxChoice, FaceChoice, MaskChoice
from ...portraittalk_core.face.mesh.landmarks import detect_faces
from .convert import to_picture_masks

LEAST_SHARE = 0.25  # of a face's landmarks that lie at the place


def index_at(place: object, picture: Tensor, mesh: object, source: str, size: tuple[int, int] | None = None) -> int:
    """The face_index of the face most of whose landmarks lie at a place; of equal ones, the largest.

    Args:
        place: MASK; BOUNDING_BOX of newer ComfyUI, {x, y, width, height} in pixels; or BBOX of other packs, four
            numbers: left, top, right and bottom or, where that is no box, x, y, width and height. Of lists of boxes,
            the first counts.
        picture: (H, W, 3) uint8.
        mesh: an open back end.
        source: what to call the picture in messages.
        size: height and width of the picture that the place is given on, where that was larger.

    Raises:
        InputError: none of these.
        NoFaceError: no face lies there.
    """
    height, width = size or picture.shape[:2]
    points_px = detect_faces(picture, mesh)[..., :2] * torch.tensor([width, height])
    box = _box(place)
    shares = _in_mask(place, (height, width), points_px) if box is None else _in_box(box, points_px)
    if not len(shares) or float(shares.max()) < LEAST_SHARE:
        faces = "; ".join(f"({x:.0f}, {y:.0f})" for x, y in points_px.mean(1).tolist()) or "none"
        raise NoFaceError(
            f"no face in {source} lies at the place that face_at gives; faces found around: {faces}. Give another "
            "place, or disconnect face_at and choose by face_index."
        )
    return int(shares.argmax())


def choice_at(face_index: int, place: object | None, size: tuple[int, int]) -> int | FaceChoice:
    """Which face of a film is meant: of a number, or where the place says in the first frame that shows one.

    Args:
        face_index: counts where there is no place.
        place: see `index_at`.
        size: height and width of the film, pixels.

    Raises:
        InputError: neither a mask nor a box.
    """
    if place is None:
        return face_index
    box = _box(place)
    if box is not None:
        x, y, width, height = box
        return BoxChoice((x, y, x + width, y + height))
    return MaskChoice(_first_mask(place, size), "the mask")


def _first_mask(mask: object, size: tuple[int, int]) -> Tensor:
    """(H, W) of a MASK's first mask."""
    first = mask[:1] if isinstance(mask, Tensor) and mask.ndim >= 3 else mask
    (values,) = to_picture_masks(first, [torch.empty(*size, 0)])
    return values


def _box(place: object) -> tuple[float, float, float, float] | None:
    """x, y, width and height of the first box; None of what is no box."""
    while isinstance(place, list | tuple) and place and not _is_four_numbers(place):
        place = place[0]
    if _is_four_numbers(place):
        x, y, right, bottom = (float(number) for number in place)
        return (x, y, right - x, bottom - y) if right > x and bottom > y else (x, y, right, bottom)
    if not isinstance(place, Mapping):
        return None
    try:
        return tuple(float(place[name]) for name in ("x", "y", "width", "height"))
    except (KeyError, TypeError, ValueError) as error:
        shape = abbreviated(dict(place))
        raise InputError(f"face_at must be a mask, or a box with x, y, width and height, not {shape}.") from error


def _is_four_numbers(place: object) -> bool:
    """Whether it is a box of other packs."""
    if isinstance(place, Tensor | np.ndarray) and place.ndim == 1:
        place = place.tolist()
    return isinstance(place, list | tuple) and len(place) == 4 and all(map(_is_number, place))


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _in_box(box: tuple[float, float, float, float], points_px: Tensor) -> Tensor:
    """(F,) shares of each face's landmarks inside a box."""
    low = torch.tensor(box[:2])
    inside = (points_px >= low) & (points_px <= low + torch.tensor(box[2:]))
    return inside.all(2).float().mean(1)


def _in_mask(mask: object, size: tuple[int, int], points_px: Tensor) -> Tensor:
    """(F,) means of a mask at each face's landmarks."""
    height, width = size
    values = _first_mask(mask, size)
    x, y = points_px.long().unbind(2)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return (values[y % height, x % width] * inside).mean(1)
