"""Conversion of AUDIO to the core's waveforms and speech.

VideoHelperSuite's is a mapping that reads its file when it is asked, and fails then where the film has no sound.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ...portraittalk_core.checks import check_finite
from ...portraittalk_core.errors import InputError
from ...portraittalk_core.media.audio import speech_from_waveform
from ...portraittalk_core.types import Speech
from .convert import as_tensor

log = logging.getLogger(__name__)

LOUD = 16.0  # samples beyond are whole numbers that became floats
FULL_SCALES = (32768.0, 2147483648.0)  # of 16 and 32 bits
MOST_CHANNELS = 32  # of sound; more rows than these are samples


class NoSoundError(InputError):
    """An AUDIO holds no sound."""


def to_waveform(audio: object) -> tuple[Tensor, int]:
    """Waveform (C, N) float −1..1 and sample rate of an AUDIO, which may be any mapping; lazy ones are read here.

    Raises:
        NoSoundError: no sound (as from a video without any).
        InputError: not an AUDIO.
    """
    if audio is None:
        raise NoSoundError("there is no audio: the video it comes from has no sound track. Connect Load Audio instead.")
    waveform_input, rate = _audio_parts(audio)
    waveform = as_tensor(waveform_input)
    if waveform is None or waveform.ndim not in (1, 2, 3) or waveform.numel() == 0:
        received = tuple(waveform_input.shape) if hasattr(waveform_input, "shape") else type(waveform_input).__name__
        raise NoSoundError(
            f"the audio input holds no sound, its waveform is {received}; connect a clip with speech in it."
        )
    if waveform.ndim == 3 and len(waveform) > 1:
        raise InputError(f"the audio input holds a batch of {len(waveform)} clips; connect one at a time.")
    flat = waveform.reshape(-1, waveform.shape[-1]).detach().cpu()
    if len(flat) > MOST_CHANNELS >= flat.shape[1]:  # samples first, as sound files are read
        flat = flat.T
    return check_finite(_at_full_scale(flat), "the sound of the audio input"), rate


def to_sound(audio: object) -> tuple[Tensor, int] | None:
    """The sound of a video to be written; None where no AUDIO is connected, or where it holds none: a silent film's."""
    try:
        return None if audio is None else to_waveform(audio)
    except NoSoundError as error:
        log.warning("the video gets no sound: %s", error)
        return None


def _audio_parts(audio: object) -> tuple[object, int]:
    """What an AUDIO says is its waveform, and its sample rate."""
    if not isinstance(audio, Mapping):
        raise InputError(f"an AUDIO with a waveform and a sample rate is needed, not {type(audio).__name__}.")
    try:
        return audio["waveform"], int(audio["sample_rate"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"an AUDIO with a waveform and a sample rate is needed; this one fails: {error}.") from error
    except Exception as error:  # a lazy one of another pack reads its file only now, and may raise anything
        why = " ".join(str(error).split())[:200]
        raise NoSoundError(
            f"the audio input cannot be read, as that of a video without sound: {why}. Connect Load Audio instead."
        ) from error


def _at_full_scale(waveform: Tensor) -> Tensor:
    """Samples −1..1 of samples that may be whole numbers, or whole numbers that became floats."""
    if waveform.dtype == torch.uint8:
        return (waveform.float() - 128) / 128
    if waveform.dtype in (torch.int8, torch.int16, torch.int32):
        return waveform.double().div(-torch.iinfo(waveform.dtype).min).float()
    samples = waveform.float()
    peak = float(samples.abs().max())
    if peak <= LOUD or not np.isfinite(peak):
        return samples
    scale = next((scale for scale in FULL_SCALES if peak <= scale), peak)
    log.warning("the sound of the audio input goes up to %g, not 1: it is divided by %.0f.", peak, scale)
    return samples / scale


def to_speech(audio: object) -> Speech:
    """Speech of an AUDIO."""
    return speech_from_waveform(*to_waveform(audio), source="the audio input")
