"""Landmark detection in crops of a picture, and matching of the detections; all in pixels of the whole picture."""

from __future__ import annotations

import torch
from torch import Tensor

from ...media.resize import shrink_quickly
from ...types import NUM_LANDMARKS
from ..detection.boxes import box_iou, suppress
from ..geometry import face_box_px
from .backends import MeshBackend

CROP_SIDE_PX = 512  # larger parts are scaled down to this: the detectors themselves do it without filtering
SLACK = 1.6  # unless they are only so much larger
MAX_DUPLICATE_IOU = 0.4  # faces whose boxes overlap more than this are one
CROP = 2.0  # side of the square looked at around a face, over the face's larger side

Box = tuple[float, float, float, float]  # x0, y0, x1, y1


def detect_in_box(picture: Tensor, box: Box, mesh: MeshBackend) -> Tensor:
    """(F, 478, 3) landmarks of the faces in a box of the picture, which may reach beyond the picture's edges.

    There the edge's pixels are repeated.
    """
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = (round(v) for v in box)
    inner = picture[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    if not inner.numel():
        return no_faces()
    side = max(x1 - x0, y1 - y0)
    part = inner if side <= SLACK * CROP_SIDE_PX else shrunk(inner, CROP_SIDE_PX / side)
    across, down = part.shape[1] / inner.shape[1], part.shape[0] / inner.shape[0]
    left, top = round(max(-x0, 0) * across), round(max(-y0, 0) * down)
    right, bottom = round(max(x1 - width, 0) * across), round(max(y1 - height, 0) * down)
    if max(left, top, right, bottom):
        part = _with_edges_repeated(part, left, top, right, bottom)
    size = torch.tensor([part.shape[1] / across, part.shape[0] / down, part.shape[1] / across])
    corner = torch.tensor([max(x0, 0) - left / across, max(y0, 0) - top / down, 0.0])
    return mesh.detect(part.contiguous()) * size + corner


def _with_edges_repeated(part: Tensor, left: int, top: int, right: int, bottom: int) -> Tensor:
    """A (H, W, 3) picture with its edges' pixels repeated so far outside."""
    height, width = part.shape[:2]
    padded = part.new_empty(top + height + bottom, left + width + right, 3)
    rows = slice(top, top + height)
    padded[rows, left : left + width] = part
    padded[rows, :left], padded[rows, left + width :] = part[:, :1], part[:, -1:]
    padded[:top], padded[top + height :] = padded[top : top + 1], padded[top + height - 1 : top + height]
    return padded


def refine(picture: Tensor, face: Tensor, mesh: MeshBackend, crops: tuple[float, ...]) -> Tensor | None:
    """Mean landmarks of a face over square crops of several sizes around it, or None if none of them shows it.

    A mesh network's points depend a little on how the face stands in its input; looks at several sizes err
    differently, so that their mean errs less.
    """
    detections = [most_alike(detect_in_box(picture, crop_box(face, crop), mesh), face) for crop in crops]
    matches = [face for face in detections if face is not None]
    return torch.stack(matches).mean(0) if matches else None


def crop_box(face: Tensor, crop: float = CROP) -> Box:
    """The square around a face (478, 3) whose side is `crop` times the face's larger side."""
    x0, y0, x1, y1 = face_box_px(face[None])[0].tolist()
    half = crop * max(x1 - x0, y1 - y0) / 2
    return (x0 + x1) / 2 - half, (y0 + y1) / 2 - half, (x0 + x1) / 2 + half, (y0 + y1) / 2 + half


def face_size(face: Tensor) -> float:
    """Larger side of the box around a face (478, 3)."""
    x0, y0, x1, y1 = face_box_px(face[None])[0].tolist()
    return max(x1 - x0, y1 - y0)


def most_alike(faces: Tensor, face: Tensor, min_iou: float = 0.3) -> Tensor | None:
    """The one of (F, 478, 3) faces with the highest intersection over union with a face, if it is `min_iou` or more."""
    if not len(faces):
        return None
    shared = box_iou(face_box_px(faces), face_box_px(face[None]))[:, 0]
    best = int(shared.argmax())
    return faces[best] if shared[best] >= min_iou else None


def without_duplicates(faces: list[Tensor]) -> list[Tensor]:
    """Non-maximum suppression: the larger one of every two faces that overlap."""
    ordered = sorted(faces, key=face_size, reverse=True)
    if not ordered:
        return []
    return [ordered[i] for i in suppress(face_box_px(torch.stack(ordered)), MAX_DUPLICATE_IOU).tolist()]


def no_faces() -> Tensor:
    """Empty detections, (0, 478, 3)."""
    return torch.zeros(0, NUM_LANDMARKS, 3)


def shrunk(picture: Tensor, scale: float) -> Tensor:
    """A (H, W, 3) uint8 picture scaled down, filtered."""
    return shrink_quickly(picture, tuple(max(1, round(length * scale)) for length in picture.shape[:2]))
