from fractions import Fraction

import pytest
import torch

from portraittalk_core.speech.mel_iplap import mel_rows
from portraittalk_core.speech.wav2lip_mel import SILENCE, wav2lip_mel
from portraittalk_core.types import Speech


def speech(seconds: float) -> Speech:
    return Speech(0.1 * torch.randn(int(16000 * seconds), generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def mel() -> torch.Tensor:
    """Columns of the clip with a second of silence behind it."""
    return wav2lip_mel(Speech(torch.cat([speech(2.0).waveform, torch.zeros(16000)])))


def test_rows_of_25_frames_a_second_are_the_public_codes_chunks(mel):
    """Chunk max(0, t − 2) of frame t; chunk k begins at column int(3.2 k)."""
    rows = mel_rows(speech(2.0), Fraction(25))
    expected = [mel[:, int(max(0, t - 2) * 80.0 / 25) :][:, :16] for t in range(50)]
    assert torch.equal(rows, torch.stack(expected))


@pytest.mark.parametrize("fps", [12, 60, Fraction(30000, 1001)])
def test_rows_of_other_rates_begin_80_ms_before_their_frame(mel, fps):
    rows = mel_rows(speech(2.0), Fraction(fps), 3, 20)
    expected = [mel[:, int(max(0.0, 80 * (t / float(fps) - 0.08)) + 1e-9) :][:, :16] for t in range(3, 20)]
    assert torch.equal(rows, torch.stack(expected))


def test_a_frame_after_the_speech_hears_silence():
    rows = mel_rows(speech(0.2), Fraction(25), 20, 24)
    assert torch.equal(rows, torch.full((4, 80, 16), SILENCE))


def test_a_part_is_the_part_of_the_whole():
    whole = mel_rows(speech(1.0), Fraction(25), 0, 40)
    assert torch.equal(mel_rows(speech(1.0), Fraction(25), 7, 31), whole[7:31])
