from fractions import Fraction

import pytest
import torch
from toy_puppet import write_prepared
from toy_speech import spoken, write_speaking

from portraittalk_core.errors import InputError
from portraittalk_core.speech.encoders import SpeechFeatures
from portraittalk_core.training.data.speech_rows import (
    ROWS,
    MelEncoder,
    read_rows,
    silent_rows,
    window_start,
)
from portraittalk_core.training.data.video_clips import read_list, read_videos
from portraittalk_core.training.data.windows import SyncWindows


class Counting:
    """Rows that say their own number; counts how often it is asked."""

    name = "counting"

    def __init__(self):
        self.calls = 0

    def encode(self, speech):
        self.calls += 1
        count = (len(speech.waveform) - 80) // 320
        return SpeechFeatures(torch.arange(count)[:, None].expand(-1, 3).float(), name=self.name)


def test_windows_begin_at_the_frame_and_are_kept_on_disk(tmp_path):
    folder, encoder = write_speaking(tmp_path, ["a", "b"]), Counting()
    videos = read_videos(folder, 5).videos
    kept, rows, dropped = read_rows(folder, videos, encoder)
    assert [video.name for video in kept] == ["a", "b"] and not dropped and rows.width == 3
    # 30 frames are 60 rows, and 0.36 s of silence make 17 more: the last frame has its 18
    assert rows.windows(0, [0, 7])[:, :, 0].tolist() == [list(range(18)), list(range(14, 32))]
    assert rows.windows(1, [29])[0, :, 0].tolist() == list(range(58, 76))
    assert encoder.calls == 2
    read_rows(folder, videos, encoder)
    assert encoder.calls == 2 and (folder / "a" / ROWS).is_file()
    encoder.name = "another"
    read_rows(folder, videos, encoder)
    assert encoder.calls == 4


@pytest.mark.parametrize(("fps", "frame", "start"), [(25, 10, 20), (24, 10, 21), (Fraction(30000, 1001), 10, 17)])
def test_window_of_a_frame_rate_starts_at_the_nearest_row(fps, frame, start):
    assert window_start(frame, Fraction(fps), 1000) == start
    assert window_start(10_000, Fraction(fps), 100) == 82


def test_silent_clips_are_left_out_and_told(tmp_path):
    folder = write_prepared(tmp_path, ["loud", "silent"], {"loud": spoken(0)})
    kept, _, dropped = read_rows(folder, read_videos(folder, 5).videos, Counting())
    assert [video.name for video in kept] == ["loud"] and dropped[0][0] == "silent"
    with pytest.raises(InputError, match="none of the 1 videos has sound"):
        read_rows(folder, read_videos(folder, 5, {"silent"}).videos, Counting())


def test_list_names_the_clips_that_are_read(tmp_path):
    folder = write_speaking(tmp_path / "clips", ["a", "b", "c"])
    (tmp_path / "list.txt").write_text("c\n\na\n")
    assert [v.name for v in read_videos(folder, 5, read_list(tmp_path / "list.txt")).videos] == ["a", "c"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="names no clip"):
        read_list(tmp_path / "empty.txt")


def test_log_mel_rows_rise_with_loudness_and_are_low_in_silence():
    from portraittalk_core.types import Speech

    wave = spoken(0)
    rows = MelEncoder().encode(Speech(wave)).values
    assert rows.shape == (len(wave) // 320, 160)
    quiet = silent_rows(MelEncoder())
    assert quiet.shape == (18, 160) and quiet.max() < rows.max() - 1


def test_wrong_speech_is_of_another_start_of_the_same_clip(tmp_path):
    folder = write_speaking(tmp_path, ["a", "b"])
    kept, rows, _ = read_rows(folder, read_videos(folder, 5).videos, Counting())
    windows = SyncWindows(kept, rows)
    batch = windows.batch(3, 26, 0, 64, 0.5)
    own = torch.tensor([at == start for at, start in zip(batch.starts, batch.clips.starts, strict=True)])
    assert torch.equal(batch.in_sync, own) and 4 < int(own.sum()) < 22
    assert torch.equal(batch.rows[:, 0, 0], 2.0 * torch.tensor(batch.starts))
    assert torch.equal(windows.batch(3, 26, 0, 64, 0.5).rows, batch.rows)
    assert windows.batch(3, 26, 0, 64, 0).in_sync.all()
