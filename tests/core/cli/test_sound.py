"""--sound-track names one of the sound tracks of --speech."""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import numpy as np
import pytest

from portraittalk_core.cli.main import main
from portraittalk_core.cli.sound import add_sound_track, chosen_sound
from portraittalk_core.media.sound import SoundChoice


@pytest.mark.parametrize(
    ("speech", "track", "expected"),
    [(None, None, None), ("a.mkv", None, Path("a.mkv")), ("a.mkv", 2, SoundChoice(Path("a.mkv"), 2)), (None, 2, None)],
)
def test_chosen_sound_is_the_file_or_one_of_its_tracks(speech, track, expected):
    parser = argparse.ArgumentParser()
    parser.add_argument("--speech", type=Path)
    add_sound_track(parser)
    words = (["--speech", speech] if speech else []) + (["--sound-track", str(track)] if track else [])
    assert chosen_sound(parser.parse_args(words)) == expected


def test_a_track_that_is_not_there_is_named(tmp_path, capsys):
    with av.open(str(tmp_path / "a.mkv"), "w") as file:
        streams = [file.add_stream("pcm_s16le", rate=16_000) for _ in range(2)]
        for stream in streams:
            stream.layout = "mono"
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(np.ones((1, 8000), np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = 16_000, 0
            file.mux(stream.encode(frame))
    words = ["--portrait", "p.png", "--speech", str(tmp_path / "a.mkv"), "--out", str(tmp_path / "o.safetensors")]
    assert main(["landmarks", *words, "--sound-track", "3"]) == 2
    assert "a.mkv has no sound track 3; choose one of 1 to 2." in capsys.readouterr().err
