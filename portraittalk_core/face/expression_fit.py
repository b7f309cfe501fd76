"""Expression coefficients of a track, by fitting the user's own 3-D face model to its landmarks.

Shapes: T frames, I identity and E expression coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import NoFaceError
from ..progress import Progress
from ..types import LandmarkTrack
from .morphable import MorphableModel, fit_face

NUM_LOOKS = 8  # frames that tell who it is


def fit_expressions(
    model: MorphableModel, tracks: Sequence[LandmarkTrack], on_progress: Progress | None = None
) -> list[Tensor]:
    """Expression coefficients of one person's tracks.

    Who it is, is the mean over some frames, and the same in all; every frame is then fitted by expression and pose.

    Args:
        model: of E expression coefficients.
        tracks: of one person, on pictures of any size.
        on_progress: called with frames done and in all; may raise to stop.

    Returns:
        (T, E) float32 for each track; frames without a face have what lies between their neighbours.

    Raises:
        NoFaceError: no frame shows the face.
    """
    valid_points = [track.points_px[track.valid] for track in tracks]
    frames = torch.cat(valid_points)
    if not len(frames):
        raise NoFaceError("no frame shows the face whose expression is to be measured; choose another video.")
    sampled = torch.linspace(0, len(frames) - 1, min(NUM_LOOKS, len(frames))).round().long()
    identity = torch.stack([fit_face(model, frames[look]).identity for look in sampled]).mean(0)
    person = replace(model, mean=model.mean + model.identity @ identity, identity=model.identity[:, :, :0])
    done, fitted = 0, []
    for track, points in zip(tracks, valid_points, strict=True):
        rows = []
        for face in points:
            rows.append(fit_face(person, face).expression.float())
            done += 1
            if on_progress:
                on_progress(done, len(frames))
        empty = torch.zeros(0, model.expression.shape[2])
        fitted.append(between(torch.stack(rows) if rows else empty, track.valid))
    return fitted


def between(rows: Tensor, valid: Tensor) -> Tensor:
    """(T, D) rows of every frame from those of valid frames (K, D): straight between them, held outside.

    Args:
        rows: of the valid frames, in their order; none gives zeros.
        valid: (T,) bool, of which K are true.
    """
    if not len(rows):
        return torch.zeros(len(valid), rows.shape[1])
    at = valid.nonzero()[:, 0]
    frames = torch.arange(len(valid))
    following = torch.searchsorted(at, frames, right=True)
    low, high = (following - 1).clamp(min=0), following.clamp(max=len(at) - 1)
    share = ((frames - at[low]).float() / (at[high] - at[low]).clamp(min=1).float()).clamp(0, 1)
    return torch.lerp(rows[low], rows[high], share[:, None])
