"""What lip models hear in each frame."""

from fractions import Fraction

import torch
from stub_lips import StubLips

from portraittalk_core.renderers.lip.listening import mel_rows, sound_rows
from portraittalk_core.speech.wav2lip_mel import wav2lip_mel
from portraittalk_core.types import Speech

WAVE = Speech(0.2 * torch.randn(32_000, generator=torch.Generator().manual_seed(1)))


def test_frames_hear_the_chunk_of_two_frames_before():
    """At 25 fps columns int(3.2 k) on of the whole spectrogram, k = max(0, t − 2); at 50 fps what lies there."""
    mel = wav2lip_mel(WAVE)
    frames = [0, 1, 2, 3, 10, 30]
    rows = mel_rows(WAVE, frames, Fraction(25))
    for row, frame in zip(rows, frames, strict=True):
        first = int(3.2 * max(0, frame - 2))
        torch.testing.assert_close(row, mel[:, first : first + 16], atol=1e-5, rtol=0)
    doubled = mel_rows(WAVE, [2 * frame for frame in frames], Fraction(50))
    assert torch.equal(doubled, rows)


def test_after_the_speech_and_behind_the_gate_there_is_silence():
    gate = torch.ones(120)
    gate[20] = 0.0
    gate[21] = 0.5
    of = sound_rows(StubLips(), WAVE, 120, Fraction(25), gate)
    open_rows, gated = mel_rows(WAVE, [20, 21], Fraction(25)), of([20, 21])
    assert float(gated[0].max()) == -4
    torch.testing.assert_close(gated[1], (open_rows[1] - 4) / 2)
    assert float(of([60, 119]).max()) == -4  # two seconds are fifty frames
    assert sound_rows(StubLips(sound="none"), None, 5, Fraction(25), gate) is None
