"""Speech in: any sound FFmpeg reads, or a waveform in memory, becomes 16 kHz mono."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from ..checks import check_finite, check_range
from ..errors import InputError, MediaError
from ..types import SPEECH_RATE_HZ, Speech

log = logging.getLogger(__name__)

MIN_SPEECH_S = 0.1
SILENT_PEAK = 1e-4  # −80 dBFS


def load_speech(path: Path) -> Speech:
    """Read the first sound track of a file as 16 kHz mono.

    A file that breaks off is used up to there, with a logged warning; silence is allowed, with one too.

    Raises:
        MediaError: missing, empty, unreadable, or without sound.
        InputError: less than 0.1 s of sound, or samples that are not numbers.
    """
    path = Path(path)
    blocks = list(decode_blocks(path, "fltp", "mono", SPEECH_RATE_HZ))
    waveform = np.concatenate([block[0] for block in blocks]) if blocks else np.zeros(0, np.float32)
    return _checked(torch.from_numpy(waveform), str(path))


def speech_from_waveform(waveform: Tensor, sample_rate: int, source: str = "the audio input") -> Speech:
    """Make speech of a waveform in memory.

    Args:
        waveform: (N,), (C, N) or (1, C, N), −1..1; channels are averaged.
        sample_rate: Hz, 4000..384000.
        source: what to call it in messages.

    Raises:
        InputError: another shape, less than 0.1 s, or samples that are not numbers.
    """
    if (
        not isinstance(waveform, Tensor)
        or waveform.ndim not in (1, 2, 3)
        or (waveform.ndim == 3 and len(waveform) != 1)
    ):
        found = tuple(waveform.shape) if isinstance(waveform, Tensor) else type(waveform).__name__
        raise InputError(f"{source} must be one waveform of shape (channels, samples), not {found}.")
    check_range(sample_rate, 4000, 384_000, f"the sample rate of {source}")
    samples = waveform.detach().float().cpu()
    samples = samples.reshape(-1, samples.shape[-1])
    if samples.shape[1] < MIN_SPEECH_S * sample_rate:
        _too_short(source, samples.shape[1] / sample_rate)
    check_finite(samples, f"the sound of {source}")
    mono = samples.mean(0)
    if sample_rate != SPEECH_RATE_HZ:
        mono = _resample(mono, int(sample_rate))
    return _checked(mono, source)


def decode_blocks(path: Path, sample_format: str, layout: str | None, rate: int | None) -> Iterator[np.ndarray]:
    """Decode a file's first sound track block by block.

    Args:
        path: any file FFmpeg reads.
        sample_format: FFmpeg's name, planar: "fltp", "s16p".
        layout: "mono", "stereo"; None keeps one or two channels and mixes more down to two.
        rate: Hz; None keeps the file's own.

    Yields:
        (C, n) arrays.

    Raises:
        MediaError: missing, empty, unreadable, or without sound.
    """
    with open_media(path) as container:
        if not container.streams.audio:
            kind = "a video without sound" if container.streams.video else "no sound file"
            raise MediaError(f"{path} is {kind}; give a file with speech in it, such as a WAV or MP3.")
        stream = container.streams.audio[0]
        layout = layout or ("mono" if stream.codec_context.channels == 1 else "stereo")
        resampler = av.AudioResampler(sample_format, layout, rate or stream.codec_context.sample_rate)
        seconds = 0.0
        try:
            for frame in container.decode(stream):
                frame.pts = None  # gaps and jumps in the time stamps must not become gaps in the samples
                for out in resampler.resample(frame):
                    seconds += out.samples / out.sample_rate
                    yield out.to_ndarray()
            for out in resampler.resample(None):
                yield out.to_ndarray()
        except av.FFmpegError as error:
            if seconds < MIN_SPEECH_S:
                raise MediaError(f"the sound of {path} cannot be decoded ({error}); export it again.") from error
            log.warning("%s breaks off after %.2f s (%s); using the sound up to there.", path, seconds, error)


def open_media(path: Path) -> av.container.InputContainer:
    """Open a sound or video file for reading.

    Raises:
        MediaError: missing, empty, or not a file that FFmpeg reads.
    """
    path = Path(path)
    if not path.is_file():
        raise MediaError(f"{path} does not exist or is not a file; check the path.")
    if path.stat().st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes); export it again.")
    try:
        return av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(
            f"{path} is not a sound or video file that can be read ({error}); it may be damaged or of another kind."
        ) from error


def _resample(mono: Tensor, rate: int) -> Tensor:
    resampler = av.AudioResampler("fltp", "mono", SPEECH_RATE_HZ)
    out = []
    for start in range(0, len(mono), rate):  # one second at a time: no second copy of a long clip
        block = np.ascontiguousarray(mono[start : start + rate].numpy()[None])
        frame = av.AudioFrame.from_ndarray(block, "fltp", "mono")
        frame.sample_rate = rate
        out += [made.to_ndarray()[0] for made in resampler.resample(frame)]
    out += [made.to_ndarray()[0] for made in resampler.resample(None)]
    return torch.from_numpy(np.concatenate(out))


def _checked(waveform: Tensor, source: str) -> Speech:
    seconds = waveform.numel() / SPEECH_RATE_HZ
    if seconds < MIN_SPEECH_S:
        _too_short(source, seconds)
    check_finite(waveform, f"the sound of {source}")
    if waveform.abs().max() < SILENT_PEAK:
        log.warning("%s is silent (%.1f s); the mouth will stay closed.", source, seconds)
    return Speech(waveform.clamp(-1, 1), source)


def _too_short(source: str, seconds: float) -> None:
    raise InputError(f"{source} holds {seconds:.3f} s of sound; at least {MIN_SPEECH_S:g} s is needed.")
