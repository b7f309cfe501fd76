"""Reads a track's file, and closes the gaps of one that another program has written with faceless frames in it.

A file holds landmarks or keypoints, and says so in its metadata.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError, MediaError
from ..media.records import load_record, record_kind
from ..types import KeypointTrack, LandmarkTrack
from .mesh.tracking import filled

log = logging.getLogger(__name__)

MIN_SIZE = 1e-4  # of a face, over the picture's: below it, a face of a picture of 4096 pixels is no pixel large


def load_track(path: Path) -> LandmarkTrack:
    """A landmark track from its file.

    Frames without a face (NaN, or all zero where `valid` says that nothing was seen) go straight from the last seen
    to the next one, at the ends they show the nearest; `valid` is False there, and their count is logged.

    Raises:
        MediaError: missing, damaged, something else, or without any face.
    """
    return load_record(_Mended, path)


def load_motion(path: Path) -> LandmarkTrack | KeypointTrack:
    """The track of a file, of whichever kind it is; landmarks as `load_track` reads them.

    Raises:
        MediaError: missing, damaged, or no track.
    """
    kind = record_kind(path)
    if kind == KeypointTrack.kind:
        return load_record(KeypointTrack, path)
    if kind not in ("", LandmarkTrack.kind):
        raise MediaError(f"{path} holds a {kind}, which is no track; give a track of landmarks or keypoints.")
    return load_track(path)


class _Mended(LandmarkTrack):
    @classmethod
    def from_record(cls, tensors: dict[str, Tensor], metadata: dict[str, str]) -> LandmarkTrack:
        points, valid = tensors.get("points"), tensors.get("valid")
        if points is None or valid is None or not _is_whole(points, valid):
            return LandmarkTrack.from_record(tensors, metadata)  # which tells what is wrong
        lost = ~torch.isfinite(points).flatten(1).all(1) | (~valid & (points == 0).flatten(1).all(1))
        lost |= _is_point(points)
        if lost.all():
            raise InputError(f"none of its {len(points)} frames holds a face; make the track of another video.")
        if lost.any():
            points = filled([None if gone else p for gone, p in zip(lost.tolist(), points, strict=True)], "interpolate")
            log.warning(
                "%d of the track's %d frames hold no face: they are filled in between those before and after.",
                int(lost.sum()), len(points),
            )  # fmt: skip
        return LandmarkTrack.from_record({**tensors, "points": points, "valid": valid & ~lost}, metadata)


def _is_whole(points: Tensor, valid: Tensor) -> bool:
    """Whether these are the points and flags of the same frames, one at least."""
    fits = points.ndim == 3 and valid.ndim == 1 and len(points) == len(valid) > 0 and points.shape[1:].numel() > 0
    return fits and points.is_floating_point() and valid.dtype == torch.bool


def _is_point(points: Tensor) -> Tensor:
    """(T,) whether a frame's landmarks (T, N, 3) lie in one point or on one line: nobody's face does."""
    size = points[..., :2].amax(1) - points[..., :2].amin(1)
    return (size < MIN_SIZE).any(1)


_Mended.__name__ = LandmarkTrack.__name__  # what a file is called that is none
