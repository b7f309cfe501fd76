import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.plots.track import COLOURS, plot_score, plot_track
from portraittalk_core.types import LandmarkTrack, Speech


def count(picture: torch.Tensor, colour: str) -> int:
    rgb = torch.tensor([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int(((picture.int() - rgb).abs().amax(-1) < 24).sum())


def test_plot_draws_every_curve_and_the_wave(make_plan):
    track = plan_landmarks(make_plan(opening=[0.1 * (i % 9) for i in range(40)], blink=[0.0] * 20 + [1.0] * 20))
    wave = Speech(0.5 * torch.sin(torch.arange(25600) * 0.05))
    plain, with_wave = plot_track(track), plot_track(track, wave)
    assert plain.dtype == torch.uint8
    assert plain.shape == with_wave.shape == (960, 1200, 3)
    for colour in COLOURS:
        assert count(plain, colour) > 200
    assert count(with_wave, "#c9d3dd") > count(plain, "#c9d3dd") + 2000


def test_plot_shades_frames_without_a_face(make_plan):
    track = plan_landmarks(make_plan(opening=[0.1 * (i % 9) for i in range(40)]))
    valid = track.valid.clone()
    valid[10:20] = False
    gaps = LandmarkTrack(track.points, valid, track.fps, track.width, track.height)
    assert count(plot_track(gaps), "#fdf1b8") > count(plot_track(track), "#fdf1b8") + 3000


def test_plot_of_one_frame_and_of_very_many(make_plan):
    one = plan_landmarks(make_plan(opening=[0.3]))
    many = LandmarkTrack(one.points.expand(2000, -1, -1), one.valid.expand(2000), one.fps, 512, 512)
    assert plot_track(one).shape == plot_track(many).shape


def test_plot_score_draws_both_parts():
    drawn = plot_score(torch.rand(50), torch.rand(49), 25.0, "title")
    assert count(drawn, COLOURS[0]) > 500


def test_plot_score_leaves_gaps_where_no_face_was_seen():
    spatial = torch.full((50,), 0.5)
    whole = plot_score(spatial, torch.full((49,), 0.5), 25.0, "title")
    spatial[10:40] = torch.nan
    gap = plot_score(spatial, torch.full((49,), 0.5), 25.0, "title")
    assert count(gap, COLOURS[0]) < 0.6 * count(whole, COLOURS[0])
    assert count(gap, "#fdf1b8") > count(whole, "#fdf1b8") + 20_000


def test_plot_of_a_long_track_keeps_short_peaks(make_plan):
    rest, wide = plan_landmarks(make_plan(opening=[0.0, 1.0])).points
    points = rest.repeat(2000, 1, 1)
    flat = LandmarkTrack(points.clone(), torch.ones(2000, dtype=torch.bool), Fraction(25), 512, 512)
    points[1000] = wide
    peak = LandmarkTrack(points, flat.valid, flat.fps, 512, 512)
    rows = []
    for track in (flat, peak):
        around_middle = plot_track(track)[200:400, 560:680].int()  # of the mouth's curve
        rows.append(int((around_middle[..., 0] - around_middle[..., 2] > 15).any(1).sum()))
    assert rows[0] < 10
    assert rows[1] > 100


@pytest.mark.slow
def test_plot_never_touches_matplotlibs_global_state(make_plan):
    code = (
        "import sys, torch; from portraittalk_core.plots.track import plot_score; "
        "plot_score(torch.ones(3), torch.ones(2), 25.0, ''); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
