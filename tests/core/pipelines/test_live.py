"""A portrait that speaks while somebody speaks."""

import time

import pytest
import torch

from portraittalk_core.errors import MediaError
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.pipelines.live import live

OPTIONS = MotionOptions(fps=12)


def test_pictures_come_at_the_pace_of_the_sound(astronaut):
    shown = []
    began = time.monotonic()
    report = live(astronaut, [torch.zeros(16_000)], lambda picture: shown.append(picture.shape) or True, OPTIONS)
    assert time.monotonic() - began > 0.99  # no faster than it would be heard
    assert report.num_frames + report.num_dropped >= 12
    assert len(shown) == report.num_frames >= 1
    assert set(shown) == {(512, 512, 3)}
    assert report.seconds == 1.0
    assert report.latency_s > 0.1  # nothing is shown before it is heard


def test_it_ends_when_nobody_looks(astronaut):
    shown = []
    live(astronaut, (torch.zeros(1600) for _ in range(100)), lambda picture: bool(shown.append(picture)), OPTIONS)
    assert len(shown) == 1


def test_frames_that_come_too_late_are_dropped(astronaut):
    report = live(astronaut, [torch.zeros(24_000)], lambda _: time.sleep(0.4) or True, OPTIONS)
    assert report.num_dropped > 0
    assert report.num_frames + report.num_dropped >= 18


def test_sound_that_breaks_is_told(astronaut):
    def sound():
        yield torch.zeros(1600)
        raise MediaError("the microphone can no longer be read.")

    with pytest.raises(MediaError, match="no longer be read"):
        live(astronaut, sound(), lambda _: True, OPTIONS)
