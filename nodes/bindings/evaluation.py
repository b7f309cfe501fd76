"""Evaluation inputs of the scoring nodes: clips with their sound, and identity references."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor

from ...portraittalk_core.errors import MissingDependency
from ...portraittalk_core.evaluation.clip import EvaluationClip
from ...portraittalk_core.evaluation.identity import IdentityReference, encoder_reference, portrait_reference
from ...portraittalk_core.face.mesh.backends import MeshBackend
from ...portraittalk_core.media.mix import mix_blocks, tensor_blocks
from ...portraittalk_core.types import SPEECH_RATE_HZ, LandmarkTrack, as_fps
from . import convert, convert_audio, convert_video, paths

NO_AUDIO = "IMAGE frames have no sound; connect audio"
SILENT_AUDIO = "the audio that is connected holds no sound"


def evaluation_clip(
    value: object, name: str, fps: float, audio: dict | None, files: ExitStack, sound_track: int = 0
) -> EvaluationClip:
    """A VIDEO, IMAGE frames or landmarks as a clip.

    Args:
        value: what is connected.
        name: what to call it in messages and in the report.
        fps: frames per second of IMAGE frames.
        audio: AUDIO; goes before a video's own.
        files: closes what was opened for it.
        sound_track: which one of a video file's, from 1; 0 is its default.

    Raises:
        InputError: no frames, or no such sound track.
        MediaError: not a video.
    """
    if isinstance(value, LandmarkTrack):
        return EvaluationClip.of_track(value, name)
    if hasattr(value, "shape"):
        pictures = convert.picture_source(value, as_fps(fps), name)
        return _with_sound(EvaluationClip(pictures, no_sound=NO_AUDIO), audio)
    in_memory = convert_video.video_frames(value)
    if in_memory is not None:
        video_audio = convert_video.video_audio(value)
        pictures = convert.picture_source(*in_memory, name)
        return _with_sound(EvaluationClip(pictures), video_audio if audio is None else audio)
    path = files.enter_context(convert_video.video_file(value))
    clip = EvaluationClip.of_file(path, sound_track or None if audio is None else None)
    return _with_sound(replace(clip, pictures=replace(clip.pictures, name=name)), audio)


def identity_reference(
    portrait: Tensor | None, with_target: bool, mesh: MeshBackend, files: ExitStack
) -> IdentityReference:
    """The identity reference of a portrait and a target: by InsightFace where its files are, else by dlib."""
    from ...portraittalk_core.face.identity.encoder import FaceEncoder, find_face_models

    encoder = None
    if portrait is not None or with_target:
        with suppress(MissingDependency):
            encoder = files.enter_context(FaceEncoder(find_face_models(paths.model_folders(paths.FACES))))
    reference = encoder_reference(encoder, mesh)
    if portrait is None:
        return reference
    return portrait_reference(reference, convert.to_picture(portrait), "that is connected")


def _with_sound(clip: EvaluationClip, audio: dict | None) -> EvaluationClip:
    if audio is None:
        return clip
    sound = convert_audio.to_sound(audio)
    if sound is None:
        return replace(clip, sound=None, no_sound=SILENT_AUDIO)
    return replace(clip, sound=partial(_blocks, *sound))


def _blocks(waveform: Tensor, rate: int) -> Iterator[np.ndarray]:
    return mix_blocks(tensor_blocks(waveform, rate), 1, SPEECH_RATE_HZ)
