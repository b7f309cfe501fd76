"""Motion from speech that arrives piece by piece."""

from pathlib import Path

import pytest
import torch

from portraittalk_core.engines.builtin.live import LivePlanner
from portraittalk_core.engines.contract import whole_track
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.media.audio import load_speech
from portraittalk_core.motion.options import MotionOptions

SAMPLE = Path(__file__).parents[4] / "samples" / "speech.wav"
PLAIN = MotionOptions(head_motion=0, blink_rate=0)
SECONDS = 4


@pytest.fixture(scope="module")
def waveform():
    return load_speech(SAMPLE).waveform[: SECONDS * 16_000]


def planned(reference, waveform, piece: int, options: MotionOptions = PLAIN, flush: bool = True) -> torch.Tensor:
    planner = LivePlanner(reference, options)
    tracks = [track for part in waveform.split(piece) if (track := planner.push(part)) is not None]
    return torch.cat([track.points for track in [*tracks, *(planner.flush() if flush else ())]])


def gap(points: torch.Tensor) -> torch.Tensor:
    return points[:, 14, 1] - points[:, 13, 1]


@pytest.fixture(scope="module")
def live_points(astronaut, waveform):
    return planned(astronaut.landmarks, waveform, 640)


def test_the_mouth_moves_as_for_the_whole_clip(astronaut, waveform, live_points):
    whole = whole_track(open_engine(), load_speech(SAMPLE), astronaut.landmarks, PLAIN).points
    both = torch.stack([gap(live_points)[25 : 25 * SECONDS], gap(whole)[25 : 25 * SECONDS]])
    assert float(torch.corrcoef(both)[0, 1]) > 0.75
    assert 0.6 < float(both[0].amax() / both[1].amax()) < 1.6


def test_every_frame_of_the_sound_comes(live_points):
    assert len(live_points) >= 25 * SECONDS


@pytest.mark.slow
def test_a_frame_comes_no_later_than_the_latency_says(astronaut, waveform):
    planner, done, heard = LivePlanner(astronaut.landmarks, PLAIN), 0, 0
    for part in waveform.split(160):
        track, heard = planner.push(part), heard + len(part)
        done += 0 if track is None else len(track)
        due = (heard / 16_000 - planner.latency_s) * 25 - 0.5  # frames whose moment lies that long ago
        assert done >= int(due), heard
    assert planner.latency_s < 0.25


@pytest.mark.slow
def test_what_follows_changes_no_frame(astronaut, waveform, live_points):
    other = waveform.clone()
    other[len(other) // 2 :] = torch.sin(torch.arange(len(other) - len(other) // 2) / 5)
    short = planned(astronaut.landmarks, waveform[: len(waveform) // 2], 640, flush=False)
    torch.testing.assert_close(planned(astronaut.landmarks, other, 640)[: len(short)], live_points[: len(short)])


def test_silence_keeps_the_mouth_shut(astronaut):
    points = planned(astronaut.landmarks, torch.zeros(16_000), 640)
    assert float(gap(points).amax() - gap(points).amin()) == 0


def test_steady_noise_keeps_the_mouth_shut(astronaut):
    noise = 0.1 * torch.randn(32_000, generator=torch.Generator().manual_seed(1))
    assert float(gap(planned(astronaut.landmarks, noise, 640, flush=False)).std()) < 1e-4


@pytest.mark.slow
def test_a_later_mouth_is_the_same_one_later(astronaut, waveform, live_points):
    later = planned(astronaut.landmarks, waveform, 640, MotionOptions(head_motion=0, blink_rate=0, offset_ms=200))
    torch.testing.assert_close(gap(later)[10:80], gap(live_points)[5:75], rtol=0, atol=1e-4)


def test_the_eyes_blink_and_the_head_moves(astronaut, waveform):
    points = planned(astronaut.landmarks, waveform, 640, MotionOptions(blink_rate=40, head_motion=1))
    lids = (points[:, 145, 1] - points[:, 159, 1]) / (points[0, 145, 1] - points[0, 159, 1])
    assert float(lids.amin()) < 0.4 and float(lids.amax()) > 0.9
    assert float(points[:, 6, 0].std()) > 0
