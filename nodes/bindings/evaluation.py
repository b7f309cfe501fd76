"""Evaluation inputs of the scoring nodes: clips with their sound, and identity references."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor

from ...portraittalk_core.errors import InputError, MissingDependency
from ...portraittalk_core.evaluation.clip import EvaluationClip
from ...portraittalk_core.evaluation.identity import IdentityReference, encoder_reference, portrait_reference
from ...portraittalk_core.media.mix import mix_blocks, tensor_blocks
from ...portraittalk_core.types import SPEECH_RATE_HZ, LandmarkTrack, as_fps
from . import convert, paths

NO_AUDIO = "IMAGE frames have no sound; connect audio"


def evaluation_clip(value: object, name: str, fps: float, audio: dict | None, files: ExitStack) -> EvaluationClip:
    """A VIDEO, IMAGE frames or landmarks as a clip.

    Args:
        value: what is connected.
        name: what to call it in messages and in the report.
        fps: frames per second of IMAGE frames.
        audio: AUDIO; goes before a video's own.
        files: closes what was opened for it.

    Raises:
        InputError: no frames.
        MediaError: not a video.
    """
    if isinstance(value, LandmarkTrack):
        return EvaluationClip.of_track(value, name)
    if hasattr(value, "shape"):
        pictures = convert.picture_source(value, as_fps(fps), name)
        return _with_sound(EvaluationClip(pictures, no_sound=NO_AUDIO), audio)
    in_memory = convert.video_frames(value)
    if in_memory is not None:
        video_audio = value.get_components().audio
        pictures = convert.picture_source(*in_memory, name)
        return _with_sound(EvaluationClip(pictures), video_audio if audio is None else audio)
    clip = EvaluationClip.of_file(files.enter_context(convert.video_file(value)))
    return _with_sound(replace(clip, pictures=replace(clip.pictures, name=name)), audio)


def identity_reference(portrait: Tensor | None, with_target: bool, files: ExitStack) -> IdentityReference:
    """The identity reference of a portrait and a target; without encoder where its files are missing."""
    from ...portraittalk_core.face.identity.encoder import FaceEncoder, find_face_models

    if portrait is None and not with_target:
        return IdentityReference(encode=_no_portrait)
    try:
        encoder = files.enter_context(FaceEncoder(find_face_models(paths.model_folders(paths.FACES))))
    except MissingDependency:  # no reason to measure nothing: the report says what the identity needs
        return IdentityReference(portrait=portrait)
    if portrait is None:
        return encoder_reference(encoder)
    return portrait_reference(encoder, convert.to_picture(portrait), "that is connected")


def _no_portrait(_picture: Tensor) -> Tensor:
    raise InputError("there is no portrait to compare with.")


def _with_sound(clip: EvaluationClip, audio: dict | None) -> EvaluationClip:
    if audio is None:
        return clip
    return replace(clip, sound=partial(_blocks, *convert.to_waveform(audio)))


def _blocks(waveform: Tensor, rate: int) -> Iterator[np.ndarray]:
    return mix_blocks(tensor_blocks(waveform, rate), 1, SPEECH_RATE_HZ)
