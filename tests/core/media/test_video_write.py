"""Writing video: exact rates, colours, even sizes, sound of full length in its own quality, all or nothing."""

from __future__ import annotations

import contextlib
import errno
import os
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError, MediaError, OutputError, ShapeError
from portraittalk_core.media.video_read import read_pictures
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.types import Speech

NTSC = Fraction(30000, 1001)


def write(path, num_frames: int = 10, fps=Fraction(25), size=(64, 64), **options):
    with VideoWriter(path, *size, fps, **options) as writer:
        for index in range(num_frames):
            writer.write(torch.full((size[1], size[0], 3), 40 + index % 100, dtype=torch.uint8))
    return path


def sound_of(path) -> tuple[np.ndarray, int, float]:
    """Decoded (C, N) samples, their rate, and the length in seconds that the file states."""
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        samples = np.concatenate([frame.to_ndarray() for frame in file.decode(stream)], 1)
        return samples, stream.rate, float(stream.duration * stream.time_base)


@pytest.mark.parametrize("fps", [Fraction(25), NTSC, Fraction(24000, 1001), Fraction(60)], ids=str)
def test_video_writer_keeps_the_rate_exact(fps, tmp_path):
    with av.open(str(write(tmp_path / "v.mp4", 30, fps))) as file:
        stream = file.streams.video[0]
        assert stream.average_rate == fps and stream.frames == 30
        assert stream.duration * stream.time_base == 30 / fps
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert [frame.time for frame in file.decode(stream)] == pytest.approx([float(k / fps) for k in range(30)])


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv"])
def test_video_writer_writes(suffix, tmp_path):
    path = write(tmp_path / f"v{suffix}", 7, sound=Speech(torch.zeros(16_000)))
    assert sum(1 for _ in read_pictures(path)) == 7
    assert os.listdir(tmp_path) == [path.name]


def test_video_writer_puts_the_index_first(tmp_path):
    content = write(tmp_path / "v.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_video_writer_keeps_colours_and_says_which_they_are(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (200, 150, 120)]
    with VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25)) as writer:
        for colour in colours:
            writer.write(torch.tensor(colour, dtype=torch.uint8).expand(64, 64, 3))
    for picture, colour in zip(read_pictures(tmp_path / "v.mp4"), colours, strict=True):
        assert (picture[32, 32].int() - torch.tensor(colour)).abs().max() <= 3
    with av.open(str(tmp_path / "v.mp4")) as file:
        frame = next(file.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (1, 1)  # BT.709, limited range
        # BT.709: Y of pure red is 16 + 219 · 0.2126 = 62.6; BT.601 would give 81
        assert abs(int(frame.to_ndarray()[32, 32]) - 63) <= 1


@pytest.mark.parametrize("size", [(65, 64), (64, 65), (65, 67)])
def test_video_writer_pads_odd_sizes_with_the_edge(size, tmp_path):
    picture = torch.zeros(size[1], size[0], 3, dtype=torch.uint8)
    picture[-1, :], picture[:, -1] = 200, 200
    with VideoWriter(tmp_path / "v.mp4", *size, Fraction(25), crf=1) as writer:
        writer.write(picture)
    found = next(read_pictures(tmp_path / "v.mp4"))
    assert found.shape == (size[1] + size[1] % 2, size[0] + size[0] % 2, 3)
    right, below = size[0] % 2, size[1] % 2
    assert (not right or (found[:, -1].int() - 200).abs().max() < 20) and (
        not below or (found[-1].int() - 200).abs().max() < 20
    )


@pytest.mark.parametrize("fps", [Fraction(25), NTSC], ids=str)
@pytest.mark.parametrize("sound_s", [0.5, 5.0])
@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_video_writer_ends_sound_and_pictures_together(rate, sound_s, fps, tmp_path):
    sound = (0.3 * torch.randn(1, int(rate * sound_s)), rate)
    samples, found_rate, seconds = sound_of(write(tmp_path / "v.mp4", 77, fps, sound=sound))
    assert found_rate == rate
    assert seconds == pytest.approx(float(77 / fps), abs=0.002)
    tail = samples[:, int(rate * 1.5) :]
    assert (np.abs(tail).max() < 1e-3) == (sound_s < 1)  # silence after the end of a short sound


@pytest.mark.parametrize(
    ("channels", "rate", "found_channels", "found_rate"),
    [
        (1, 44_100, 1, 44_100),
        (2, 48_000, 2, 48_000),
        (6, 48_000, 2, 48_000),
        (1, 8_000, 1, 48_000),
        (2, 37_800, 2, 48_000),
    ],
)
def test_video_writer_keeps_channels_and_rate(channels, rate, found_channels, found_rate, tmp_path):
    samples, made_rate, _ = sound_of(write(tmp_path / "v.mp4", sound=(torch.zeros(channels, rate), rate)))
    assert (len(samples), made_rate) == (found_channels, found_rate)


def test_video_writer_keeps_left_and_right_in_time_and_level(tmp_path, write_sound):
    rate, seconds = 44_100, 2
    time = np.arange(rate * seconds) / rate
    stereo = np.stack([0.5 * np.sin(2 * np.pi * 440 * time), 0.25 * np.sin(2 * np.pi * 1000 * time)])
    path = write_sound(stereo, rate, "a.flac", "flac")
    samples, found_rate, _ = sound_of(write(tmp_path / "v.mp4", 25 * seconds, sound=path))
    assert found_rate == rate
    error = samples[:, 2000:80_000] - stereo[:, 2000:80_000]
    assert 10 * np.log10(np.mean(error**2) / np.mean(stereo**2)) < -30  # one sample off at 1 kHz would give −17


def test_video_writer_takes_the_sound_of_a_video(tmp_path):
    first = write(tmp_path / "a.mp4", 25, sound=(0.3 * torch.randn(2, 44_100), 44_100))
    samples, rate, _ = sound_of(write(tmp_path / "b.mp4", 25, sound=first))
    assert rate == 44_100 and len(samples) == 2 and np.abs(samples).max() > 0.1


def test_video_writer_gives_frames_back_early(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25), encoder_threads=1) as writer:
        for _ in range(20):
            writer.write(torch.zeros(64, 64, 3, dtype=torch.uint8))
        assert writer.num_frames == 20 and writer.num_encoded >= 5
        writer.close()
        assert writer.num_encoded == 20


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_video_writer_leaves_nothing_when_stopped(kind, tmp_path, write_sound):
    folder, sound = tmp_path / "out", write_sound(np.zeros(48_000), 48_000)
    folder.mkdir()
    with pytest.raises(kind), VideoWriter(folder / "v.mp4", 64, 64, Fraction(25), sound=sound) as writer:
        for _ in range(40):
            writer.write(torch.zeros(64, 64, 3, dtype=torch.uint8))
        assert len(os.listdir(folder)) == 1  # the part file, which is to vanish
        raise kind
    assert os.listdir(folder) == []


def test_video_writer_reads_no_more_sound_than_it_has_pictures(tmp_path, write_sound):
    sound = write_sound(np.zeros(16_000 * 30), 16_000)
    with VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25), sound=sound) as writer:
        for _ in range(25):
            writer.write(torch.zeros(64, 64, 3, dtype=torch.uint8))
        assert writer._sound._file.seconds < 1.5


def test_video_writer_keeps_an_older_file_until_it_is_done(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"older")
    with contextlib.suppress(KeyboardInterrupt), VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25)) as writer:
        writer.write(torch.zeros(64, 64, 3, dtype=torch.uint8))
        raise KeyboardInterrupt
    assert (tmp_path / "v.mp4").read_bytes() == b"older"
    assert write(tmp_path / "v.mp4").stat().st_size > 500


@pytest.mark.parametrize("when", ["writing", "finishing"])
def test_video_writer_tells_of_a_full_disk(when, tmp_path, monkeypatch):
    writer = VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25))

    def full(*_: object) -> None:
        raise av.error.OSError(errno.ENOSPC, "No space left on device")

    if when == "writing":
        monkeypatch.setattr(writer, "_encode", full)
    else:
        monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match=r"v\.mp4: the disk is full"), writer:
        writer.write(torch.zeros(64, 64, 3, dtype=torch.uint8))
    assert os.listdir(tmp_path) == []


def test_video_writer_notices_an_incomplete_file(tmp_path, monkeypatch):
    writer = VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25))
    close = writer._check_complete

    def cut_then_check() -> None:
        content = writer._part.path.read_bytes()
        writer._part.path.write_bytes(content[:200])
        close()

    monkeypatch.setattr(writer, "_check_complete", cut_then_check)
    with pytest.raises(OutputError, match="incomplete"), writer:
        writer.write(torch.zeros(64, 64, 3, dtype=torch.uint8))
    assert os.listdir(tmp_path) == []


def test_video_writer_checks_the_place_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "folder.mp4").mkdir()
    for path, said in (
        (tmp_path / "folder.mp4", "is a folder"),
        (tmp_path / "none" / "v.mp4", "does not exist"),
        (tmp_path / ("x" * 300 + ".mp4"), "too long"),
    ):
        with pytest.raises(OutputError, match=said):
            VideoWriter(path, 64, 64, Fraction(25))
    with pytest.raises(InputError, match=r"v\.avi.*\.mp4, \.m4v, \.mov, \.mkv"):
        VideoWriter(tmp_path / "v.avi", 64, 64, Fraction(25))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"total": 10**9, "free": 1000}))
    with pytest.raises(OutputError, match="disk is full"):
        VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25))
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OutputError, match="not writable"):
        VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fps": 0}, "fps"),
        ({"width": 4}, "width"),
        ({"crf": 99}, "crf"),
        ({"preset": "turbo"}, "turbo"),
        ({"encoder_threads": -1}, "encoder_threads"),
        ({"sound": (torch.zeros(8000), 8000)}, r"\(8000,\)"),
        ({"sound": (torch.full((1, 8000), torch.nan), 8000)}, "8000 values of 8000"),
        ({"sound": 3}, "int"),
    ],
)
def test_video_writer_rejects(options, said, tmp_path):
    with pytest.raises(InputError, match=said):
        VideoWriter(tmp_path / "v.mp4", **({"width": 64, "height": 64, "fps": Fraction(25)} | options))


def test_video_writer_rejects_bad_sound_files_and_pictures(tmp_path):
    with pytest.raises(MediaError, match=r"none\.wav"):
        VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25), sound=tmp_path / "none.wav")
    for picture, kind in (
        (torch.zeros(64, 32, 3, dtype=torch.uint8), InputError),
        (torch.zeros(64, 64, 3), ShapeError),
        (torch.zeros(3, 64, 64, dtype=torch.uint8), ShapeError),
    ):
        with pytest.raises(kind), VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25)) as writer:
            writer.write(picture)
    with pytest.raises(InputError, match="empty"):
        write(tmp_path / "v.mp4", 0)
    with pytest.raises(OutputError, match="not open"):
        VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25)).write(torch.zeros(64, 64, 3, dtype=torch.uint8))
    assert os.listdir(tmp_path) == []
