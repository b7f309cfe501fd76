"""Sound that arrives while it is used."""

import io
import struct

import numpy as np
import pytest
import torch

from portraittalk_core.errors import MediaError
from portraittalk_core.media.live_sound import microphone_sound, stream_sound

RATE = 48_000


def wav(samples: np.ndarray, claimed: int | None = None) -> bytes:
    """Stereo 16 bit; `claimed` bytes of sound stand in the header."""
    data = (np.stack([samples, samples], 1) * 32767).astype("<i2").tobytes()
    size = len(data) if claimed is None else claimed
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", min(36 + size, 2**32 - 1), b"WAVE", b"fmt ", 16, 1, 2, RATE,
                       RATE * 4, 4, 16, b"data", size)  # fmt: skip
    return head + data


class Pipe(io.RawIOBase):
    """Gives a few bytes at a time, and counts them."""

    def __init__(self, data: bytes) -> None:
        self.data, self.given = data, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        part = self.data[self.given : self.given + min(size, 700)]
        self.given += len(part)
        return part


def tone(seconds: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * RATE)) / RATE)


@pytest.mark.parametrize("claimed", [None, 2**32 - 1], ids=["length", "no length"])
def test_a_stream_is_16_khz_mono(claimed):
    sound = torch.cat(list(stream_sound(Pipe(wav(tone(1.0), claimed)))))
    assert abs(len(sound) - 16_000) < 64
    spectrum = torch.fft.rfft(sound[:16_000]).abs()
    assert int(spectrum.argmax()) in (439, 440, 441)
    assert float(sound[2000:14_000].abs().max()) == pytest.approx(0.5, abs=0.02)


def test_sound_comes_before_the_stream_ends():
    pipe = Pipe(wav(tone(10.0), 2**32 - 1))
    sound = stream_sound(pipe)
    heard = sum(len(next(sound)) for _ in range(20))
    assert heard > 0
    assert pipe.given < len(pipe.data) // 2


def test_a_stream_that_is_no_wav_is_told():
    with pytest.raises(MediaError, match="holds no WAV sound .*arecord"):
        next(stream_sound(io.BytesIO(b"<html>not sound</html>" * 100)))


def test_a_device_is_read_through_ffmpeg():
    sound = microphone_sound("lavfi:sine=frequency=300:sample_rate=44100")
    samples = torch.cat([next(sound) for _ in range(30)])[:8000]
    assert int(torch.fft.rfft(samples).abs().argmax()) == pytest.approx(150, abs=1)


def test_an_absent_microphone_is_told():
    with pytest.raises(MediaError, match="microphone no_such_card .*pipe a WAV"):
        next(microphone_sound("no_such_card"))
