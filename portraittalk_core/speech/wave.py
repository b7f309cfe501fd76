"""Speech as HuBERT and wav2vec 2.0 hear it: how many features a clip has, its normalisation, and its chunks.

Shapes: N samples at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..errors import InputError
from ..types import SPEECH_RATE_HZ, Speech

HOP, WINDOW, TAIL = 320, 400, 80  # samples: feature i of HuBERT and wav2vec covers 320·i .. 320·i + 399
CHUNK = 320_000  # samples encoded at once: 20 s
MIN_TAIL = 2 * SPEECH_RATE_HZ  # a shorter last chunk is encoded together with half a chunk before it
VARIANCE_FLOOR = 1e-7  # of the feature extractors that these networks were trained with


def num_wave_features(speech: Speech) -> int:
    """Number of features of HuBERT and wav2vec 2.0 for a clip.

    Raises:
        InputError: not even one.
    """
    samples = speech.waveform.numel()
    if samples < WINDOW:
        raise InputError(
            f"{speech.source} lasts {1000 * samples / SPEECH_RATE_HZ:.1f} ms ({samples} samples); speech encoders need "
            f"at least {1000 * WINDOW // SPEECH_RATE_HZ} ms. Give a longer clip."
        )
    return (samples - TAIL) // HOP


def clip_normalisation(waveform: Tensor) -> tuple[Tensor, Tensor]:
    """Offset to subtract from a whole clip and gain to multiply it with, for mean 0 and variance 1."""
    variance, mean = torch.var_mean(waveform, correction=0)
    return mean, (variance + VARIANCE_FLOOR).rsqrt()


def as_speech(speech: Speech | Tensor) -> Speech:
    """A clip, given as it is or as a waveform (N,) at 16 kHz."""
    return speech if isinstance(speech, Speech) else Speech(speech)


def chunks(samples: int) -> Iterator[tuple[int, int, int]]:
    """Samples of each chunk: start of its input, start of its output features, and end."""
    for start in range(0, samples - WINDOW + 1, CHUNK):
        stop = min(start + CHUNK + TAIL, samples)
        short = start > 0 and stop - start < MIN_TAIL
        yield (start - CHUNK // 2 if short else start), start, stop


def piece(waveform: Tensor, start: int, stop: int) -> Tensor:
    """(stop − start,) samples of a clip (N,) that digital silence follows."""
    inside = waveform[start:stop]
    return torch.nn.functional.pad(inside, (0, stop - start - len(inside)))
