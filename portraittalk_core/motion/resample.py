"""Tracks over time: resampled to another frame rate, spans joined."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

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
    lower, upper, share = frames_at_fps(len(track), track.fps, fps)
    points = torch.lerp(track.points[lower], track.points[upper], share[:, None, None])
    valid = track.valid[lower] & track.valid[upper]
    shoulders = track.shoulders
    if shoulders is not None:
        shoulders = torch.lerp(shoulders[lower], shoulders[upper], share)
    return replace(track, points=points, valid=valid, fps=fps, shoulders=shoulders)


def frames_at_fps(num_frames: int, rate: Fraction, fps: Fraction) -> tuple[Tensor, Tensor, Tensor]:
    """Between which frames those of another rate lie, by their middles.

    Args:
        num_frames: T frames.
        rate: their frames per second.
        fps: those of the F = ceil(T · fps / rate) new ones.

    Returns:
        (F,) numbers of the frames before and after, and (F,) the share 0..1 of the one after.
    """
    times = frame_times_s(math.ceil(num_frames * fps / rate), fps) - 0.5 / float(rate)
    at = (times * float(rate)).clamp(0, num_frames - 1)
    lower = at.floor().long()
    return lower, at.ceil().long(), (at - lower).float()


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
