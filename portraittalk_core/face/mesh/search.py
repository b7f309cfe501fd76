"""Face detection on a whole picture, then on padded, tiled and cropped versions where that fails."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...checks import check_choice
from ...types import check_picture
from ..geometry import interocular_px
from .backends import MeshBackend
from .refinement import crop_box, detect_in_box, face_size, most_alike, no_faces, refine, shrunk, without_duplicates
from .upright import is_upside_down

ORDERS = ("size", "left_to_right")
SAME_SIZE = 0.9  # faces whose sizes differ by less count as equally large
SMALL = 0.4  # of the picture's smaller side: where no face is larger, there may be more of them
PADS = (0.25, 0.6)  # of the picture's larger side, for close-ups
TILES = (0.6, 0.35)  # of the picture's smaller side, for small faces
MIN_TILE_PX = 100
SEARCH_SIDE_PX = 1463  # smaller side of the picture that is searched: its smallest tiles need no scaling
CLOSE_CROPS = (1.5, 1.7, 2.0, 2.3, 2.6)  # squares around a face whose mean is taken
CONFIRMING_CROPS = (1.5, 2.6)  # a face detected in a tile must be detected in both of these
MAX_CONFIRMED_ERROR = 0.12  # inter-ocular distances, mean over points: faces reach 0.1, wheels and coins 0.14
MAX_REFINED_ERROR = 0.35  # inter-ocular distances, of a face and its refinement: profiles reach 0.2, blobs 0.4


def detect_faces(picture: Tensor, mesh: MeshBackend, order: str = "size", thorough: bool = True) -> Tensor:
    """All faces of a picture, each refined on close crops.

    If a plain look finds none, the picture is padded (close-ups). If there are none or only small ones, overlapping
    tiles are searched for more. What is not found again when looked at closely is no face.

    Args:
        picture: (H, W, 3) uint8.
        mesh: an open back end.
        order: "size" is largest first, faces within 10 % of each other's size from left to right; "left_to_right" goes
            by the face's middle.
        thorough: False leaves out the tiles, which take a fraction of a second.

    Returns:
        (F, 478, 3) normalised landmarks; F may be 0.
    """
    check_picture(picture, "the picture to search")
    check_choice(order, ORDERS, "the order of faces")
    height, width = picture.shape[:2]
    scale = min(1.0, SEARCH_SIDE_PX / min(height, width))
    searched = picture if scale == 1 else shrunk(picture, scale)
    faces = []
    for rough in _detect_all(searched, mesh, thorough):
        face = rough * (width / searched.shape[1])
        closer = refine(picture, face, mesh, CLOSE_CROPS)
        if closer is not None and _mean_error(closer, face) < MAX_REFINED_ERROR:
            faces.append(closer)
    ordered = _in_order(without_duplicates(faces), order)
    return torch.stack(ordered) / torch.tensor([width, height, width]) if ordered else no_faces()


def detect_any_way_up(picture: Tensor, mesh: MeshBackend, order: str = "size") -> Tensor:
    """All faces of a picture, also of one that stands upside down; see `detect_faces`.

    Where no face stands as its landmarks say (`upright.is_upside_down`), the picture is searched again upside down;
    faces found that way count only if they stand so.
    """
    faces, is_turned = detect_upright(picture, mesh, order)
    if not is_turned:
        return faces
    x, y, z = faces.unbind(-1)
    return torch.stack([1 - x, 1 - y, z], -1)


def detect_upright(
    picture: Tensor, mesh: MeshBackend, order: str = "size", thorough: bool = True
) -> tuple[Tensor, bool]:
    """All faces of a picture or, where faces stand so, of the picture turned upside down; see `detect_any_way_up`.

    Returns:
        The faces, normalised on the picture as it was searched, and whether that was the turned one. Without a face,
        the turned picture is searched only if `thorough`.
    """
    faces = detect_faces(picture, mesh, order, thorough)
    if any(not is_upside_down(picture, face) for face in _in_px(faces, picture)) or not (thorough or len(faces)):
        return faces, False
    turned = upside_down(picture)
    detected = detect_faces(turned, mesh, order, thorough)
    upright = [not is_upside_down(turned, face) for face in _in_px(detected, turned)]
    return (detected[torch.tensor(upright)], True) if any(upright) else (faces, False)


def upside_down(picture: Tensor) -> Tensor:
    """A picture (H, W, 3) turned by 180°."""
    return torch.rot90(picture, 2).contiguous()


def _in_px(faces: Tensor, picture: Tensor) -> Tensor:
    height, width = picture.shape[:2]
    return faces * torch.tensor([width, height, width], dtype=torch.float32)


def _detect_all(picture: Tensor, mesh: MeshBackend, thorough: bool) -> list[Tensor]:
    height, width = picture.shape[:2]
    faces = list(detect_in_box(picture, (0, 0, width, height), mesh)) or _detect_padded(picture, mesh)
    if thorough and max(map(face_size, faces), default=0) < SMALL * min(height, width):
        faces += [face for face in _detect_in_tiles(picture, mesh) if _is_confirmed(picture, face, mesh)]
    return without_duplicates(faces)


def _detect_padded(picture: Tensor, mesh: MeshBackend) -> list[Tensor]:
    """Detections in padded pictures, for close-ups: the detector needs the surroundings of a face."""
    height, width = picture.shape[:2]
    for share in PADS:
        pad = share * max(height, width)
        faces = detect_in_box(picture, (-pad, -pad, width + pad, height + pad), mesh)
        if len(faces):
            return list(faces)
    return []


def _detect_in_tiles(picture: Tensor, mesh: MeshBackend) -> list[Tensor]:
    """Detections of small faces, in half-overlapping square tiles."""
    height, width = picture.shape[:2]
    faces: list[Tensor] = []
    for share in TILES:
        side = share * min(height, width)
        if side < MIN_TILE_PX:
            break
        for y in _starts(height, side):
            for x in _starts(width, side):
                faces += list(detect_in_box(picture, (x, y, x + side, y + side), mesh))
    return without_duplicates(faces)


def _starts(length: int, side: float) -> list[float]:
    count = max(1, math.ceil((length - side) / (side / 2)) + 1)
    return [i * (length - side) / max(count - 1, 1) for i in range(count)]


def _is_confirmed(picture: Tensor, face: Tensor, mesh: MeshBackend) -> bool:
    """Whether a closer and a wider crop give the same landmarks of a face."""
    for crop in CONFIRMING_CROPS:
        again = most_alike(detect_in_box(picture, crop_box(face, crop), mesh), face, min_iou=0.5)
        if again is None or _mean_error(again, face) > MAX_CONFIRMED_ERROR:
            return False
    return True


def _mean_error(face: Tensor, other: Tensor) -> float:
    """Mean distance of two faces' points over the inter-ocular distance of the second."""
    off_px = (face - other)[:, :2].norm(dim=1).mean()
    return float(off_px / interocular_px(other[None])[0].clamp(min=1e-6))


def _in_order(faces: list[Tensor], order: str) -> list[Tensor]:
    def middle(face: Tensor) -> float:
        return float(face[:, 0].mean())

    if order == "left_to_right":
        return sorted(faces, key=middle)
    ordered, rest = [], sorted(faces, key=face_size, reverse=True)
    while rest:  # groups of about equal size, each from left to right
        group = [face for face in rest if face_size(face) >= SAME_SIZE * face_size(rest[0])]
        rest = rest[len(group) :]
        ordered += sorted(group, key=middle)
    return ordered
