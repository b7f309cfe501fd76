"""What a lip model hears in each frame, with silence where the voice gate is shut.

Shapes: T frames, B of them asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from ...errors import InputError
from ...motion.dub import fit_speech
from ...speech.wav2lip_mel import (
    CHUNK_LEAD,
    CHUNK_RATE,
    COLUMN_RATE_HZ,
    NUM_MELS,
    SILENCE,
    mel_pieces,
    padded_length,
)
from ...types import Speech
from .contract import NO_SOUND, WHISPER, LipModel

Rows = Callable[[list[int]], Tensor]


def sound_rows(  # noqa: PLR0913 - one parameter a property
    model: LipModel, speech: Speech | None, num_frames: int, fps: Fraction, gate: Tensor, goes_on: bool = False
) -> Rows | None:
    """What a model hears in given frames, whose numbers rise; None where it hears nothing.

    Args:
        model: whose `sound` says what kind.
        speech: what is said; silence follows where it is shorter than the frames.
        num_frames: T.
        fps: frames per second.
        gate: (T,) 1 where somebody speaks; towards 0 the rows become those of silence.
        goes_on: whether the last frames hear what a speech says that is longer than the film.

    Raises:
        InputError: the model hears the speech, and there is none.
    """
    if model.sound == NO_SOUND:
        return None
    if speech is None:
        raise InputError(f"the renderer {model.name} hears the speech itself; give the speech too.")
    fitted = speech if goes_on else fit_speech(speech, num_frames, fps).speech
    ends_at = speech.waveform.numel() if goes_on else None
    heard_in, silent = model.listen(fitted, fps) if model.sound == WHISPER else _mel(fitted, fps, ends_at)

    def of(frames: list[int]) -> Tensor:
        heard = heard_in(frames)
        share = gate[torch.tensor(frames)].view(-1, *[1] * (heard.ndim - 1)).to(heard)
        return torch.where(share >= 1, heard, torch.lerp(silent.to(heard).expand_as(heard), heard, share))

    return of


def mel_rows(speech: Speech, frames: list[int], fps: Fraction, length: int | None = None) -> Tensor:
    """(B, 80, 16) mel chunks of frames, from the samples they cover alone.

    At 25 frames a second frame t hears the chunk max(0, t − 2), as in IP-LAP's public inference; at other rates what
    lies there in time.

    Args:
        speech: the clip.
        frames: numbers, rising.
        fps: frames per second.
        length: samples after which nothing sounds; None: the clip counts as followed by silence.
    """
    length = padded_length(speech.waveform.numel()) if length is None else length
    return mel_pieces(speech, [first_column(at, fps) for at in frames], length)


def first_column(frame: int, fps: Fraction) -> int:
    """First of the 16 mel columns that a frame hears."""
    return max(0, int((frame / fps - CHUNK_LEAD / CHUNK_RATE) * COLUMN_RATE_HZ))


def _mel(speech: Speech, fps: Fraction, length: int | None) -> tuple[Rows, Tensor]:
    return lambda frames: mel_rows(speech, frames, fps, length), torch.full((NUM_MELS, 1), SILENCE)
