"""Dubbing of a track: the mouth of a new speech on a filmed face, whose head, eyes and brows stay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

import torch
from torch import Tensor

from ..checks import check_choice
from ..face import topology as topo
from ..face.geometry import align
from ..motion.options import MotionOptions
from ..progress import Progress
from ..types import LandmarkTrack, Speech
from .dub_options import FILM_ENDS
from .rig import SkinInterpolator, face_axes
from .smoothing import smooth_step

TURNED_COUNTS = 0.5  # how much a turned head speaks against a frame as the face at rest, beside its lips' gap
SPAN = 256  # frames that are turned at once


class Engine(Protocol):
    """A motion engine, see `engines.contract.MotionEngine`."""

    def spans(
        self, speech: Speech, reference: LandmarkTrack, options: MotionOptions | None, on_progress: Progress | None
    ) -> Iterator[LandmarkTrack]:
        """Consecutive pieces of the speaking face's landmarks."""


def film_order(num_frames: int, wanted: int, film_end: str) -> Tensor:
    """(T,) int64 numbers of a film's frames, as they follow each other where the speech is longer than the film.

    Args:
        num_frames: of the film.
        wanted: by the speech.
        film_end: see `DubOptions`.

    Returns:
        T is `wanted`, or `num_frames` where that is more, or where the film is to end.
    """
    check_choice(film_end, FILM_ENDS, "film_end")
    at = torch.arange(num_frames if film_end == "cut" else max(num_frames, wanted))
    if film_end == "loop":
        return at % num_frames
    if film_end == "ping-pong":
        at = at % max(1, 2 * num_frames - 2)  # neither end is shown twice
        return torch.minimum(at, 2 * num_frames - 2 - at)
    return at.clamp(max=num_frames - 1)


@dataclass(frozen=True)
class Fitted:
    """Speech fitted to a video's length."""

    speech: Speech
    cut_s: float  # of it that is left out, because the video ends before
    rest_s: float  # of the video in which nobody speaks any more


def fit_speech(speech: Speech, num_frames: int, fps: Fraction) -> Fitted:
    """Trim speech to a video's length, or pad it with silence.

    Args:
        speech: the clip.
        num_frames: of the video.
        fps: of the video.
    """
    num_samples = int(num_frames * speech.sample_rate / fps)
    spare = speech.waveform.numel() - num_samples
    waveform = torch.nn.functional.pad(speech.waveform, (0, max(0, -spare)))[:num_samples].contiguous()
    # less than a frame is no difference
    seconds = spare / speech.sample_rate if abs(spare) * fps >= speech.sample_rate else 0.0
    return Fitted(replace(speech, waveform=waveform), max(0.0, seconds), max(0.0, -seconds))


def dub_track(
    driving: LandmarkTrack,
    speech: Speech,
    options: MotionOptions,
    engine: Engine,
    on_progress: Progress | None = None,
) -> LandmarkTrack:
    """Track of a filmed face with the mouth of a new speech.

    Lips, chin and the cheeks between them are the speech's, on the film's own head; eyes, brows, nose and the head's
    motion are the film's, to the last bit. Frames in which the face was not seen stay as they are.

    Args:
        driving: the film's landmarks, T frames; they set the frame rate.
        speech: what is to be said, of any length; after its end the mouth rests closed.
        options: of the mouth; head motion, blinks and fps do not count.
        engine: what moves the mouth.
        on_progress: as the engine calls it; may raise to stop.

    Returns:
        T frames on the same picture.
    """
    fitted = fit_speech(speech, len(driving), driving.fps).speech
    mouth_only = replace(options, fps=driving.fps, head_motion=0.0, blink_rate=0.0)
    reference = resting_frame(driving)
    share, points = mouth_share(reference), []
    start = 0
    for spoken in engine.spans(fitted, reference, mouth_only, on_progress):
        stop = start + len(spoken)
        points.append(with_mouth(driving.slice(start, stop), spoken, reference, share).points)
        start = stop
    return replace(driving, points=torch.cat(points))


def with_mouth(
    driving: LandmarkTrack, spoken: LandmarkTrack, reference: LandmarkTrack, share: Tensor | None = None
) -> LandmarkTrack:
    """The mouth of one track on the head of another.

    Args:
        driving: T frames.
        spoken: the same face speaking without moving its head, T frames or more, on the same picture.
        reference: one frame: the face in the pose of `spoken`.
        share: (478,) of `mouth_share(reference)`, to save making it again for every span.

    Returns:
        T frames.
    """
    share = (mouth_share(reference) if share is None else share)[:, None]
    rigid, rest = list(topo.RIGID), reference.points_px
    size = torch.tensor([driving.width, driving.height, driving.width], dtype=torch.float32)
    points = driving.points.clone()
    for start in range(0, len(driving), SPAN):
        span = slice(start, start + SPAN)
        filmed_px, spoken_px = driving.points_px[span], spoken.points_px[span]
        scale, rotation, shift = align(rest[:, rigid].expand(len(filmed_px), -1, -1), filmed_px[:, rigid])
        placed = scale[:, None, None] * spoken_px @ rotation.transpose(1, 2) + shift[:, None]
        moves = (share > 0) & driving.valid[span, None, None]
        points[span] = torch.where(moves, torch.lerp(filmed_px, placed, share) / size, points[span])
    return replace(driving, points=points)


def resting_frame(track: LandmarkTrack) -> LandmarkTrack:
    """The most frontal frame with closed lips, as a track of one frame."""
    points = track.points_px
    right_eye, left_eye = (points[:, list(eye)].mean(1) for eye in (topo.RIGHT_EYE_CORNERS, topo.LEFT_EYE_CORNERS))
    between = left_eye - right_eye
    gap = (points[:, topo.INNER_LIP_TOP] - points[:, topo.INNER_LIP_BOTTOM]).norm(dim=1)
    cost = (gap + TURNED_COUNTS * between[:, 2].abs()) / between.norm(dim=1).clamp(min=1e-6)
    if track.valid.any():
        cost = cost.masked_fill(~track.valid, torch.inf)
    best = int(cost.argmin())
    return track.slice(best, best + 1)


def mouth_share(reference: LandmarkTrack) -> Tensor:
    """(478,) mouth mask: 1 on lips and chin, 0 on eyes, brows and nose, between on the cheeks.

    Args:
        reference: one frame.
    """
    points = reference.points_px[0]
    axes, origin, unit = face_axes(points)
    rest = (points - origin) @ axes.T / unit
    height = rest[list(topo.MOUTH_CORNERS), 1].mean()
    chin = smooth_step((rest[:, 1] - height) / (rest[topo.CHIN, 1] - height))
    lips = torch.ones_like(rest)
    share = SkinInterpolator(rest).spread_over(lips, chin[:, None].expand(-1, 3))[:, 0].clamp(0, 1)
    share[[*topo.RIGID, *topo.EYELIDS, *topo.RIGHT_IRIS, *topo.LEFT_IRIS]] = 0
    return share
