import torch

from portraittalk_core.motion.retarget import plan_landmarks
from portraittalk_core.pipelines.plot import COLOURS, plot_score, plot_track
from portraittalk_core.types import LandmarkTrack, Speech


def count(picture: torch.Tensor, colour: str) -> int:
    rgb = torch.tensor([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int(((picture.int() - rgb).abs().amax(-1) < 24).sum())


def test_plot_draws_every_curve_and_the_wave(make_plan):
    track = plan_landmarks(make_plan(opening=[0.1 * (i % 9) for i in range(40)], blink=[0.0] * 20 + [1.0] * 20))
    wave = Speech(0.5 * torch.sin(torch.arange(25600) * 0.05))
    plain, with_wave = plot_track(track), plot_track(track, wave)
    assert plain.dtype == torch.uint8
    assert plain.shape == with_wave.shape == (900, 1200, 3)
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
    many = LandmarkTrack(one.points.expand(9000, -1, -1), one.valid.expand(9000), one.fps, 512, 512)
    assert plot_track(one).shape == plot_track(many).shape


def test_plot_score_draws_both_parts():
    drawn = plot_score(torch.rand(50), torch.rand(49), 25.0, "title")
    assert count(drawn, COLOURS[0]) > 500
