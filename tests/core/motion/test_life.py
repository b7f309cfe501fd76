"""Breath, idle motion and listening."""

from fractions import Fraction

import pytest
import torch
from scipy.signal import find_peaks

from portraittalk_core.motion.breath import Breath
from portraittalk_core.motion.idle import NOD_HZ, IdleMotion
from portraittalk_core.motion.life import Life, life_of
from portraittalk_core.motion.listening import LOOK_DEG, listeners
from portraittalk_core.motion.options import STILL, Listening, MotionOptions
from portraittalk_core.motion.smoothing import frame_times_s
from portraittalk_core.motion.style_factors import style_factors
from portraittalk_core.types import MOUTH_PARAMETERS, SPEECH_RATE_HZ, HeadPose, LandmarkTrack, MouthCurves, Speech

RATE = Fraction(25)


def resting(count: int) -> HeadPose:
    return HeadPose(torch.zeros(count, 3), torch.zeros(count, 3), torch.ones(count))


def spoken(count: int, *phrases: tuple[float, float]) -> torch.Tensor:
    times = frame_times_s(count, RATE)
    return torch.stack([(times >= start) & (times < end) for start, end in phrases]).any(0)


def mouth(speaking: torch.Tensor) -> MouthCurves:
    curves = MouthCurves.closed(len(speaking))
    curves.opening.copy_(0.4 * speaking)
    return curves


def test_a_quiet_chest_breathes_twelve_to_sixteen_times_a_minute():
    times = frame_times_s(300 * 25, RATE)
    full = Breath(2).at(times, torch.zeros(len(times), dtype=torch.bool)).numpy()
    breaths, _ = find_peaks(full, prominence=0.3)
    assert 12 <= len(breaths) / 5 <= 16
    assert 0 <= full.min() < 0.2 and 0.8 < full.max() < 1.6


def test_speakers_draw_breath_in_the_pause_before_a_phrase():
    talks = spoken(500, (0.0, 4.0), (5.0, 6.0), (6.2, 12.0), (13.0, 20.0))
    full = Breath(0).at(frame_times_s(500, RATE), talks)
    rises = full.diff() > 0.01
    rises[:20] = False  # settles
    inhaled = torch.nonzero(rises).flatten() / 25
    pauses = ((inhaled > 4.0) & (inhaled < 5.3)) | ((inhaled > 12.0) & (inhaled < 13.3))
    assert bool(pauses.all()) and len(inhaled) > 10
    assert float(full[round(5.3 * 25)]) > float(full[100]) + 0.4
    assert bool((full[round(5.5 * 25) : round(11.9 * 25)].diff() < 0.002).all())  # at 6 s it is too early


def test_nods_are_of_listeners_and_their_frequency():
    times = frame_times_s(240 * 25, RATE)
    quiet, talks = torch.zeros(len(times), dtype=torch.bool), torch.ones(len(times), dtype=torch.bool)
    assert float(IdleMotion(1).at(times[250:], talks[250:]).angles_deg.abs().max()) < 0.2
    idle = IdleMotion(1).at(times, quiet).angles_deg[:, 0]
    spectrum = torch.fft.rfft(idle * torch.hann_window(len(idle), periodic=False)).abs()
    hertz = torch.fft.rfftfreq(len(idle), 1 / 25)
    nods = (hertz > 1) & (hertz < 6)
    assert float(hertz[nods][spectrum[nods].argmax()]) == pytest.approx(NOD_HZ, abs=0.5)
    assert 0.5 < float(idle.abs().max()) < 6


def test_pieces_of_a_stream_live_as_the_whole_clip_does(astronaut):
    options = MotionOptions(seed=5, listening=Listening(torch.ones(3), torch.tensor([[9.0, 2.0]] * 3)))
    factors = style_factors(options)
    curves, head = mouth(spoken(300, (1.0, 4.0), (6.0, 7.0))), resting(300)
    whole = life_of(options, astronaut.landmarks, factors, curves, head)
    life, times = Life(options, astronaut.landmarks, factors), frame_times_s(300, RATE)
    pieces = []
    for start, stop in ((0, 7), (7, 8), (8, 200), (200, 300)):
        piece = MouthCurves(*(getattr(curves, name)[start:stop] for name in MOUTH_PARAMETERS))
        pieces.append(life.next(times[start:stop], piece, resting(stop - start)))
    for name in ("gaze", "shoulders"):
        assert torch.equal(torch.cat([getattr(piece, name) for piece in pieces]), getattr(whole, name))
    assert torch.equal(torch.cat([piece.head.angles_deg for piece in pieces]), whole.head.angles_deg)


def test_amounts_of_0_add_nothing(astronaut):
    options = MotionOptions(**STILL)
    life = life_of(options, astronaut.landmarks, style_factors(options), mouth(spoken(100, (0, 1))), resting(100))
    assert life.gaze is None and life.shoulders is None
    assert not life.head.angles_deg.any() and not life.head.translation.any()
    locked = MotionOptions(head_motion=0)
    life = life_of(locked, astronaut.landmarks, style_factors(locked), mouth(spoken(100, (0, 1))), resting(100))
    assert not life.head.angles_deg.any()  # a locked head nods in no pause, and rises with no breath
    assert bool(life.shoulders.any()) and bool(life.gaze.any())


def buzz(seconds: float, *phrases: tuple[float, float]) -> Speech:
    """A voice's own level of noise, in phrases: with the gate at −80 every sound counts as a voice."""
    times = torch.arange(round(seconds * SPEECH_RATE_HZ)) / SPEECH_RATE_HZ
    on = torch.stack([(times >= start) & (times < end) for start, end in phrases]).any(0)
    return Speech(0.2 * torch.randn(len(times), generator=torch.Generator().manual_seed(0)) * on)


def test_listeners_look_to_who_speaks(astronaut):
    left = astronaut.landmarks
    shifted = left.points + torch.tensor([0.4, 0.0, 0.0])
    right = LandmarkTrack(shifted, left.valid, left.fps, left.width, left.height)
    sounds = [buzz(8, (0.5, 3.0)), buzz(8, (4.0, 7.0))]
    first, second = listeners(sounds, [left, right], MotionOptions(silence_gate_db=-80), 250)
    assert listeners(sounds[:1], [left], MotionOptions(), 250) == [None]
    at = torch.arange(250) / 25
    while_left = (at > 1.2) & (at < 2.8)
    while_right = (at > 4.7) & (at < 6.8)
    assert bool((second.towards_deg[while_left] == torch.tensor([-LOOK_DEG[0], 0.0])).all())
    assert bool((first.towards_deg[while_right] == torch.tensor([LOOK_DEG[0], 0.0])).all())
    assert not first.towards_deg[while_left].any() and not second.towards_deg[while_right].any()
    assert not first.towards_deg[at > 9].any()  # nobody has spoken for a while
    assert bool((first.speaking[while_right] == 1).all()) and not first.speaking[while_left].any()
