"""Speech: any file or waveform becomes 16 kHz mono of the right length, level and phase, or says what is wrong."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError, MediaError
from portraittalk_core.media.audio import load_speech, speech_from_waveform


def tone(rate: int, seconds: float = 1.0, hz: float = 300.0, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)


def error_db(speech, expected: np.ndarray) -> float:
    """Power of the difference over that of the signal, without 20 ms at either end, where filters settle."""
    found, inner = speech.waveform.numpy(), slice(320, -320)
    return 10 * np.log10(np.mean((found - expected)[inner] ** 2) / np.mean(expected[inner] ** 2))


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_load_speech_resamples_a_tone(rate, write_sound):
    speech = load_speech(write_sound(tone(rate), rate))
    assert len(speech.waveform) == 16_000 and speech.waveform.dtype == torch.float32
    assert speech.source == "sound.wav"
    assert error_db(speech, tone(16_000)) < -50


@pytest.mark.parametrize(
    ("name", "codec", "limit_db"),
    [
        ("a.wav", "pcm_u8", -30),
        ("a.wav", "pcm_s24le", -55),
        ("a.wav", "pcm_s32le", -55),
        ("a.wav", "pcm_f32le", -55),
        ("a.wav", "pcm_f64le", -55),
        ("a.flac", "flac", -55),
        ("a.m4a", "aac", -25),
        ("a.mp4", "aac", -25),
    ],
)
def test_load_speech_reads_format(name, codec, limit_db, write_sound):
    speech = load_speech(write_sound(tone(48_000), 48_000, name, codec))
    assert abs(speech.seconds - 1) < 0.001
    assert error_db(speech, tone(16_000)[: len(speech.waveform)]) < limit_db


@pytest.mark.parametrize(
    ("layout", "channel", "gain"),
    [
        ("stereo", 0, 1 / 2),
        ("stereo", 1, 1 / 2),
        # ITU-R BS.775 at −3 dB for centre and surround, scaled so that full scale in all channels stays full scale
        ("5.1", 0, 1 / (2 + 4 * 2**-0.5)),
        ("5.1", 2, 2**0.5 / (2 + 4 * 2**-0.5)),
        ("5.1", 3, 0),  # the low-frequency channel carries no speech
        ("5.1", 5, 2**-0.5 / (2 + 4 * 2**-0.5)),
    ],
)
def test_load_speech_mixes_channels(layout, channel, gain, write_sound):
    samples = np.zeros((2 if layout == "stereo" else 6, 16_000))
    samples[channel] = tone(16_000)
    found = load_speech(write_sound(samples, 16_000, "a.flac", "flac", layout)).waveform.numpy()
    assert np.abs(found - gain * tone(16_000)).max() < 1e-3


def test_load_speech_reads_a_video_with_sound(tmp_path, write_sound):
    from fractions import Fraction

    from portraittalk_core.media.video_write import VideoWriter

    sound = write_sound(tone(48_000), 48_000)
    with VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25), sound=sound) as writer:
        for _ in range(25):
            writer.write(torch.zeros(64, 64, 3, dtype=torch.uint8))
    assert error_db(load_speech(tmp_path / "v.mp4"), tone(16_000)) < -25


def test_load_speech_counts_bad_samples_before_they_spread(write_sound):
    samples = tone(44_100)
    samples[[100, 101, 9000]] = np.nan
    samples[20_000] = np.inf
    with pytest.raises(InputError, match=r"sound\.wav holds 4 values of 44100"):
        load_speech(write_sound(samples, 44_100, codec="pcm_f32le"))


def test_load_speech_rejects_unusable_files(tmp_path, write_sound, write_video):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is no sound\n" * 50)
    (tmp_path / "text.txt").write_text("this is no sound\n" * 50)  # FFmpeg would play it as a terminal session
    (tmp_path / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(4000))
    write_video([0, 0], "mute.mp4")
    told = {
        "none.wav": "does not exist",
        "empty.wav": "0 bytes",
        "text.wav": "not a sound",
        "text.txt": "is text",
        "noise.mp3": "not a sound",
        "mute.mp4": "video without sound",
    }
    for name, said in told.items():
        with pytest.raises(MediaError, match=f"{name}.*{said}"):
            load_speech(tmp_path / name)


def test_load_speech_rejects_pictures(tmp_path):
    from PIL import Image

    for name in ("p.png", "p.jpg"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
        with pytest.raises(MediaError, match=f"{name} is a picture"):
            load_speech(tmp_path / name)


def test_load_speech_rejects_20_ms_and_takes_100(write_sound):
    with pytest.raises(InputError, match=r"sound\.wav holds 0\.020 s of sound; at least 0\.1 s"):
        load_speech(write_sound(tone(16_000, 0.02), 16_000))
    assert load_speech(write_sound(tone(16_000, 0.1), 16_000)).waveform.shape == (1600,)


@pytest.mark.parametrize(("name", "codec"), [("a.wav", "pcm_s16le"), ("a.flac", "flac")])
def test_load_speech_keeps_what_is_left_of_a_cut_file(name, codec, write_sound, cut_file, caplog):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000)  # packs to the same size all along
    speech = load_speech(cut_file(write_sound(noise, 16_000, name, codec), 0.5))
    assert 0.6 < speech.seconds < 1.05
    assert np.abs(speech.waveform[:9000].numpy() - noise[:9000]).max() < 1e-3
    assert f"{name} is cut off: {speech.seconds:.2f} s of 2.00 s" in caplog.text


def test_load_speech_rejects_a_file_cut_to_nearly_nothing(write_sound, cut_file):
    with pytest.raises(InputError, match=r"sound\.wav (holds 0\.0|cannot be decoded)"):
        load_speech(cut_file(write_sound(tone(16_000), 16_000), 0.05))


def test_load_speech_allows_silence_with_a_warning(write_sound, caplog):
    speech = load_speech(write_sound(np.zeros(16_000), 16_000))
    assert not speech.waveform.any()
    assert "silent" in caplog.text


def test_load_speech_is_quiet_about_good_files(write_sound, caplog):
    with caplog.at_level(logging.INFO):
        for name, codec in (("a.wav", "pcm_s16le"), ("a.m4a", "aac"), ("a.flac", "flac")):
            load_speech(write_sound(tone(44_100), 44_100, name, codec))
    assert caplog.text == ""


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 192_000])
@pytest.mark.parametrize("shape", [(1,), (2,), (1, 1), (1, 6)], ids=str)
def test_speech_from_waveform_resamples_and_mixes(rate, shape):
    waveform = torch.from_numpy(tone(rate)).expand(*shape, -1)  # what all channels carry is kept as it is
    speech = speech_from_waveform(waveform, rate, "the input")
    assert speech.source == "the input" and len(speech.waveform) == 16_000
    assert error_db(speech, tone(16_000)) < -50


def test_speech_from_waveform_takes_one_axis_and_integers():
    waveform = torch.from_numpy((tone(16_000) * 32767).round()).to(torch.int16)
    assert error_db(speech_from_waveform(waveform, 16_000), tone(16_000)) < -55


@pytest.mark.parametrize(
    ("waveform", "rate", "said"),
    [
        (torch.zeros(2, 1, 16_000), 16_000, r"\(2, 1, 16000\)"),
        (torch.zeros(0, 16_000), 16_000, r"\(0, 16000\)"),
        (torch.zeros(1, 1, 0), 16_000, "0.000 s"),
        (torch.zeros(1, 1, 300), 16_000, "at least 0.1 s"),
        (torch.zeros(16_000), 0, "sample rate"),
        (torch.full((16_000,), torch.nan), 16_000, "16000 values of 16000"),
        ([0.0] * 16_000, 16_000, "list"),
    ],
)
def test_speech_from_waveform_rejects(waveform, rate, said):
    with pytest.raises(InputError, match=said):
        speech_from_waveform(waveform, rate)
