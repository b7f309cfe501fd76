"""What a lip model hears in each frame, with silence where the voice gate is shut.

Shapes: T frames, B of them asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from ...speech.encoders import WhisperEncoder

Rows = Callable[[list[int]], Tensor]


def sound_rows(  # noqa: PLR0913 - one parameter a property
    model: LipModel,
    speech: Speech | None,
    num_frames: int,
    fps: Fraction,
    gate: Tensor,
    whisper: WhisperEncoder | None = None,
) -> Rows | None:
    """What a model hears in given frames, whose numbers rise; None where it hears nothing.

    Args:
        model: whose `sound` says what kind.
        speech: what is said; silence follows where it is shorter than the frames.
        num_frames: T.
        fps: frames per second.
        gate: (T,) 1 where somebody speaks; towards 0 the rows become those of silence.
        whisper: for a model that hears by it.

    Raises:
        InputError: the model hears the speech, and there is none; or it hears by Whisper, and that is not given.
    """
    if model.sound == NO_SOUND:
        return None
    if speech is None:
        raise InputError(f"the renderer {model.name} hears the speech itself; give the speech too (--speech).")
    fitted = fit_speech(speech, num_frames, fps).speech
    if model.sound == WHISPER:
        if whisper is None:
            raise InputError(f"the renderer {model.name} hears by whisper-tiny; give its file too (`whisper`).")
        heard_in, silent = _whisper(whisper, fitted, fps)
    else:
        heard_in, silent = _mel(fitted, fps)

    def of(frames: list[int]) -> Tensor:
        heard = heard_in(frames)
        share = gate[torch.tensor(frames)].view(-1, *[1] * (heard.ndim - 1)).to(heard)
        return torch.where(share >= 1, heard, torch.lerp(silent.to(heard).expand_as(heard), heard, share))

    return of


def mel_rows(speech: Speech, frames: list[int], fps: Fraction) -> Tensor:
    """(B, 80, 16) mel chunks of frames, from the samples they cover alone.

    At 25 frames a second frame t hears the chunk max(0, t − 2), as in IP-LAP's public inference; at other rates what
    lies there in time.
    """
    return mel_pieces(speech, [first_column(at, fps) for at in frames], padded_length(speech.waveform.numel()))


def first_column(frame: int, fps: Fraction) -> int:
    """First of the 16 mel columns that a frame hears."""
    return max(0, int((frame / fps - CHUNK_LEAD / CHUNK_RATE) * COLUMN_RATE_HZ))


def _whisper(encoder: WhisperEncoder, speech: Speech, fps: Fraction) -> tuple[Rows, Tensor]:
    from .musetalk.speech import WhisperRows

    rows = WhisperRows(encoder, speech, fps)
    quiet = WhisperRows(encoder, Speech(torch.zeros(speech.sample_rate), "silence"), fps)
    at = len(quiet) // 2
    return lambda frames: torch.cat([rows.rows(frame, frame + 1) for frame in frames]), quiet.rows(at, at + 1)[0]


def _mel(speech: Speech, fps: Fraction) -> tuple[Rows, Tensor]:
    return lambda frames: mel_rows(speech, frames, fps), torch.full((NUM_MELS, 1), SILENCE)
