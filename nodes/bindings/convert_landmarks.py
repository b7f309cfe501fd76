"""Conversion of newer ComfyUI's own FACE_LANDMARKS to a landmark track."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from ...portraittalk_core.errors import InputError
from ...portraittalk_core.face.mesh.tracking import filled
from ...portraittalk_core.types import NUM_LANDMARKS, LandmarkTrack


def to_track(face_landmarks: dict, fps: Fraction, face_index: int = 0, on_missing: str = "hold") -> LandmarkTrack:
    """A track of newer ComfyUI's FACE_LANDMARKS.

    Args:
        face_landmarks: what its face landmark detector gives.
        fps: frames per second.
        face_index: which face of the first frame that holds so many, in the detector's own order.
        on_missing: what to do with frames without the face, see `face.mesh.track_faces`.

    Raises:
        InputError: no such face in any frame, one frame without it if `on_missing` is "error", or not 478 points.
    """
    frames = face_landmarks.get("frames") if isinstance(face_landmarks, Mapping) else None
    if not frames or "image_size" not in face_landmarks:
        raise InputError("the FACE_LANDMARKS input holds no frames; connect a face landmark detector to it.")
    height, width = (int(v) for v in face_landmarks["image_size"])
    points_px = _one_face(frames, face_index)
    missing = [i for i, points in enumerate(points_px) if points is None]
    if len(missing) == len(frames):
        raise InputError(f"none of the {len(frames)} frames of FACE_LANDMARKS holds a face number {face_index}.")
    if missing and on_missing == "error":
        raise InputError(
            f"{len(missing)} of the {len(frames)} frames of FACE_LANDMARKS show no face, the first is frame "
            f"{missing[0]}; choose hold or interpolate."
        )
    valid = torch.tensor([points is not None for points in points_px])
    return LandmarkTrack.from_px(filled(points_px, on_missing), width, height, fps, valid)


def _one_face(frames: list[list[dict]], face_index: int) -> list[Tensor | None]:
    """(478, 3) pixels of one tracked face a frame, None where missing: the detector's order may change."""
    tracked: list[Tensor | None] = []
    last = None
    for faces in frames:
        points = [_points_px(face) for face in faces]
        if last is None:
            face = points[face_index] if face_index < len(points) else None
        else:
            distances = [float((p[:, :2].mean(0) - last[:, :2].mean(0)).norm()) for p in points]
            size = float((last[:, :2].amax(0) - last[:, :2].amin(0)).max())
            face = points[distances.index(min(distances))] if distances and min(distances) < size else None
        last = last if face is None else face
        tracked.append(face)
    return tracked


def _points_px(face: dict) -> Tensor:
    """(478, 3) pixels of one face; its depth is given in the units of the network's own crop."""
    flat = torch.as_tensor(face["landmarks_xy"]).detach().float().cpu()
    if tuple(flat.shape) != (NUM_LANDMARKS, 2):
        raise InputError(f"FACE_LANDMARKS must hold {NUM_LANDMARKS} points a face, not {tuple(flat.shape)}.")
    solid = torch.as_tensor(face.get("landmarks_3d", torch.zeros(NUM_LANDMARKS, 3))).detach().float().cpu()
    if tuple(solid.shape) != (NUM_LANDMARKS, 3):
        return torch.cat([flat, torch.zeros(NUM_LANDMARKS, 1)], 1)
    # crop and picture differ by a turn, a shift and a scale: the scale is the ratio of the spreads
    spread = solid[:, :2].var(0).sum().sqrt()
    scale = flat.var(0).sum().sqrt() / max(float(spread), 1e-6)
    return torch.cat([flat, solid[:, 2:] * scale], 1)
