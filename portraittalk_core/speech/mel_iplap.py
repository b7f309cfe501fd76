"""Rows of IP-LAP's mel spectrogram for every frame of a film: what its networks hear of a frame.

Source: W. Zhong et al., "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors" (2023), and
its public code, which rounds a window's beginning down to a whole column.
"""

from __future__ import annotations

from fractions import Fraction

from torch import Tensor

from ..types import Speech, as_fps
from .wav2lip_mel import CHUNK_COLUMNS, CHUNK_LEAD, CHUNK_RATE, COLUMN_RATE_HZ, HOP, mel_pieces

LEAD_S = CHUNK_LEAD / CHUNK_RATE  # by which a window begins before its frame


def mel_rows(speech: Speech, fps: Fraction, start: int = 0, stop: int | None = None) -> Tensor:
    """The windows of some frames: 16 columns (0.2 s) that begin 80 ms before each.

    After its end the clip is silent; before its beginning there is nothing, so the first frames hear from there on.

    Args:
        speech: the clip.
        fps: frames per second of the film.
        start: first frame.
        stop: one past the last frame; None: those that the clip lasts.

    Returns:
        (stop − start, 80, 16) float32, −4..4.
    """
    fps = as_fps(fps)
    stop = speech.num_frames(fps) if stop is None else stop
    firsts = [max(0, int(COLUMN_RATE_HZ * (frame / fps - LEAD_S))) for frame in range(start, stop)]
    length = max(speech.waveform.numel(), (firsts[-1] + CHUNK_COLUMNS + 1) * HOP)
    return mel_pieces(speech, firsts, length)
