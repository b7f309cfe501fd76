"""Style statistics of the options are found in the tracks that engines make."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from portraittalk_core.engines.contract import whole_track
from portraittalk_core.engines.raw_engine import RawMotionEngine
from portraittalk_core.engines.raw_motion import RawMotion
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.face import topology as topo
from portraittalk_core.media.audio import load_speech
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.motion.style_factors import StyleFactors, styled_mouth
from portraittalk_core.style.presets import preset
from portraittalk_core.style.statistics import measure_statistics
from portraittalk_core.types import STYLE_STATISTICS, Speech, StyleStatistics

SAMPLE = Path(__file__).parents[4] / "samples" / "speech.wav"


@pytest.fixture(scope="module")
def speech() -> Speech:
    waveform = load_speech(SAMPLE).waveform
    return Speech(waveform.repeat(-(-12 * 16000 // len(waveform)))[: 12 * 16000])


def numbers(track) -> dict[str, float]:
    return dict(zip(STYLE_STATISTICS, measure_statistics(track).mean(0).tolist(), strict=True))


def test_lively_moves_more_than_calm_in_mouth_head_brows_and_blinks(speech, astronaut):
    made = {
        name: numbers(
            whole_track(open_engine(), speech, astronaut.landmarks, MotionOptions(style_statistics=preset(name)))
        )
        for name in ("calm", "lively")
    }
    for what in ("opening", "head_deg", "head_hz", "head_shift", "brow", "blink_rate"):
        assert made["lively"][what] > 1.2 * made["calm"][what], what


def test_opening_comes_out_as_asked_for(speech, astronaut):
    plain = numbers(whole_track(open_engine(), speech, astronaut.landmarks))["opening"]
    for asked in (0.12, 0.32):
        options = MotionOptions(style_statistics=StyleStatistics(opening=asked))
        found = numbers(whole_track(open_engine(), speech, astronaut.landmarks, options))["opening"]
        assert found == pytest.approx(plain * asked / StyleStatistics().opening, rel=0.15)


def test_a_smile_lifts_the_corners_and_moves_neither_eyes_nor_nose(make_plan):
    plain, smiling = (plan_landmarks(replace(make_plan(press=[0.0] * 30), smile=s)) for s in (0.0, 0.06))
    assert numbers(smiling)["smile"] - numbers(plain)["smile"] == pytest.approx(0.06, abs=0.02)
    still = [*topo.EYELIDS, *topo.RIGID, topo.NOSE_TIP]
    torch.testing.assert_close(plain.points_px[:, still], smiling.points_px[:, still], rtol=0, atol=0.05)


def test_a_face_that_smiles_is_not_made_to_smile_twice(speech, astronaut):
    """The astronaut's corners rest 0.14 above most people's: more than the style asks for."""
    tracks = [
        whole_track(
            open_engine(), speech, astronaut.landmarks, MotionOptions(style_statistics=StyleStatistics(smile=s))
        )
        for s in (0.0, 0.1)
    ]
    assert torch.equal(tracks[0].points, tracks[1].points)


def test_lips_rest_apart_but_still_close_when_they_press(make_plan):
    plan = make_plan(press=[0.0, 1.0])
    plan = replace(plan, mouth=styled_mouth(plan.mouth, StyleFactors(gap_offset=0.06)))
    points = plan_landmarks(plan).points_px
    gap = (points[:, topo.INNER_LIP_BOTTOM] - points[:, topo.INNER_LIP_TOP]).norm(dim=1)
    width = (points[0, topo.MOUTH_CORNERS[1]] - points[0, topo.MOUTH_CORNERS[0]]).norm()
    assert float(gap[0] / width) == pytest.approx(0.06, abs=0.01) and float(gap[1] / width) < 0.005


def test_public_engines_follow_a_manner_too(speech, astronaut):
    shift = torch.zeros(12 * 25 + 1, 478, 3)
    shift[:, topo.INNER_LIP_BOTTOM, 1] = 10 * torch.sin(torch.pi * torch.arange(len(shift)) / 25) ** 2

    class Chewing(RawMotionEngine):
        name = "chewing"

        def raw_motion(self, speech, reference, on_progress=None):
            return RawMotion(shift, Fraction(25))

    made = {
        name: numbers(whole_track(Chewing(), speech, astronaut.landmarks, MotionOptions(style_statistics=preset(name))))
        for name in ("calm", "lively")
    }
    assert made["lively"]["opening"] > 1.3 * made["calm"]["opening"]
    assert made["lively"]["head_deg"] > 2 * made["calm"]["head_deg"]


def test_a_drawn_manner_is_the_same_for_the_same_numbers(speech, astronaut):
    options = MotionOptions(style_statistics=preset("emphatic"))
    first, again = (whole_track(open_engine(), speech, astronaut.landmarks, options).points for _ in range(2))
    assert torch.equal(first, again)
