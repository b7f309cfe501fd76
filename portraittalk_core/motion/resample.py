"""Tracks over time: resampled to another frame rate, spans joined."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

import torch

from ..errors import InputError
from ..types import LandmarkTrack, as_fps, joined_shoulders
from .smoothing import frame_times_s


def at_fps(track: LandmarkTrack, fps: Fraction | float | str) -> LandmarkTrack:
    """A track resampled by time, so that it lasts as long as before.

    Args:
        track: T frames.
        fps: frames per second that are wanted.

    Returns:
        ceil(T · fps / track.fps) frames: between those given where their middles lie, `valid` where both were; the
        track itself at its own rate.

    Raises:
        InputError: not a frame rate.
    """
    fps = as_fps(fps)
    if fps == track.fps:
        return track
    count, rate = math.ceil(len(track) * fps / track.fps), float(track.fps)
    times = frame_times_s(count, fps) - 0.5 / rate
    at = (times.double() * rate).clamp(0, len(track) - 1)
    lower = at.floor().long()
    upper, share = at.ceil().long(), (at - lower).float()
    points = torch.lerp(track.points[lower], track.points[upper], share[:, None, None])
    valid = track.valid[lower] & track.valid[upper]
    shoulders = track.shoulders
    if shoulders is not None:
        shoulders = torch.lerp(shoulders[lower], shoulders[upper], share)
    return replace(track, points=points, valid=valid, fps=fps, shoulders=shoulders)


def join_tracks(tracks: Iterable[LandmarkTrack]) -> LandmarkTrack:
    """Consecutive spans as one track.

    Raises:
        InputError: there are none, or they belong to pictures of different sizes or rates.
    """
    tracks = list(tracks)
    if len({(track.fps, track.width, track.height) for track in tracks}) != 1:
        received = ", ".join(f"{len(t)} frames at {float(t.fps):g} fps on {t.width}×{t.height}" for t in tracks[:4])
        raise InputError(f"these spans do not make one track: {received or 'none at all'}.")
    if len(tracks) == 1:
        return tracks[0]
    points, valid = torch.cat([track.points for track in tracks]), torch.cat([track.valid for track in tracks])
    shoulders = joined_shoulders([track.shoulders for track in tracks])
    return replace(tracks[0], points=points, valid=valid, shoulders=shoulders)
