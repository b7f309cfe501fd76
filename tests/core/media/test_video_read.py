"""Reading video: what a file holds, and the picture shown at each output time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from portraittalk_core.errors import MediaError
from portraittalk_core.media import video_read
from portraittalk_core.media.video_read import VideoProbe, probe_video, read_pictures
from portraittalk_core.media.video_write import VideoWriter

MS = Fraction(1, 1000)
STAMPS_MS = [0, 40, 100, 110, 300, 340, 380, 700, 720, 1000]  # each picture is shown from its stamp on
NTSC = Fraction(30000, 1001)


def levels(count: int) -> list[int]:
    """Grey levels that tell pictures apart after encoding."""
    return [10 + 9 * index for index in range(count)]


def indices(pictures) -> list[int]:
    return [round((float(picture[32:96, 32:96].float().mean()) - 10) / 9) for picture in pictures]


def test_probe_video_tells_what_is_there(write_video):
    path = write_video([np.zeros((72, 144, 3), np.uint8)] * 50)
    assert probe_video(path) == VideoProbe(144, 72, Fraction(25), 50, 2.0, False, False)


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.mov"])
@pytest.mark.parametrize("fps", [Fraction(24), NTSC, Fraction(60)], ids=str)
def test_probe_video_finds_the_exact_rate(name, fps, write_video):
    probe = probe_video(write_video(levels(25), name, unit=1 / fps))
    assert probe.fps == fps and probe.num_frames == 25 and not probe.variable_rate
    assert probe.seconds == pytest.approx(25 / fps, abs=0.0011)  # Matroska counts milliseconds


def test_probe_video_sees_that_the_rate_varies(write_video):
    probe = probe_video(write_video(levels(10), stamps=STAMPS_MS, unit=MS))
    assert probe.variable_rate and probe.num_frames == 10


def test_probe_video_is_not_misled_by_pictures_stored_out_of_order(tmp_path, monkeypatch):
    blocks = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    with VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25)) as writer:
        for shift in range(100):  # a moving picture, of which the encoder stores two of three after their successor
            writer.write(torch.from_numpy(np.roll(blocks, shift, 1)))
    for limit in range(40, 48):  # wherever the look at a long film ends
        monkeypatch.setattr(video_read, "PROBED_PACKETS", limit)
        probe = probe_video(tmp_path / "v.mp4")
        assert (probe.fps, probe.num_frames, probe.seconds, probe.variable_rate) == (25, 100, 4.0, False)


def test_probe_video_of_a_single_picture(write_video):
    probe = probe_video(write_video([0]))
    assert probe.num_frames == 1 and probe.seconds == pytest.approx(0.04)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 25, 26, 77])
@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_read_pictures_at_the_own_rate_gives_each_once(num_frames, name, write_video):
    path = write_video([10 + 9 * (k % 25) for k in range(num_frames)], name, unit=Fraction(1, 30))
    assert indices(read_pictures(path)) == [k % 25 for k in range(num_frames)]


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
@pytest.mark.parametrize("fps", [Fraction(10), Fraction(25), NTSC, Fraction(60)], ids=str)
def test_read_pictures_shows_what_is_on_screen_at_each_time(fps, name, write_video):
    path = write_video(levels(10), name, STAMPS_MS, MS)
    found = indices(read_pictures(path, fps))
    times = [k / fps for k in range(len(found))]
    assert found == [max(i for i, stamp in enumerate(STAMPS_MS) if stamp * MS <= time) for time in times]
    assert Fraction(len(found)) >= 1 * fps  # the last picture appears at one second


@pytest.mark.parametrize(("fps", "count"), [(25, 30), (30, 36), (NTSC, 36), (24, 29), (50, 60)])
def test_read_pictures_count_is_seconds_times_rate_rounded_up(fps, count, write_video):
    path = write_video(levels(12), unit=Fraction(1, 10))  # 1.2 s
    assert sum(1 for _ in read_pictures(path, Fraction(fps))) == count


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_read_pictures_turns_them_upright(degrees, write_video):
    picture = np.zeros((128, 160, 3), np.uint8)
    picture[:64, :80], picture[64:, 80:] = 250, 120
    path = write_video([picture] * 3, rotation=degrees)
    found = next(read_pictures(path)).numpy()
    expected = np.rot90(picture, degrees // 90)  # FFmpeg counts anticlockwise, as numpy does
    assert found.shape == expected.shape
    assert probe_video(path).width == expected.shape[1]
    assert np.abs(found.astype(int) - expected)[4:-4, 4:-4].mean() < 4


def test_read_pictures_reports_progress_and_may_be_stopped(write_video):
    path, told = write_video(levels(10)), []
    for _ in read_pictures(path, on_progress=lambda *counts: told.append(counts)):
        pass
    assert told == [(k, 10) for k in range(1, 11)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(read_pictures(path, on_progress=stop))


def test_read_pictures_keeps_what_is_left_of_a_cut_file(tmp_path, cut_file, caplog):
    noise = np.random.default_rng(0).integers(0, 255, (100, 64, 64, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25)) as writer:  # its index is at the front
        for picture in noise:
            writer.write(torch.from_numpy(picture))
    count = sum(1 for _ in read_pictures(cut_file(tmp_path / "v.mp4", 0.6)))
    assert 40 < count < 65
    assert "v.mp4 is cut off" in caplog.text and "of 4.00 s" in caplog.text


def test_reading_rejects_at_once_what_is_no_video(tmp_path, write_sound, write_video, cut_file):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.txt").write_text("no video\n" * 100)
    write_sound(np.zeros(8000), 8000, "sound.wav")
    cut_file(write_video(levels(20), "cut.mp4"), 0.5)  # this one's index was at the end
    told = {
        "none.mp4": "does not exist",
        "empty.mp4": "0 bytes",
        "text.txt": "is text",
        "sound.wav": "no video track",
        "cut.mp4": "cannot|not a sound or video",
    }
    for name, said in told.items():
        for look in (probe_video, read_pictures):
            with pytest.raises(MediaError, match=f"{name}.*({said})"):
                look(tmp_path / name)


def test_a_damaged_part_is_told_and_does_not_stop_the_rest(write_video, tmp_path, caplog):
    noise = np.random.default_rng(0).integers(0, 255, (40, 128, 128, 3), dtype=np.uint8)
    whole = write_video(list(noise))
    content = bytearray(whole.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    with caplog.at_level("WARNING"):
        assert sum(1 for _ in read_pictures(whole)) == 40
        assert not caplog.records
        assert sum(1 for _ in read_pictures(damaged)) == 40
    assert "damaged.mp4 is damaged" in caplog.text
