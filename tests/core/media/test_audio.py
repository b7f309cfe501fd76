"""Speech: any file or waveform becomes 16 kHz mono of the right length, level and phase, or says what is wrong."""

from __future__ import annotations

import logging
import re
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError, MediaError
from portraittalk_core.media import audio
from portraittalk_core.media.audio import load_speech, speech_from_waveform
from portraittalk_core.media.sound import SoundChoice, SoundFile
from portraittalk_core.media.video_write import SoundTrack
from portraittalk_core.motion.dub import fit_speech


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


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, count).astype(np.float32)


def write_raw_wav(
    path, bits: int = 16, rate: int = 16_000, channels: int = 1, size: int = 32_000, content: bytes = b""
):
    content = content or bytes(size)
    head = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * bits // 8, max(channels * bits // 8, 1), bits)
    chunks = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(content)) + content
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    return path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": 1}, "a sampling rate of 1 Hz; 4000 to 384000 Hz"),
        ({"rate": 3999}, "3999 Hz"),
        ({"rate": 2_000_000}, "2000000 Hz"),
        ({"bits": 0}, "cannot be decoded"),
        ({"channels": 0}, "has no channels"),
    ],
    ids=str,
)
def test_load_speech_rejects_headers_that_no_sound_has(options, said, tmp_path):
    with pytest.raises(MediaError, match=rf"a\.wav.*{said}"):
        load_speech(write_raw_wav(tmp_path / "a.wav", **options))


@pytest.mark.parametrize("channels", [1, 2])
def test_load_speech_reads_64_bit_integers(channels, tmp_path):
    values = (tone(16_000) * 2.0**62).astype("<i8").repeat(channels)
    path = write_raw_wav(tmp_path / "a.wav", 64, channels=channels, content=values.tobytes())
    assert error_db(load_speech(path), tone(16_000) / 2) < -55


def test_load_speech_limits_the_length(write_sound, monkeypatch):
    monkeypatch.setattr(audio, "MAX_SPEECH_S", 3600.0 / 3600)
    with pytest.raises(InputError, match=r"sound\.wav lasts longer than .* hours"):
        load_speech(write_sound(tone(16_000, 1.5), 16_000))


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_load_speech_stops_where_enough_is_heard(rate, write_sound, monkeypatch):
    """What is kept is that of the whole, to the last bit; what follows is not even read."""
    path, read = write_sound(np.stack([noise(6 * rate), tone(rate, 6.0)]), rate), []
    whole, blocks = load_speech(path), SoundFile.blocks
    monkeypatch.setattr(SoundFile, "blocks", lambda sound: (read.append(block) or block for block in blocks(sound)))
    film = 61, Fraction(30_000, 1001)
    some = load_speech(path, float(film[0] / film[1]))
    assert 2.03 < some.seconds < 2.04 and sum(block.samples.shape[1] for block in read) < 4 * rate
    assert torch.equal(fit_speech(some, *film).speech.waveform, fit_speech(whole, *film).speech.waveform)
    assert torch.equal(load_speech(path, 30.0).waveform, whole.waveform)


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("shape", ["opposite", "weaker", "noisy"])
def test_channels_in_opposite_phase_do_not_cancel(shape, rate, write_sound):
    left = tone(rate)
    right = {"opposite": -left, "weaker": -0.8 * left, "noisy": -left + 0.02 * noise(rate)}[shape]
    found = load_speech(write_sound([left, right], rate, codec="pcm_f32le"))
    share = {"opposite": 1, "weaker": 0.9, "noisy": 1}[shape]  # (1 + 0.8) / 2
    assert error_db(found, share * tone(16_000)) < -35


@pytest.mark.parametrize("layout", ["5.1", "quad"])
def test_surround_channels_in_opposite_phase_do_not_cancel(layout, write_sound):
    samples = np.zeros((6 if layout == "5.1" else 4, 16_000), np.float32)
    samples[0], samples[1] = tone(16_000), -tone(16_000)
    found = load_speech(write_sound(samples, 16_000, "a.flac", "flac", layout)).waveform
    assert found.abs().max() > 0.2  # 2 / (2 + 4 · 0.7) of 0.5


@pytest.mark.parametrize("right", ["other", "delayed", "silent", "same"])
def test_other_channels_are_mixed_in_equal_parts(right, write_sound):
    left = noise(32_000)
    other = {"other": noise(32_000, 1), "delayed": np.roll(left, 40), "silent": 0 * left, "same": left}[right]
    found = load_speech(write_sound([left, other], 16_000, codec="pcm_f32le")).waveform.numpy()
    assert np.abs(found - (left + other) / 2).max() < 1e-6


def test_phase_may_change_within_a_file(write_sound):
    left = tone(16_000, 4)
    right = left * np.repeat([1, -1, 1, -1], 16_000)
    found = load_speech(write_sound([left, right], 16_000, codec="pcm_f32le")).waveform.numpy()
    level = np.sqrt(np.convolve(found**2, np.ones(1600) / 1600, "same"))[800:-800] / (0.5 / np.sqrt(2))
    assert (level > 0.9).mean() > 0.85 and level.max() < 1.01
    steps = np.abs(np.diff(found)).max()
    assert steps < 1.2 * np.abs(np.diff(left)).max()  # no click


@pytest.fixture
def write_timed(tmp_path):
    """write_timed(name, tracks of (samples, start_s) pieces, video_s=None, default=None) -> path, of 16 kHz PCM."""

    def write(name, tracks, video_s=None, default=None, seconds=2):
        with av.open(str(tmp_path / name), "w") as file:
            video = None
            if video_s is not None:
                video = file.add_stream("ffv1" if name.endswith("mkv") else "mpeg4", rate=25)
                video.width = video.height = 64
                video.pix_fmt = "yuv420p"
            streams = []
            for number, _ in enumerate(tracks, 1):
                stream = file.add_stream("pcm_s16le", rate=16_000)
                stream.layout = "mono"
                stream.metadata["language"] = ("eng", "deu", "fra")[number - 1]
                stream.disposition = av.stream.Disposition.default.value if number == default else 0
                streams.append(stream)
            packets = []
            for stream, pieces in zip(streams, tracks, strict=True):
                for samples, start_s in pieces:
                    for at in range(0, len(samples), 320):
                        values = (samples[None, at : at + 320] * 32767).round().astype(np.int16)
                        frame = av.AudioFrame.from_ndarray(values, "s16", "mono")
                        frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
                        frame.pts = round(start_s * 16_000) + at
                        packets += stream.encode(frame)
            if video is not None:
                for index in range(25 * seconds):
                    frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), index, np.uint8), "rgb24")
                    frame = frame.reformat(format="yuv420p")
                    frame.pts, frame.time_base = index + round(video_s * 25), Fraction(1, 25)
                    packets += video.encode(frame)
                packets += video.encode(None)
            for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
                file.mux(packet)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["v.mkv", "v.mov"])
def test_sound_that_starts_late_keeps_its_place(name, write_timed):
    sound = noise(16_000)
    path = write_timed(name, [[(sound, 0.7)]], video_s=0)
    expected = np.concatenate([np.zeros(11_200, np.float32), sound])
    found = load_speech(path).waveform.numpy()
    assert abs(len(found) - 27_200) <= 16
    assert np.abs(found[:27_000] - expected[:27_000]).max() < 1e-4
    track = SoundTrack(path)  # what a video written with it would get
    assert np.abs(track.read(27_000)[0] - expected[:27_000]).max() < 1e-4
    track.close()


@pytest.mark.parametrize("name", ["v.mkv", "a.mkv"])
def test_gaps_in_the_sound_are_silent(name, write_timed):
    sound = noise(32_000)
    pieces = [(sound[:8000], 0), (sound[8000:16_000], 1.25), (sound[16_000:], 2.5)]
    found = load_speech(write_timed(name, [pieces], video_s=0 if name[0] == "v" else None, seconds=4)).waveform.numpy()
    expected = np.zeros(56_000, np.float32)
    for samples, start_s in pieces:
        expected[round(start_s * 16_000) :][: len(samples)] = samples
    assert len(found) == 56_000
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_gaps_in_compressed_sound_are_silent(name, tmp_path):
    with av.open(str(tmp_path / name), "w") as file:
        stream = file.add_stream("aac", rate=16_000)
        stream.layout = "mono"
        for index in range(40):  # 64 ms each, and one second between the halves
            block = np.ascontiguousarray(tone(16_000, 40 * 0.064)[None, 1024 * index : 1024 * (index + 1)])
            frame = av.AudioFrame.from_ndarray(block.astype(np.float32), "fltp", "mono")
            frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
            frame.pts = 1024 * index + (16_000 if index >= 20 else 0)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    found = load_speech(tmp_path / name)
    assert found.seconds == pytest.approx(40 * 0.064 + 1, abs=0.13)
    level = found.waveform.abs()
    assert level[3200:18_000].max() > 0.45 and level[40_000:52_000].max() > 0.45
    assert level[24_000:34_000].max() < 1e-3


def test_sound_before_the_pictures_is_left_out(write_timed, caplog):
    sound = noise(48_000)
    found = load_speech(write_timed("v.mkv", [[(sound, 0)]], video_s=1.4)).waveform.numpy()
    assert len(found) == 48_000 - 22_400
    assert np.abs(found - sound[22_400:]).max() < 1e-4
    assert "v.mkv: its pictures begin 1.40 s after its sound" in caplog.text


def test_a_small_file_does_not_become_hours_of_silence(write_timed):
    sound = noise(3200)
    path = write_timed("a.mkv", [[(sound[:1600], 0), (sound[1600:], 20_000)]])
    assert load_speech(path).seconds == pytest.approx(0.2, abs=0.01)
    assert load_speech(write_timed("b.mkv", [[(sound[:1600], 0), (sound[1600:], 500)]])).seconds > 500


def test_sound_alone_begins_where_it_begins(write_timed):
    sound = noise(16_000)
    found = load_speech(write_timed("a.mkv", [[(sound, 5)]])).waveform.numpy()
    assert len(found) == 16_000 and np.abs(found - sound).max() < 1e-4


def test_stamps_that_jitter_change_nothing(write_timed):
    sound = noise(16_000)
    pieces = [(sound[320 * k : 320 * (k + 1)], 0.02 * k + 0.015 * (k % 2)) for k in range(50)]
    found = load_speech(write_timed("a.mkv", [pieces])).waveform.numpy()
    assert len(found) == 16_000 and np.abs(found - sound).max() < 1e-4


def test_a_clock_that_starts_anew_loses_and_adds_nothing(write_sound):
    parts = [write_sound(tone(16_000, 2), 16_000, f"{name}.ts", "mp2") for name in "ab"]
    seconds = load_speech(parts[0]).seconds
    whole = parts[0].with_name("whole.ts")
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))  # the second half counts from the start again
    found = load_speech(whole)
    assert found.seconds == pytest.approx(2 * seconds, abs=0.1)
    assert found.waveform[-16_000:-1600].abs().max() > 0.45


@pytest.mark.parametrize("default", [None, 1, 2, 3])
@pytest.mark.parametrize("name", ["v.mkv", "v.mov"])
def test_the_default_track_is_read_and_the_others_told(name, default, write_timed, caplog):
    tones = [tone(16_000, hz=hz) for hz in (200, 400, 800)]
    path = write_timed(name, [[(samples.astype(np.float32), 0)] for samples in tones], video_s=0, default=default)
    assert error_db(load_speech(path), tones[(default or 1) - 1]) < -55
    languages = r"1 \(eng\), 2 \(deu\), 3 \(fra\)" if name == "v.mkv" else ".*"  # QuickTime has codes of its own
    said = rf"{name} has 3 sound tracks: {languages}\. Number {default or 1} is used"
    assert re.search(said, caplog.text)
    assert len(caplog.records) == 1
    load_speech(path)
    assert len(caplog.records) == 1  # said once
    track = SoundTrack(path)
    assert np.abs(track.read(8000)[0] - tones[(default or 1) - 1][:8000]).max() < 1e-3
    track.close()


def test_another_track_can_be_chosen(write_timed, caplog):
    tones = [tone(16_000, hz=hz).astype(np.float32) for hz in (200, 400)]
    path = write_timed("v.mkv", [[(samples, 0)] for samples in tones], default=2)
    for number in (1, 2):
        assert error_db(load_speech(SoundChoice(path, number)), tones[number - 1]) < -55
        track = SoundTrack(SoundChoice(path, number))
        assert np.abs(track.read(8000)[0] - tones[number - 1][:8000]).max() < 1e-3
        track.close()
    assert not caplog.records
    for number in (0, 3, -1):
        with pytest.raises(InputError, match=rf"v\.mkv has no sound track {number}; choose one of 1 to 2"):
            load_speech(SoundChoice(path, number))
