"""Keypoint tracks in time: another frame rate, another order of frames, one after another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from ..checks import check_choice, check_range
from ..errors import InputError
from ..types import KeypointTrack, as_fps
from .dub import film_order
from .keypoint_rotation import angles_of, between, rotation_of
from .resample import frames_at_fps

MAX_FRAMES = 10_000_000
FILLS = ("hold", "interpolate")
PARTS = ("expression", "rotation_deg", "translation", "scale", "valid")


def at_fps(track: KeypointTrack, fps: Fraction | float | str) -> KeypointTrack:
    """A track resampled by time, so that it lasts as long as before; see `motion.resample.at_fps`.

    Args:
        track: T frames.
        fps: frames per second that are wanted.

    Returns:
        ceil(T · fps / track.fps) frames between those given, `valid` where both were; the track itself at its own rate.

    Raises:
        InputError: not a frame rate.
    """
    fps = as_fps(fps)
    if fps == track.fps:
        return track
    lower, upper, share = frames_at_fps(len(track), track.fps, fps)
    mixed = mixture(in_order(track, lower), in_order(track, upper), share)
    return replace(mixed, fps=fps)


def mixture(first: KeypointTrack, second: KeypointTrack, share: Tensor) -> KeypointTrack:
    """Every frame between the same frames of two tracks of one length and rate.

    Args:
        first: T frames.
        second: T frames.
        share: (T,) 0 the first .. 1 the second; the heads turn the shortest way.
    """
    turns = [rotation_of(first.layout, track.rotation_deg) for track in (first, second)]
    angles = angles_of(first.layout, between(*turns, share))
    for end, track in ((0, first), (1, second)):  # the very angles at both ends
        angles = torch.where((share == end)[:, None], track.rotation_deg, angles)
    same = (first.rotation_deg == second.rotation_deg).all(1)
    return replace(
        first,
        expression=torch.lerp(first.expression, second.expression, share[:, None, None]),
        rotation_deg=torch.where(same[:, None], first.rotation_deg, angles),
        translation=torch.lerp(first.translation, second.translation, share[:, None]),
        scale=torch.lerp(first.scale, second.scale, share),
        valid=(first.valid | (share == 1)) & (second.valid | (share == 0)),
    )


def in_order(track: KeypointTrack, order: Tensor) -> KeypointTrack:
    """The track's frames in another order, (N,) int64 numbers of frames."""
    return replace(track, **{name: getattr(track, name)[order] for name in PARTS})


def of_length(track: KeypointTrack, num_frames: int, end: str = "ping-pong") -> KeypointTrack:
    """A track made as long as a speech.

    Args:
        track: T frames.
        num_frames: that are wanted; fewer than T cut the track.
        end: how it goes on beyond its own end: "hold" keeps its last frame, "loop" begins anew, "ping-pong" plays it
            backwards and forwards, "cut" leaves it as short as it is.

    Raises:
        InputError: no number of frames, or an unknown end.
    """
    check_range(num_frames, 1, MAX_FRAMES, "the number of frames of a keypoint track")
    return in_order(track, film_order(len(track), num_frames, end)[:num_frames])


def join(tracks: Iterable[KeypointTrack]) -> KeypointTrack:
    """Consecutive spans as one track.

    Raises:
        InputError: there are none, or they differ in layout or frame rate.
    """
    tracks = list(tracks)
    if len({(track.fps, track.layout) for track in tracks}) != 1:
        received = ", ".join(f"{len(t)} frames of {t.layout} at {float(t.fps):g} fps" for t in tracks[:4])
        raise InputError(f"these spans do not make one keypoint track: {received or 'none at all'}.")
    if len(tracks) == 1:
        return tracks[0]
    return replace(tracks[0], **{name: torch.cat([getattr(track, name) for track in tracks]) for name in PARTS})


def filled(track: KeypointTrack, how: str = "hold") -> KeypointTrack:
    """The track with the motion of frames that are not `valid` replaced by that of valid ones; `valid` stays.

    Args:
        track: T frames.
        how: "hold" keeps the last motion, "interpolate" goes over to the next; at the ends the nearest is held.

    Raises:
        InputError: no frame is valid, or an unknown way.
    """
    check_choice(how, FILLS, "how frames without a face are filled")
    if not track.valid.any():
        raise InputError("no frame of this keypoint track shows a face; choose another video.")
    at, valid_frames = torch.arange(len(track)), torch.nonzero(track.valid).flatten()
    position = torch.searchsorted(valid_frames, at, right=True)
    previous = valid_frames[(position - 1).clamp(min=0)]
    following = valid_frames[position.clamp(max=len(valid_frames) - 1)]
    if how == "hold":
        return replace(in_order(track, previous), valid=track.valid)
    following = torch.where(track.valid, at, following)
    share = (at - previous).float() / (following - previous).clamp(min=1)
    share = torch.where((at < previous) | track.valid, torch.zeros(()), share)
    return replace(mixture(in_order(track, previous), in_order(track, following), share.clamp(0, 1)), valid=track.valid)
