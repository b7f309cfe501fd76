"""What the scoring nodes are given, as the core takes it: clips with their sound, a likeness, networks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
from torch import Tensor

from ..portraittalk_core.errors import InputError, MissingDependency
from ..portraittalk_core.evaluation.clip import ScoredClip
from ..portraittalk_core.evaluation.identity_scores import Likeness, likeness_without_portrait, open_likeness
from ..portraittalk_core.evaluation.source import PictureSource
from ..portraittalk_core.media.sound import mix_blocks, tensor_blocks
from ..portraittalk_core.types import SPEECH_RATE_HZ, as_fps
from .bindings import convert, paths

NO_AUDIO = "IMAGE frames have no sound; connect audio"


def clip_of(value: object, name: str, fps: float, audio: dict | None, files: ExitStack) -> ScoredClip:
    """A VIDEO or IMAGE frames as a clip.

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
    if hasattr(value, "shape"):
        return _with_sound(ScoredClip(timed_source(value, as_fps(fps), name), silent_because=NO_AUDIO), audio)
    in_memory = convert.video_frames(value)
    if in_memory is not None:
        own = value.get_components().audio
        return _with_sound(ScoredClip(timed_source(*in_memory, name)), own if audio is None else audio)
    clip = ScoredClip.of_file(files.enter_context(convert.video_file(value)))
    return _with_sound(replace(clip, pictures=replace(clip.pictures, name=name)), audio)


def timed_source(images: Tensor, own_fps: Fraction, name: str) -> PictureSource:
    """IMAGE frames as a video that can be read at any frame rate: picture k is the one shown at k / rate seconds."""
    if images.ndim != 4 or not len(images):
        raise InputError(f"{name} must be an IMAGE with at least 1 frame, not {tuple(images.shape)}.")

    def read(rate: Fraction) -> Iterator[Tensor]:
        for k in range(math.ceil(len(images) * rate / own_fps)):
            yield convert.to_picture(images, min(int(k * own_fps / rate), len(images) - 1))

    height, width = images.shape[1:3]
    return PictureSource(name, width, height, own_fps, float(len(images) / own_fps), read)


def likeness_of(portrait: Tensor | None, with_target: bool, files: ExitStack) -> Likeness:
    """What compares faces with a portrait and a target; says what it lacks where there is none, or no face encoder."""
    from ..portraittalk_core.face.identity.encoder import FaceEncoder, find_face_models

    if portrait is None and not with_target:
        return Likeness(describe=_nobody)
    try:
        encoder = files.enter_context(FaceEncoder(find_face_models(paths.model_folders(paths.FACES))))
    except MissingDependency:  # no reason to measure nothing: the report says what the identity needs
        return Likeness(portrait=portrait)
    if portrait is None:
        return likeness_without_portrait(encoder)
    return open_likeness(encoder, convert.to_picture(portrait), "that is connected")


def _nobody(_picture: Tensor) -> Tensor:
    raise InputError("there is no portrait to compare with.")


def _with_sound(clip: ScoredClip, audio: dict | None) -> ScoredClip:
    if audio is None:
        return clip
    return replace(clip, sound=partial(_blocks, *convert.to_waveform(audio)))


def _blocks(waveform: Tensor, rate: int) -> Iterator[np.ndarray]:
    return mix_blocks(tensor_blocks(waveform, rate), 1, SPEECH_RATE_HZ)
