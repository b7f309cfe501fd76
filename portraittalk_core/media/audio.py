"""Loading of speech as 16 kHz mono, from any sound FFmpeg reads or a waveform in memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checks import beyond, check_range
from ..errors import InputError, MediaError
from ..memory_map import extended
from ..types import SPEECH_RATE_HZ, Speech
from .mix import Block, mix_blocks, tensor_blocks
from .once import warn_once
from .sound import MAX_RATE_HZ, MIN_RATE_HZ, SoundChoice, SoundFile

log = logging.getLogger(__name__)

MIN_SPEECH_S, MAX_SPEECH_S = 0.1, 6 * 3600.0
SILENT_PEAK = 1e-4  # −80 dBFS
CUT_S = 0.1  # a file that lacks less is taken as whole: the claimed length counts an encoder's padding


def load_speech(source: Path | SoundChoice, at_most_s: float | None = None) -> Speech:
    """Read a sound track of a file as 16 kHz mono, from where the file's pictures begin if it has any.

    A file that breaks off is used up to there, with a logged warning; silence is allowed, with one too. Where a file
    has several tracks, a warning says which was taken.

    Args:
        source: a file, whose default track is read, or the choice of another one.
        at_most_s: seconds from the beginning, 0.1 or more, after which nothing is read; None reads all.

    Returns:
        Speech named after the file.

    Raises:
        MediaError: missing, empty, unreadable, or without sound.
        InputError: less than 0.1 s of sound, more than 6 hours, no such track, or samples that are not numbers.
    """
    with SoundFile(source) as sound:
        path = sound.path
        if not isinstance(source, SoundChoice) or source.track is None:
            _tell_tracks(sound)
        num_wanted = None if at_most_s is None else math.ceil(max(at_most_s, MIN_SPEECH_S) * SPEECH_RATE_HZ)
        waveform = _to_mono(sound.blocks(), f"the sound of {path}", num_wanted)
        if sound.seconds == 0 and sound.error:
            raise MediaError(f"the sound of {path} cannot be decoded ({sound.error}); export it again.")
        is_stopped = num_wanted is not None and len(waveform) >= num_wanted
        lost_s = 0.0 if is_stopped else sound.expected_s - sound.seconds
        padded = -CUT_S < lost_s < 0  # a decoder gives the silence that filled the encoder's last frame
        seconds = num_wanted / SPEECH_RATE_HZ if is_stopped else sound.expected_s if padded else sound.seconds
        speech = _speech(waveform, str(path), seconds)
        if lost_s > max(CUT_S, 0.01 * sound.expected_s):
            log.warning(
                "%s is cut off: %.2f s of %.2f s of sound could be read; going on with these.",
                path, sound.seconds, sound.expected_s,
            )  # fmt: skip
        elif sound.num_damaged:
            log.warning(
                "%s is damaged: %d parts could not be decoded; going on with the other %.2f s.",
                path, sound.num_damaged, sound.seconds,
            )  # fmt: skip
    return Speech(speech, Path(path).name)


def speech_from_waveform(waveform: Tensor, sample_rate: int, source: str = "the audio input") -> Speech:
    """Make speech of a waveform in memory.

    Args:
        waveform: (N,), (C, N) or (1, C, N), −1..1, or integers of full scale; channels are mixed to one.
        sample_rate: Hz, 4000..384000.
        source: what to call it in messages.

    Raises:
        InputError: another shape, less than 0.1 s, or samples that are not numbers.
    """
    if (
        not isinstance(waveform, Tensor)
        or waveform.ndim not in (1, 2, 3)
        or (waveform.ndim == 3 and len(waveform) != 1)
        or (waveform.ndim > 1 and waveform.shape[-2] == 0)
    ):
        received = tuple(waveform.shape) if isinstance(waveform, Tensor) else type(waveform).__name__
        raise InputError(f"{source} must be one waveform of shape (channels, samples), not {received}.")
    check_range(sample_rate, MIN_RATE_HZ, MAX_RATE_HZ, f"the sample rate of {source}")
    samples = waveform.reshape(waveform.shape[-2] if waveform.ndim > 1 else 1, waveform.shape[-1])
    if not samples.dtype.is_floating_point:
        samples = samples.float() / torch.iinfo(samples.dtype).max
    mono = _to_mono(tensor_blocks(samples, int(sample_rate)), f"the sound of {source}")
    return Speech(_speech(mono, source, samples.shape[1] / sample_rate), source)


def _tell_tracks(sound: SoundFile) -> None:
    tracks = sound.tracks
    if len(tracks) > 1:
        listed = ", ".join(f"{number} ({text})" for number, text in enumerate(tracks, 1))
        warn_once(
            log, "%s has %d sound tracks: %s. Number %d is used; --sound-track chooses.",
            sound.path, len(tracks), listed, sound.track,
        )  # fmt: skip


def _to_mono(blocks: Iterable[Block], name: str, num_wanted: int | None = None) -> Tensor:
    """(N,) all samples at 16 kHz, or `num_wanted` and the rest of their block."""
    bad = total = 0

    def counted() -> Iterator[Block]:  # before resampling, which would spread one NaN over its neighbours
        nonlocal bad, total
        for block in blocks:
            total += block.samples.size
            bad += block.samples.size - int(np.isfinite(block.samples).sum())
            yield block

    samples = bytearray()  # grows in place: a list of blocks and their joined copy would take twice the memory
    for block in mix_blocks(counted(), 1, SPEECH_RATE_HZ):
        samples += block.tobytes()
        if num_wanted is not None and len(samples) >= num_wanted * block.itemsize:
            break
        if len(samples) > MAX_SPEECH_S * SPEECH_RATE_HZ * block.itemsize:
            raise InputError(f"{name} lasts longer than {MAX_SPEECH_S / 3600:g} hours; cut it into parts.")
    if bad:
        raise InputError(f"{name} holds {bad} values of {total} that are NaN or infinite; clean it first.")
    waveform = torch.frombuffer(samples, dtype=torch.float32) if samples else torch.zeros(0)
    return extended(waveform, len(waveform))


def _speech(waveform: Tensor, source: str, seconds: float) -> Tensor:
    if seconds < MIN_SPEECH_S or not len(waveform):
        length = beyond(seconds, MIN_SPEECH_S, digits=3)
        raise InputError(f"{source} holds {length} s of sound; at least {MIN_SPEECH_S:g} s is needed.")
    if max(-waveform.min(), waveform.max()) < SILENT_PEAK:
        log.warning("%s is silent (%.1f s); the mouth will stay closed.", source, seconds)
    num_samples = round(seconds * SPEECH_RATE_HZ)  # the resampler may give a few more or less
    if len(waveform) >= num_samples:
        return waveform[:num_samples].clamp_(-1, 1)
    return torch.nn.functional.pad(waveform, (0, num_samples - len(waveform))).clamp_(-1, 1)
