"""Reference-free metrics of one video.

Shapes: T frames.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..face.geometry import face_box_px
from ..metrics.meter import CURVES, FACE_CROPS, FRAMES, LANDMARKS, MetricContext
from ..metrics.sound_mouth import level_per_frame
from ..metrics.sync_crop import sync_boxes, sync_crop
from .clip import EvaluationClip, TrackedClip, track_clip
from .meters import Measured, MeterSet
from .result import curve
from .setup import NO_PICTURES, Setup

CROP_FPS = Fraction(25)  # of face crops
Over = Callable[[Iterable[Tensor]], Iterator[Tensor]]


@dataclass(frozen=True)
class SingleScores:
    """Reference-free metrics of one video."""

    tracked: TrackedClip
    values: Mapping[str, float]
    missing: Mapping[str, str]
    curves: Mapping[str, Tensor]  # (T,) by the metrics' names


def measure_single(
    clip: EvaluationClip,
    fps: Fraction,
    max_frames: int | None,
    setup: Setup,
    files: ExitStack,
    over: Over = iter,
    of_target: bool = False,
) -> SingleScores:
    """Track a video's face and measure the reference-free metrics.

    Args:
        clip: the video.
        fps: frames per second at which it is sampled.
        max_frames: read at most so many.
        setup: what it is measured with.
        files: closes the landmarks' store in the end.
        over: passes pictures on and counts them.
        of_target: whether it is the target.
    """
    context = MetricContext(fps, (clip.size[1], clip.size[0]))
    frames, landmarks, curves = (
        setup.meters(inputs, context, clip, of_target) for inputs in (FRAMES, LANDMARKS, CURVES)
    )
    tracked = track_clip(
        clip, fps, setup.mesh, setup.options.face_index, max_frames, lambda pictures: frames.over(over(pictures))
    )
    files.callback(tracked.store.close)
    if clip.pictures is None:
        frames.drop_all(NO_PICTURES)
    if landmarks:
        for track in tracked.blocks(torch.arange(len(tracked))):
            landmarks.update(track)
    curves.update(tracked.curves)
    sets = [frames, landmarks, curves, _measured_crops(clip, tracked, setup, over, of_target)]
    values, missing = merged(*(meters.result() for meters in sets))
    return SingleScores(tracked, values, missing, {k: v for meters in sets for k, v in meters.curves().items()})


def merged(*parts: Measured) -> Measured:
    """Merge the values and the reasons of several parts."""
    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    for measured, reasons in parts:
        values |= measured
        missing |= reasons
    return values, missing


def _measured_crops(clip: EvaluationClip, tracked: TrackedClip, setup: Setup, over: Over, of_target: bool) -> MeterSet:
    """Meters of the face crops at 25 fps, from the landmarks' box in place of SyncNet's detector."""
    num_frames = math.ceil(len(tracked) / tracked.fps * CROP_FPS)
    context = MetricContext(CROP_FPS, (tracked.height, tracked.width), num_frames)
    meters = setup.meters(FACE_CROPS, context, clip, of_target)
    if meters and not tracked.valid.any():
        meters.drop_all("no face was found in any frame")
    elif clip.pictures is None:
        meters.drop_all(NO_PICTURES)
    elif meters:
        boxes = sync_boxes(_held_boxes(tracked))
        for k, picture in enumerate(over(itertools.islice(clip.pictures.read(CROP_FPS), num_frames))):
            at = min(int(k * tracked.fps / CROP_FPS), len(boxes) - 1)
            meters.update(sync_crop(picture, boxes[at]))
    return meters


def _held_boxes(tracked: TrackedClip) -> Tensor:
    """(T, 4) the face's box in pixels, held over frames without a face."""
    valid_frames = tracked.valid.nonzero()[:, 0]
    boxes = torch.cat([face_box_px(track.points_px) for track in tracked.blocks(valid_frames)])
    last = torch.searchsorted(valid_frames, torch.arange(len(tracked)), right=True) - 1
    return boxes[last.clamp(min=0)]


def single_curves(tracked: TrackedClip) -> dict[str, list[float | None]]:
    """Curves of one video for the report, besides those of the metrics."""
    curves, fps = tracked.curves, float(tracked.fps)
    turn = curves.angles_deg[1:] - curves.angles_deg[:-1]
    named = {
        "mouth, standardised": _standardised(curves.mouth_open.double()),
        "eye opening": curves.eye_open.double(),
        "head speed": turn.double().norm(dim=1) * fps,
        "picture change": curves.picture_change,
    }
    if curves.sound_level is not None:
        named["sound, standardised"] = _standardised(level_per_frame(curves.sound_level, len(tracked), fps))
    return {name: curve(values) for name, values in named.items() if len(values) and not values.isnan().all()}


def _standardised(values: Tensor) -> Tensor:
    valid = values[~values.isnan()]
    if len(valid) < 2:
        return values
    return (values - valid.mean()) / valid.std().clamp(min=1e-9)
