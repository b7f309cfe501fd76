import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.motion.resample import at_fps, join_tracks
from portraittalk_core.types import LandmarkTrack


def track_of(count, fps, valid=None):
    """Every point says at which second its frame's middle lies."""
    seconds = (torch.arange(count) + 0.5) / float(fps)
    points = seconds[:, None, None].expand(-1, 478, 3).contiguous()
    return LandmarkTrack(points, torch.ones(count, dtype=torch.bool) if valid is None else valid, fps, 640, 480)


@pytest.mark.parametrize(("before", "after"), [(25, 30), (30, 25), (25, 50), (60, 12), ("30000/1001", 25)])
def test_every_frame_shows_its_own_time(before, after):
    track = track_of(90, Fraction(before))
    made = at_fps(track, after)
    assert made.fps == after and len(made) == math.ceil(90 * Fraction(after) / Fraction(before))
    assert abs(made.seconds - track.seconds) < 1 / after
    times = (np.arange(len(made)) + 0.5) / after
    first, last = float(track.points[0, 0, 0]), float(track.points[-1, 0, 0])
    assert np.allclose(made.points[:, 7, 1].numpy(), times.clip(first, last), atol=1e-5)


def test_the_own_rate_changes_nothing_and_one_frame_is_held():
    track = track_of(5, Fraction(25))
    assert at_fps(track, 25) is track
    assert torch.equal(at_fps(track_of(1, Fraction(10)), 30).points, track_of(1, Fraction(10)).points.expand(3, -1, -1))


def test_a_frame_between_is_valid_only_if_both_are():
    made = at_fps(track_of(3, Fraction(10), torch.tensor([True, False, True])), 30)
    # middles at 1/3 frames: frames 2..6 lie in the open span around frame 1
    assert made.valid.tolist() == [True, True, False, False, False, False, False, True, True]


def test_a_rate_that_is_none_is_refused():
    with pytest.raises(InputError, match="fps"):
        at_fps(track_of(2, Fraction(25)), 0)


def test_joined_spans_are_the_whole_track_again():
    track = track_of(10, Fraction(25))
    spans = [track.slice(start, start + 4) for start in range(0, len(track), 4)]
    joined = join_tracks(iter(spans))
    assert torch.equal(joined.points, track.points) and torch.equal(joined.valid, track.valid)
    assert (joined.fps, joined.width, joined.height) == (track.fps, track.width, track.height)


def test_spans_of_other_pictures_are_refused():
    track = track_of(3, Fraction(25))
    with pytest.raises(InputError, match="do not make one track"):
        join_tracks([track, replace(track, width=track.width + 8)])
    with pytest.raises(InputError, match="none at all"):
        join_tracks([])
