from fractions import Fraction

import pytest
import torch
from tiny_hubert import write_tiny_hubert
from toy_puppet import write_prepared
from toy_speech import spoken, write_speaking

from portraittalk_core.errors import InputError
from portraittalk_core.speech.windows import WindowStream
from portraittalk_core.training.data.speech_rows import ROWS_FILE, MelEncoder, open_row_encoder, read_rows
from portraittalk_core.training.data.video_clips import read_list, read_videos
from portraittalk_core.training.data.windows import SyncWindows
from portraittalk_core.types import Speech


class Counting:
    """Rows that say their own number, those of silence −1; counts how often it is asked."""

    name = "counting"

    def __init__(self):
        self.calls = 0

    def stream(self, speech, silence=0, normalisation=None, on_progress=None):
        self.calls += 1
        count = (len(speech.waveform) + silence - 80) // 320
        numbers = torch.arange(count) if normalisation is None else torch.full((count,), -1)
        yield numbers[:, None].expand(-1, 3).float()


def test_windows_begin_at_the_frame_and_are_kept_on_disk(tmp_path):
    folder, encoder = write_speaking(tmp_path, ["a", "b"]), Counting()
    videos = read_videos(folder, 5).videos
    kept, rows, dropped = read_rows(folder, videos, encoder)
    assert [video.name for video in kept] == ["a", "b"] and not dropped and rows.width == 3
    assert rows.windows(0, [0, 7])[:, :, 0].tolist() == [list(range(18)), list(range(14, 32))]
    assert rows.windows(1, [29])[0, :, 0].tolist() == list(range(58, 76))  # the last of 30 frames has its 18
    assert (rows.silence(0) == -1).all() and rows.silence(0).shape == (18, 3)
    assert encoder.calls == 4
    read_rows(folder, videos, encoder)
    assert encoder.calls == 4 and (folder / "a" / ROWS_FILE).is_file()
    encoder.name = "another"
    read_rows(folder, videos, encoder)
    assert encoder.calls == 8


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


def test_log_mel_rows_are_as_many_as_huberts_and_follow_loudness():
    wave = spoken(0)
    (rows,) = MelEncoder().stream(Speech(wave), 1000)
    assert rows.shape == ((len(wave) + 1000 - 80) // 320, 160)
    level = rows.mean(1)[: len(wave) // 320 - 1]
    loudness = wave.unfold(0, 320, 320).square().mean(1)[: len(level)].clamp(min=1e-9).log()
    assert torch.corrcoef(torch.stack([level, loudness]))[0, 1] > 0.8


def test_encoders_without_windows_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="not a known speech encoder"):
        open_row_encoder(tmp_path / "x.safetensors")


def test_training_hears_what_the_driver_of_a_trained_network_hears(tmp_path):
    pytest.importorskip("transformers")
    folder = write_speaking(tmp_path / "clips", ["a"])
    encoder = open_row_encoder(write_tiny_hubert(tmp_path / "hubert.bin"))
    _, rows, _ = read_rows(folder, read_videos(folder, 5).videos, encoder)
    stream = WindowStream(encoder, Speech(spoken(0)), Fraction(25))
    assert torch.allclose(rows.windows(0, range(30)), stream.take(30), atol=5e-3)  # kept in half precision
    assert torch.allclose(rows.silence(0), stream.silence, atol=5e-3)


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
