from fractions import Fraction
from pathlib import Path

import pytest
import torch

from portraittalk_core.engines.contract import whole_track
from portraittalk_core.engines.raw_engine import RawMotionEngine
from portraittalk_core.engines.raw_motion import RawMotion
from portraittalk_core.face import topology as topo
from portraittalk_core.media.audio import load_speech
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.motion.rig import make_rig
from portraittalk_core.types import Speech

SAMPLE = Path(__file__).parents[3] / "samples" / "speech.wav"
STILL = {"head_motion": 0.0, "blink_rate": 0.0, "smoothing": 0.0}


@pytest.fixture(scope="module")
def speech():
    return load_speech(SAMPLE)


class Chewing(RawMotionEngine):
    """The lower lip goes down and up once a second by 10 pixels."""

    name, rate = "chewing", 30

    def raw_motion(self, speech, reference, on_progress=None) -> RawMotion:
        shift = torch.zeros(int(speech.seconds * self.rate) + 1, 478, 3)
        times = (torch.arange(len(shift)) + 0.5) / self.rate
        shift[:, topo.INNER_LIP_BOTTOM, 1] = 10 * torch.sin(torch.pi * times) ** 2
        return RawMotion(shift, Fraction(self.rate))


def lower_lip(track) -> torch.Tensor:
    return track.points_px[:, topo.INNER_LIP_BOTTOM, 1]


def test_speaking_frames_are_the_closed_reference_plus_the_engines_motion(speech, astronaut):
    reference = astronaut.landmarks
    track = whole_track(Chewing(), speech, reference, MotionOptions(**STILL))
    assert len(track) == speech.num_frames(Fraction(25))
    rig = make_rig(reference)
    closed = rig.to_px(rig.rest + rig.close)
    times = (torch.arange(len(track)) + 0.5) / 25
    speaking = slice(35, 60)  # 1.4 to 2.4 s: no pause in the sample
    expected = closed[topo.INNER_LIP_BOTTOM, 1] + 10 * torch.sin(torch.pi * times) ** 2
    torch.testing.assert_close(lower_lip(track)[speaking], expected[speaking], rtol=0, atol=0.15)
    torch.testing.assert_close(track.points_px[speaking][:, 10], closed[10].expand(25, 3), rtol=0, atol=1e-2)


def test_gain_is_monotone_and_nought_keeps_the_mouth_closed(speech, astronaut):
    moved = []
    for gain in (0.0, 0.5, 1.0, 2.0):
        track = whole_track(Chewing(), speech, astronaut.landmarks, MotionOptions(mouth_gain=gain, **STILL))
        moved.append(float(lower_lip(track)[35:60].max() - lower_lip(track)[35:60].min()))
    assert moved[0] < 1e-3
    assert moved[1] == pytest.approx(0.5 * moved[2], rel=0.01)
    assert moved[3] == pytest.approx(2 * moved[2], rel=0.01)


def test_silence_rests_and_offset_shifts(speech, astronaut):
    options = MotionOptions(**STILL)
    longer = Speech(torch.cat([speech.waveform, torch.zeros(16000)]))
    track = whole_track(Chewing(), longer, astronaut.landmarks, options)
    assert lower_lip(track)[-20:].std() < 1e-3
    assert lower_lip(track)[-1] <= lower_lip(track).min() + 0.01
    later = whole_track(Chewing(), longer, astronaut.landmarks, MotionOptions(offset_ms=200.0, **STILL))
    torch.testing.assert_close(lower_lip(later)[40:60], lower_lip(track)[35:55], rtol=0, atol=0.05)


def test_blinks_and_head_motion_come_on_top(speech, astronaut):
    track = whole_track(Chewing(), speech, astronaut.landmarks, MotionOptions(blink_rate=40.0, seed=1))
    lids = track.points_px[:, 145, 1] - track.points_px[:, 159, 1]
    assert lids.min() < 0.3 * lids.max()
    assert track.points_px[:, topo.NOSE_TIP].std(0).max() > 0.3
