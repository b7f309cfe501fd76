"""What a lip model hears in each frame, with silence where the voice gate is shut.

Shapes: T frames.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from ...errors import InputError
from ...motion.dub import fit_speech
from ...types import Speech
from .contract import MEL, NO_SOUND, LipModel

Rows = Callable[[list[int]], Tensor]


def sound_rows(model: LipModel, speech: Speech | None, num_frames: int, fps: Fraction, gate: Tensor) -> Rows | None:
    """What a model hears in given frames; None where it hears nothing.

    Args:
        model: whose `sound` says what kind.
        speech: what is said; silence follows where it is shorter than the frames.
        num_frames: T.
        fps: frames per second.
        gate: (T,) 1 where somebody speaks; towards 0 the rows become those of silence.

    Raises:
        InputError: the model hears the speech, and there is none.
    """
    if model.sound == NO_SOUND:
        return None
    if speech is None:
        raise InputError(f"the renderer {model.name} hears the speech itself; give the speech too (--speech).")
    fitted = fit_speech(speech, num_frames, fps).speech
    rows, silent = _mel(fitted, fps) if model.sound == MEL else model.listen(fitted, fps)

    def of(frames: list[int]) -> Tensor:
        at = torch.tensor(frames)
        heard = rows[at.clamp(max=len(rows) - 1)]
        share = gate[at].view(-1, *[1] * (heard.ndim - 1)).to(heard)
        return torch.where(share >= 1, heard, torch.lerp(silent.to(heard).expand_as(heard), heard, share))

    return of


def _mel(speech: Speech, fps: Fraction) -> tuple[Tensor, Tensor]:
    from ...speech.mel_iplap import mel_rows

    rows = mel_rows(speech, fps)
    return rows, torch.tensor(MEL_SILENCE, dtype=rows.dtype)


MEL_SILENCE = -4.0  # of every mel, where nothing is to be heard
