"""Audio2Exp, and motion engines that make keypoints, on a node's inputs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import comfy.model_management
import torch
from torch import Tensor

from ...portraittalk_core.engines.contract import LANDMARKS, MotionEngine, made, whole_keypoints
from ...portraittalk_core.errors import InputError
from ...portraittalk_core.face.mesh.landmarks import find_portrait
from ...portraittalk_core.motion.gain import gain_curve, gain_of_values
from ...portraittalk_core.motion.keypoint_time import join, of_length
from ...portraittalk_core.motion.options import MotionOptions
from ...portraittalk_core.renderers.implicit.audio2exp.driver import Audio2ExpDriver
from ...portraittalk_core.types import KeypointTrack, Speech
from .progress import Progress, check_interrupted, counted, face_mesh

SPAN = 64  # frames that are driven at once

_open: dict[tuple, Audio2ExpDriver] = {}  # the driver used last, by its files


def as_long_as(track: KeypointTrack, speech: Speech, end: str) -> KeypointTrack:
    """A track that goes on where the speech is longer, as `of_length` says."""
    return of_length(track, max(len(track), speech.num_frames(track.fps)), end)


def strength(inputs: dict, num_frames: int, fps: Fraction) -> tuple[float | Tensor, Tensor]:
    """Alpha of every frame, and the factor over time that is in it; takes both out of the inputs.

    Args:
        inputs: with `alpha`, and `alpha_points` and `alpha_curve` where they are given.
        num_frames: T.
        fps: frames per second.

    Returns:
        A number, or (T,) where it changes; (T,) factors.

    Raises:
        InputError: no points, or no numbers.
    """
    alpha, ones = inputs.pop("alpha"), torch.ones(num_frames)
    drawn, connected = inputs.pop("alpha_points", "[]"), inputs.pop("alpha_curve", None)
    curve = gain_curve(drawn, num_frames, fps)
    if connected is not None:
        listed = gain_of_values(connected, num_frames)
        curve = listed if curve is None else curve * listed
    return (alpha, ones) if curve is None else (alpha * curve, curve)


def drive(
    files: tuple[Path, Path], base: KeypointTrack, speech: Speech, alpha: float | Tensor, **options: object
) -> KeypointTrack:
    """A track that says `speech`.

    Args:
        files: of Audio2Exp and of HuBERT.
        base: as long as the result.
        speech: the clip.
        alpha: as of `Audio2ExpDriver.drive`.
        options: the others of it.
    """
    driver, progress = _driver(*files), Progress()
    spans = (base.slice(start, start + SPAN) for start in range(0, len(base), SPAN))
    total = -(-len(base) // SPAN)
    listening = {"on_progress": lambda *_: check_interrupted()}
    return join(list(counted(driver.drive(spans, speech, alpha, **listening, **options), total, progress)))


def spoken(
    engine: MotionEngine, picture: Tensor, face_index: int, speech: Speech, options: MotionOptions
) -> KeypointTrack:
    """The keypoint track of a picture's face that speaks, of an engine that makes keypoints.

    Raises:
        InputError: the engine makes landmarks, or another number of frames.
    """
    with face_mesh() as mesh:
        reference = find_portrait(picture, face_index, source="the portrait", mesh=mesh).landmarks
    if made(engine) == LANDMARKS:
        raise InputError(
            f"the engine {engine.name} makes landmarks; use AudioToLandmarks, then Landmarks To Keypoints."
        )
    return whole_keypoints(engine, speech, reference, options, Progress())


def _driver(audio2exp: Path, hubert: Path) -> Audio2ExpDriver:
    """The driver of two files, kept for the next run."""
    key = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in (audio2exp, hubert))
    if key not in _open:
        _open.clear()
        _open[key] = Audio2ExpDriver.open(audio2exp, hubert, comfy.model_management.get_torch_device())
    return _open[key]
