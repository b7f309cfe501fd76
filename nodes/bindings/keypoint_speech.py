"""Audio2Exp, and motion engines that make keypoints, on a node's inputs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP
from torch import Tensor, nn

from ...portraittalk_core.engines.contract import LANDMARKS, MotionEngine, output_kind, whole_keypoints
from ...portraittalk_core.errors import InputError
from ...portraittalk_core.face.mesh.landmarks import find_portrait
from ...portraittalk_core.motion.gain import gain_curve, gain_of_values
from ...portraittalk_core.motion.keypoint_time import join, of_length
from ...portraittalk_core.motion.options import MotionOptions
from ...portraittalk_core.renderers.implicit.audio2exp.driver import Audio2ExpDriver
from ...portraittalk_core.renderers.implicit.engine_motion import carried
from ...portraittalk_core.renderers.implicit.extract import keypoints_of_picture, track_of
from ...portraittalk_core.types import KeypointTrack, Portrait, Speech
from .curves import frame_values
from .keypoints import managed, on_device
from .progress import Progress, check_interrupted, counted, face_mesh

if TYPE_CHECKING:
    from .keypoints import KeypointNetworks

SPAN = 64  # frames that are driven at once

HEARING_BYTES = 500 * 1024**2  # about what 20 s of speech need beside HuBERT's weights

_open: dict[tuple, tuple[Audio2ExpDriver, ModelPatcher]] = {}  # the driver used last, by its files


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
    points, connected = inputs.pop("alpha_points", "[]"), inputs.pop("alpha_curve", None)
    curve = gain_curve(points, num_frames, fps)
    if connected is not None:
        listed = gain_of_values(frame_values(connected, num_frames), num_frames)
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
    (driver, patcher), progress = _driver(*files), Progress()
    spans = (base.slice(start, start + SPAN) for start in range(0, len(base), SPAN))
    total = -(-len(base) // SPAN)
    listening = {"on_progress": lambda *_: check_interrupted()}
    with on_device(patcher, HEARING_BYTES):
        return join(list(counted(driver.drive(spans, speech, alpha, **listening, **options), total, progress)))


def find_face(picture: Tensor, face_index: int) -> Portrait:
    """A face of a portrait."""
    with face_mesh(notes=True) as mesh:
        return find_portrait(picture, face_index, source="the portrait", mesh=mesh)


def spoken(
    engine: MotionEngine, face: Portrait, speech: Speech, options: MotionOptions, networks: KeypointNetworks | None
) -> KeypointTrack:
    """The keypoint track of a face that speaks, of an engine that makes keypoints.

    Args:
        engine: makes keypoints.
        face: that is to speak.
        speech: the clip.
        options: frame rate, gains, seed.
        networks: by which the motion is carried to the face; None leaves it as the engine makes it.

    Raises:
        InputError: the engine makes landmarks, another number of frames, or keypoints of other networks.
    """
    if output_kind(engine) == LANDMARKS:
        raise InputError(
            f"the engine {engine.name} makes landmarks; use AudioToLandmarks, then Landmarks To Keypoints."
        )
    track = whole_keypoints(engine, speech, face.landmarks, options, Progress())
    if networks is None:
        return track
    with networks.on_device() as model:
        keypoints, _ = keypoints_of_picture(model, face.picture, face.landmarks.points_px[0])
    source = track_of(keypoints, model.layout, track.fps)
    return join(carried(iter([track.check_layout(model.layout)]), source, of_nobody=True))


def _driver(audio2exp: Path, hubert: Path) -> tuple[Audio2ExpDriver, ModelPatcher]:
    """The driver of two files, and its networks under ComfyUI's memory management.

    It is kept for the next run until ComfyUI takes it off the device for good, as "Unload Models" does.
    """
    key = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in (audio2exp, hubert))
    if key not in _open:
        _open.clear()
        driver = Audio2ExpDriver.open(audio2exp, hubert, comfy.model_management.unet_offload_device())
        patcher = managed(nn.ModuleList([driver.network, driver.encoder.network]))
        patcher.add_callback(CallbacksMP.ON_DETACH, lambda _, for_good: _open.clear() if for_good else None)
        _open[key] = (driver, patcher)
    return _open[key]
