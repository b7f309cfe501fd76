from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from made_voice import made_voice

from portraittalk_core.engines.registry import open_engine
from portraittalk_core.errors import InputError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.geometry import rotation_matrix
from portraittalk_core.motion.dub import dub_track, film_order, fit_speech, mouth_share, resting_frame, with_mouth
from portraittalk_core.motion.dub_options import DubOptions
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.types import LandmarkTrack, Speech

FPS = Fraction(25)
UPPER = [*topo.RIGID, *topo.EYELIDS, *topo.RIGHT_IRIS, *topo.LEFT_IRIS]


def moved(points_px: torch.Tensor) -> torch.Tensor:
    """Every frame turned, grown and shifted in a way of its own, about the picture's middle."""
    t = torch.arange(len(points_px))[:, None].float()
    turn = rotation_matrix(torch.cat([3 * torch.sin(t), 12 * torch.sin(t / 3), 5 * torch.cos(t)], 1))
    return (points_px - 256) @ turn.transpose(1, 2) * (1 + 0.02 * t[:, None]) + 256 + 3 * t[:, None]


def spoken_like(make_plan, opening) -> LandmarkTrack:
    return plan_landmarks(make_plan(opening=opening, angles_deg=[[0.0, 0, 0]] * len(opening)))


def test_the_mouth_of_the_speech_lands_on_the_films_head_as_if_it_had_been_filmed(make_plan, astronaut):
    """The film is a still face moved by known similarities: so must the speaking face be, where the mouth decides."""
    still = spoken_like(make_plan, [0.0] * 6)
    said = spoken_like(make_plan, [0.0, 0.3, 0.9, 0.6, 0.2, 1.0])
    film = LandmarkTrack.from_px(moved(still.points_px), 512, 512, FPS)
    made = with_mouth(film, said, still.slice(0, 1)).points_px
    lower = [*topo.LIPS, topo.CHIN]
    torch.testing.assert_close(made[:, lower], moved(said.points_px)[:, lower], rtol=0, atol=0.01)  # px
    assert (moved(said.points_px)[:, lower] - film.points_px[:, lower]).norm(dim=2).max() > 8


def test_eyes_nose_and_head_stay_the_films_to_the_last_bit(make_plan):
    still, said = spoken_like(make_plan, [0.0] * 4), spoken_like(make_plan, [0.9] * 4)
    film = LandmarkTrack.from_px(moved(still.points_px), 512, 512, FPS)
    made = with_mouth(film, said, still.slice(0, 1))
    assert torch.equal(made.points[:, UPPER], film.points[:, UPPER])


def test_a_filmed_mouth_that_spoke_otherwise_leaves_no_trace(make_plan):
    still, said = spoken_like(make_plan, [0.0] * 4), spoken_like(make_plan, [0.1, 0.5, 0.0, 0.3])
    mouths = [LandmarkTrack.from_px(moved(spoken_like(make_plan, m).points_px), 512, 512, FPS)
              for m in ([0.9, 0.0, 0.7, 0.2], [0.0] * 4)]  # fmt: skip
    one, other = (with_mouth(film, said, still.slice(0, 1)).points_px[:, list(topo.LIPS)] for film in mouths)
    torch.testing.assert_close(one, other, rtol=0, atol=0.01)


def test_frames_without_the_face_stay_as_they_are(make_plan):
    said = spoken_like(make_plan, [0.9] * 5)
    film = replace(spoken_like(make_plan, [0.0] * 5), valid=torch.tensor([False, True, True, False, True]))
    made = with_mouth(film, said, film.slice(1, 2))
    changed = (made.points != film.points).flatten(1).any(1)
    assert changed.tolist() == [False, True, True, False, True]
    assert torch.equal(made.valid, film.valid)


def test_the_share_of_the_mouth_is_smooth_over_the_skin(make_plan):
    reference = spoken_like(make_plan, [0.0])
    share = mouth_share(reference)
    assert share.min() == 0 and share.max() == 1
    assert (share[list(topo.LIPS)] == 1).all() and (share[UPPER] == 0).all()
    skin = torch.tensor([50, 280, 205, 425])  # cheeks
    assert ((share[skin] > 0) & (share[skin] < 1)).all()


def test_the_face_at_rest_is_frontal_closed_and_seen(make_plan):
    angles = [[0.0, 0, 0], [0.0, 0, 0], [0.0, 25.0, 0], [0.0, 1.0, 0]]
    track = plan_landmarks(make_plan(opening=[0.8, 0.0, 0.0, 0.05], angles_deg=angles))
    assert torch.equal(resting_frame(track).points, track.points[1:2])
    unseen = replace(track, valid=torch.tensor([True, False, True, True]))
    assert torch.equal(resting_frame(unseen).points, track.points[3:])


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60)])
@pytest.mark.parametrize("count", [7, 50, 250])
def test_a_fitted_speech_covers_exactly_the_videos_frames(fps, count):
    speech = Speech(torch.linspace(-1, 1, 16_000 * 2))
    fitted = fit_speech(speech, count, fps)
    assert fitted.speech.num_frames(fps) == count
    shared = min(fitted.speech.waveform.numel(), speech.waveform.numel())
    assert torch.equal(fitted.speech.waveform[:shared], speech.waveform[:shared])
    assert not fitted.speech.waveform[shared:].any()
    assert abs(fitted.cut_s - max(0.0, 2 - float(count / fps))) < 0.07
    assert abs(fitted.rest_s - max(0.0, float(count / fps) - 2)) < 0.07


def test_less_than_a_frame_is_no_difference():
    fitted = fit_speech(Speech(torch.zeros(16_000 + 600)), 25, FPS)
    assert (fitted.cut_s, fitted.rest_s) == (0.0, 0.0)


@pytest.mark.parametrize("count", [12, 60])
def test_a_video_shorter_or_longer_than_the_speech_sets_the_length(make_plan, count):
    film = spoken_like(make_plan, [0.0] * count)
    speech = Speech(made_voice(1.0))
    made = dub_track(film, speech, MotionOptions(fps=Fraction(8), head_motion=2.0, blink_rate=40.0), open_engine())
    assert (len(made), made.fps, made.width, made.height) == (count, FPS, 512, 512)
    assert torch.equal(made.points[:, UPPER], film.points[:, UPPER])
    gap = (made.points_px[:, topo.INNER_LIP_BOTTOM] - made.points_px[:, topo.INNER_LIP_TOP]).norm(dim=1)
    assert count < 25 or gap[35:].max() < 0.5  # px: the speech ended with frame 25


@pytest.mark.parametrize(
    ("film_end", "expected"),
    [
        ("cut", [0, 1, 2, 3]),
        ("hold", [0, 1, 2, 3, 3, 3, 3, 3, 3, 3]),
        ("loop", [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]),
        ("ping-pong", [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]),
    ],
)
def test_a_film_goes_on_as_it_is_told_to(film_end, expected):
    assert film_order(4, 10, film_end).tolist() == expected
    assert film_order(4, 3, film_end).tolist() == [0, 1, 2, 3]  # a shorter speech shortens nothing
    assert film_order(1, 3, film_end).tolist() == ([0] if film_end == "cut" else [0, 0, 0])


def test_an_unknown_end_of_a_film_is_refused():
    with pytest.raises(InputError, match="film_end must be one of cut, hold, loop, ping-pong, not 'stop'"):
        DubOptions(film_end="stop")


def said_for(seconds: float) -> Speech:
    """Vowels, four a second."""
    return Speech(made_voice(seconds))


def test_each_scene_has_a_face_at_rest_of_its_own(make_plan):
    """The second scene is the same face, wider, smaller and elsewhere; what is said there is said with that face."""
    still = spoken_like(make_plan, [0.0] * 40)
    second = 0.7 * still.points_px[20:] * torch.tensor([1.15, 1, 1]) + torch.tensor([60.0, 90, 0])
    film = LandmarkTrack.from_px(torch.cat([still.points_px[:20], second]), 512, 512, FPS)
    speech = said_for(1.6)
    scenes = torch.tensor([0] * 20 + [1] * 20)
    made = dub_track(film, speech, MotionOptions(), open_engine(), scenes=scenes).points_px
    alone = dub_track(replace(film, points=film.points[:1].expand(40, -1, -1).contiguous()), speech, MotionOptions(),
                      open_engine()).points_px  # fmt: skip
    assert torch.equal(made[:20], alone[:20])
    unit = (still.points_px[0, 263] - still.points_px[0, 33]).norm() / (second[0, 263] - second[0, 33]).norm()

    def gap(points):
        return (points[:, topo.INNER_LIP_BOTTOM] - points[:, topo.INNER_LIP_TOP])[:, 1]

    torch.testing.assert_close(gap(made[20:]) * unit, gap(alone[20:]), rtol=0.1, atol=0.6)  # px
    assert gap(alone[20:]).max() > 4


def test_a_smile_that_lasts_is_kept_and_a_short_one_is_not(make_plan):
    """What is dubbed is silence: of the filmed mouths, a wide one of two seconds and one of a tenth of a second."""
    still = spoken_like(make_plan, [0.0] * 110).points_px
    lips, wide = list(topo.LIPS), still.clone()
    middle = still[0, [61, 291], 0].mean()
    for frames in (slice(20, 70), slice(94, 96)):
        wide[frames, lips, 0] = middle + 1.2 * (still[frames, lips, 0] - middle)
    film = LandmarkTrack.from_px(wide, 512, 512, FPS)
    made = dub_track(film, Speech(torch.zeros(70_400)), MotionOptions(), open_engine()).points_px
    widths = (made[:, 291] - made[:, 61]).norm(dim=1) / (still[:, 291] - still[:, 61]).norm(dim=1)
    assert float(widths[45]) == pytest.approx(1.2, abs=0.01)
    assert float(widths[95]) < 1.05
    assert float((widths[1:] - widths[:-1]).abs().max()) < 0.02  # and it comes and goes smoothly
    assert torch.equal(made[:, UPPER], film.points_px[:, UPPER])


def test_a_scene_in_which_nobody_is_seen_stays_as_it_is(make_plan):
    film = replace(spoken_like(make_plan, [0.0] * 6), valid=torch.tensor([False, False, True, True, True, True]))
    speech = said_for(0.5)
    made = dub_track(film, speech, MotionOptions(), open_engine(), scenes=torch.tensor([0, 0, 1, 1, 1, 1]))
    assert torch.equal(made.points[:2], film.points[:2])
    assert not torch.equal(made.points[2:], film.points[2:])  # and at a cut nothing fades


def test_the_mouth_goes_over_to_that_of_a_frame_that_stays(make_plan):
    valid = torch.ones(30, dtype=torch.bool)
    valid[12:15] = False
    speech = said_for(1.25)
    whole = spoken_like(make_plan, [0.0] * 30)
    moved_by = [
        (dub_track(film, speech, MotionOptions(), open_engine()).points - film.points)[:, list(topo.LIPS)]
        .norm(dim=2)
        .mean(1)
        for film in (whole, replace(whole, valid=valid))
    ]
    share = (moved_by[1] / moved_by[0]).nan_to_num()
    torch.testing.assert_close(
        share[8:19], torch.tensor([1, 0.75, 0.5, 0.25, 0, 0, 0, 0.25, 0.5, 0.75, 1]), rtol=0, atol=1e-3
    )
