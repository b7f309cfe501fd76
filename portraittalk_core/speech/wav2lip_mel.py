"""The mel spectrogram of Wav2Lip and of the networks that followed it, cut into one piece for every video frame.

Source: K. R. Prajwal et al., "A Lip Sync Expert Is All You Need for Speech to Lip Generation In the Wild" (2020), whose
settings the weights of IP-LAP need unchanged: pre-emphasis, 80 Slaney mels of the magnitude, decibels scaled to −4..4.

A column is 12.5 ms, a chunk 16 columns (200 ms), and one chunk begins every 40 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache

import torch
from torch import Tensor

from ..checks import check_choice
from ..types import SPEECH_RATE_HZ, Speech, num_frames_for

NUM_MELS = 80
FFT_SIZE, HOP = 800, 200
COLUMN_RATE_HZ = SPEECH_RATE_HZ // HOP
LOW_HZ, HIGH_HZ = 55.0, 7600.0
EMPHASIS = 0.97
FLOOR = 1e-5  # magnitude; −100 dB
REFERENCE_DB, RANGE_DB, HIGHEST = 20.0, 100.0, 4.0
SILENCE = -HIGHEST  # of every mel in digital silence
PAD_MODES = ("constant", "reflect")  # beyond the clip's ends: silence (librosa since 0.9) or the clip mirrored (before)
BLOCK = 400  # columns computed at once: 5 s

CHUNK_RATE = Fraction(25)  # chunks a second: one a video frame
CHUNK_COLUMNS = 16
CHUNK_LEAD = 2  # the middle of chunk k is that of frame k + 2; earlier frames make do with chunk 0


@cache
def mel_filters() -> Tensor:
    """(80, 401) float64 triangular filters on Slaney's mel scale, 55..7600 Hz, of equal area."""
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(
        FFT_SIZE // 2 + 1, NUM_MELS, LOW_HZ, HIGH_HZ, SPEECH_RATE_HZ, norm="slaney", mel_scale="slaney"
    )
    return torch.from_numpy(bank.T).double().contiguous()


def wav2lip_mel(speech: Speech, pad_mode: str = "constant") -> Tensor:
    """The spectrogram of a whole clip.

    Args:
        speech: the clip.
        pad_mode: padding beyond the clip's ends, one of `PAD_MODES`; matters in the outermost two columns.

    Returns:
        (80, samples // 200 + 1) float32, −4..4, 80 columns a second.
    """
    check_choice(pad_mode, PAD_MODES, "pad_mode")
    length = speech.waveform.numel()
    mel = torch.empty(NUM_MELS, length // HOP + 1)  # filled in place: a long clip is held once
    for start in range(0, mel.shape[1], BLOCK):
        stop = min(start + BLOCK, mel.shape[1])
        mel[:, start:stop] = _columns(speech.waveform, length, start, stop, pad_mode)
    return mel


def mel_chunks(speech: Speech, start: int, stop: int, pad_mode: str = "constant") -> Tensor:
    """The chunks start..stop−1 of a clip, made from the samples they cover alone.

    Chunk k is the columns int(3.2 k) .. int(3.2 k) + 15. The clip counts as followed by silence long enough that each
    of its frames has a chunk.

    Args:
        speech: the clip.
        start: first chunk.
        stop: one past the last chunk, at most the number of frames at 25 a second.
        pad_mode: see `wav2lip_mel`.

    Returns:
        (stop − start, 80, 16) float32, −4..4.
    """
    check_choice(pad_mode, PAD_MODES, "pad_mode")
    firsts = [k * COLUMN_RATE_HZ // int(CHUNK_RATE) for k in range(start, stop)]
    return mel_pieces(speech, firsts, padded_length(speech.waveform.numel()), pad_mode)


def mel_pieces(speech: Speech, firsts: Sequence[int], length: int, pad_mode: str = "constant") -> Tensor:
    """Pieces of 16 columns, made from the samples they cover alone.

    Args:
        speech: the clip.
        firsts: first column of each piece, none before that of the piece before it.
        length: samples to which silence extends the clip.
        pad_mode: see `wav2lip_mel`.

    Returns:
        (len(firsts), 80, 16) float32, −4..4.
    """
    mel = _columns(speech.waveform, length, firsts[0], firsts[-1] + CHUNK_COLUMNS, pad_mode)
    return torch.stack([mel[:, first - firsts[0] : first - firsts[0] + CHUNK_COLUMNS] for first in firsts])


def padded_length(num_samples: int) -> int:
    """Samples of a clip and the silence after it, with which every frame has its chunk: whole frames and 0.2 s."""
    frame = SPEECH_RATE_HZ // int(CHUNK_RATE)
    return num_frames_for(num_samples, SPEECH_RATE_HZ, CHUNK_RATE) * frame + CHUNK_COLUMNS * HOP


def _columns(waveform: Tensor, length: int, start: int, stop: int, pad_mode: str) -> Tensor:
    """(80, stop − start) of a waveform that silence extends to `length` samples."""
    at = torch.arange(start * HOP - FFT_SIZE // 2, (stop - 1) * HOP + FFT_SIZE // 2)
    inside = (at >= 0) & (at < length)
    if pad_mode == "reflect":
        period = max(2 * (length - 1), 1)
        folded = at.remainder(period)
        at, inside = torch.minimum(folded, period - folded), torch.ones_like(inside)
    emphasised = (_samples(waveform, at) - EMPHASIS * _samples(waveform, at - 1)) * inside
    window = torch.hann_window(FFT_SIZE, dtype=torch.float64)
    spectrum = torch.stft(emphasised, FFT_SIZE, HOP, FFT_SIZE, window, center=False, return_complex=True)
    level_db = 20 * (mel_filters() @ spectrum.abs()).clamp(min=FLOOR).log10() - REFERENCE_DB
    return (2 * HIGHEST * (level_db / RANGE_DB + 1) - HIGHEST).clamp(-HIGHEST, HIGHEST).float()


def _samples(waveform: Tensor, at: Tensor) -> Tensor:
    """Float64 samples at some places; silence outside the waveform."""
    inside = (at >= 0) & (at < waveform.numel())
    return waveform[at.clamp(0, waveform.numel() - 1)].double() * inside
