"""Windows of HuBERT rows: where they begin at any frame rate, and that streaming changes nothing."""

from fractions import Fraction

import pytest
import torch
from tiny_hubert import tiny_hubert, write_tiny_hubert
from transformers import Wav2Vec2FeatureExtractor

from portraittalk_core.errors import InputError
from portraittalk_core.frame_rate import as_fps
from portraittalk_core.speech.encoders import load_speech_encoder
from portraittalk_core.speech.windows import (
    ROWS,
    WindowStream,
    made_silence,
    missing_samples,
    window_start,
    windows_of,
)
from portraittalk_core.types import Speech

FPS = [as_fps(rate) for rate in (12, 24, 25, 29.97, 30, 50, 60)]


class Counting:
    """Stands for HuBERT: row i of a clip is (i, mean of its samples' signs); chunks of 7 rows."""

    name = "counting"

    def stream(self, speech, silence=0, normalisation=None, on_progress=None):
        padded = torch.cat([speech.waveform, torch.zeros(silence)])
        count = (len(padded) - 80) // 320
        rows = torch.stack([torch.arange(count).float(), torch.full((count,), float(padded.sign().mean()))], 1)
        yield from rows.split(7)


def clip(samples: int, level: float = 0.1) -> Speech:
    return Speech(torch.full((samples,), level))


@pytest.mark.parametrize("fps", FPS, ids=lambda fps: f"{float(fps):.5g}")
def test_a_window_starts_at_the_row_of_its_frames_time(fps):
    starts = [window_start(frame, fps) for frame in range(1000)]
    times = torch.arange(1000, dtype=torch.float64) * float(1 / fps)
    assert (torch.tensor(starts).double() / 50 - times).abs().max() <= 0.01 + 1e-9  # half a row
    assert starts[0] == 0 and starts == sorted(starts)
    if fps == 25:
        assert starts == list(range(0, 2000, 2))


@pytest.mark.parametrize("fps", FPS, ids=lambda fps: f"{float(fps):.5g}")
@pytest.mark.parametrize("samples", [1, 400, 5839, 16_000, 48_000, 48_001])
def test_every_frame_has_a_window(fps, samples):
    speech = clip(samples)
    count = speech.num_frames(fps)
    stream = WindowStream(Counting(), speech, fps)
    windows = torch.cat([stream.take(min(5, count - first)) for first in range(0, count, 5)])
    assert windows.shape == (count, ROWS, 2)
    expected = torch.tensor([[window_start(i, fps) + k for k in range(ROWS)] for i in range(count)])
    assert torch.equal(windows[..., 0], expected.float())  # no row of the made silence among them


def test_the_public_count_of_windows_lacks_the_end():
    """3 s have 149 rows, whose windows at 25 fps end 8 frames early; the padding gives those."""
    assert (48_000 - 80) // 320 == 149
    assert window_start(66, Fraction(25)) + ROWS > 149 >= window_start(65, Fraction(25)) + ROWS
    assert missing_samples(48_000, 75, Fraction(25)) == 320 * (148 + 18) + 80 - 48_000
    assert missing_samples(100_000, 75, Fraction(25)) == 0


def test_streamed_windows_are_those_of_the_whole_clip():
    speech = clip(47_000)
    rows = torch.cat(list(Counting().stream(speech, missing_samples(47_000, 74, Fraction(25)))))
    stream = WindowStream(Counting(), speech, Fraction(25))
    assert torch.equal(torch.cat([stream.take(n) for n in (1, 3, 64, 6)]), windows_of(rows, 74, Fraction(25)))
    with pytest.raises(InputError, match="75 frames at 25 fps need 166 rows of speech"):
        windows_of(rows[:165], 75, Fraction(25))


@pytest.mark.parametrize(("offset", "first"), [(0, 0), (3, -6), (-3, 6)])
def test_an_offset_moves_the_windows_and_leaves_silence_outside(offset, first):
    stream = WindowStream(Counting(), clip(16_000), Fraction(25), offset)
    quiet = stream.silence[:, 1]
    windows = stream.take(25)
    spoken = clip(16_000).waveform.sum() / (16_000 + missing_samples(16_000, 25, Fraction(25))) * 10
    says = (windows[..., 1] - spoken).abs() < 1e-6
    rows = torch.tensor([[first + 2 * i + k for k in range(ROWS)] for i in range(25)])
    assert torch.equal(says, (rows >= 0) & (rows < 48 + ROWS))
    assert torch.equal(windows[..., 0][says], rows[says].float())
    assert torch.equal(windows[..., 1][~says], quiet[:1].expand(int((~says).sum())))


def test_a_track_longer_than_the_speech_ends_in_silence():
    stream = WindowStream(Counting(), clip(8_000), Fraction(25))
    windows = stream.take(100)
    assert torch.equal(windows[-1, :, 1], stream.silence[:, 1])
    assert not torch.equal(windows[0, :, 1], stream.silence[:, 1])


def test_little_is_held(monkeypatch):
    stream = WindowStream(Counting(), clip(16_000 * 60), Fraction(25))
    for _ in range(150):
        stream.take(10)
        assert len(stream._rows) <= 20 + ROWS + 7


def test_made_silence_is_two_steps_of_sixteen_bits():
    silence = made_silence().waveform * 2**15
    assert silence.unique().tolist() == [-2, -1, 0, 1, 2]
    assert float(silence.square().mean().sqrt()) == pytest.approx(2**0.5, abs=0.02)  # of a uniform choice of five
    assert torch.equal(made_silence().waveform, made_silence().waveform)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load_speech_encoder(write_tiny_hubert(tmp_path_factory.mktemp("hubert") / "h.bin"))


def test_silence_is_as_loud_as_beside_the_speech(encoder):
    """Made silence is normalised as the clip is; by itself it would be raised to the level of speech."""
    generator = torch.Generator().manual_seed(0)
    speech = Speech(0.2 * torch.randn(16_000, generator=generator).clamp(-3, 3))
    stream = WindowStream(encoder, speech, Fraction(25))
    scaled = (made_silence().waveform - speech.waveform.mean()) / (speech.waveform.var(correction=0) + 1e-7).sqrt()
    with torch.no_grad():
        expected = tiny_hubert()(scaled[None]).last_hidden_state[0, :ROWS]
    torch.testing.assert_close(stream.silence, expected, atol=2e-5, rtol=0)
    with_file = WindowStream(encoder, speech, Fraction(25), silence=made_silence())
    heard = Wav2Vec2FeatureExtractor()(made_silence().waveform.numpy(), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        expected = tiny_hubert()(heard.input_values).last_hidden_state[0, :ROWS]
    torch.testing.assert_close(with_file.silence, expected, atol=2e-5, rtol=0)


def test_silence_after_a_clip_does_not_count_for_its_normalisation(encoder):
    generator = torch.Generator().manual_seed(1)
    wave = 0.1 * torch.randn(9_000, generator=generator).clamp(-3, 3) + 0.05
    rows = torch.cat(list(encoder.stream(wave, 5_000)))
    padded = torch.nn.functional.pad(wave, (0, 5_000))
    heard = (padded - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt()
    with torch.no_grad():
        expected = tiny_hubert()(heard[None]).last_hidden_state[0]
    assert len(rows) == (14_000 - 80) // 320
    torch.testing.assert_close(rows, expected, atol=2e-5, rtol=0)


def test_progress_may_stop_the_hearing(encoder):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    stream = WindowStream(encoder, clip(16_000), Fraction(25), on_progress=stop)
    with pytest.raises(KeyboardInterrupt):
        stream.take(1)
