import math

import pytest
import torch

from portraittalk_core.face import topology as topo
from portraittalk_core.motion.rig import face_axes
from portraittalk_core.motion.slow_mouth import HANDLES, SLOW_S, handle_weights, slow_part

FPS = 25.0


def test_slow_part_damps_a_wave_as_a_gaussian_does():
    t = torch.arange(500) / FPS
    known = torch.ones(500, dtype=torch.bool)
    for hz in (0.2, 0.5, 1.0):
        wave = (2 * math.pi * hz * t).sin()[:, None]
        middle = slow_part(wave, known, FPS)[125:375]
        expected = math.exp(-2 * (math.pi * SLOW_S * hz) ** 2)
        assert float(middle.abs().max()) == pytest.approx(expected, abs=0.02)


def test_slow_part_keeps_what_stays_and_bridges_frames_that_are_not_known():
    known = torch.ones(60, dtype=torch.bool)
    known[20:26] = False
    values = torch.full((60, 2), 0.3)
    values[~known] = torch.tensor([9.0, 1e6])
    torch.testing.assert_close(slow_part(values, known, FPS), torch.full((60, 2), 0.3))


def test_slow_part_is_zero_where_nothing_near_is_known():
    values, known = torch.ones(200, 1), torch.zeros(200, dtype=torch.bool)
    known[:5] = True
    slow = slow_part(values, known, FPS)
    assert float(slow[2]) == pytest.approx(1.0)
    assert not slow[100:].any()


def test_handle_weights_move_lips_as_a_parabola_and_leave_eyes_nose_and_outline(astronaut):
    axes, origin, unit = face_axes(astronaut.landmarks.points_px[0])
    rest = (astronaut.landmarks.points_px[0] - origin) @ axes.T / unit
    weights = handle_weights(rest)
    assert weights.shape == (len(HANDLES), 478)
    lips = list(topo.LIPS)
    torch.testing.assert_close(weights[:, lips].sum(0), torch.ones(len(lips)))  # all moved alike, so are the lips
    torch.testing.assert_close(weights[:, [61, 291]], torch.tensor([[1.0, 0], [0, 0], [0, 1.0]]), rtol=0, atol=1e-5)
    still = [*topo.RIGID, *topo.EYELIDS, *topo.FACE_OVAL]
    assert float(weights[:, still].abs().max()) < 2e-3
    shifts = weights.T @ torch.tensor([[0.0], [1.0], [0.0]])
    assert float(shifts[[0, 17]].min()) > 0.95  # the lips' middles
