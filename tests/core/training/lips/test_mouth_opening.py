"""Mouths opened more or less than they are."""

import pytest
import torch

from portraittalk_core.face.lip_points import INNER, JAW, LIP_POINTS, MOUTH, OUTER, POSE
from portraittalk_core.training.lips.mouth_opening import JAW_SHARE, LOWER, UPPER, scale_mouth_opening


def face(opening: float = 0.1) -> torch.Tensor:
    """(131, 2) lips and jaw as ellipses."""
    points = torch.full((len(LIP_POINTS), 2), 0.3)
    ring = torch.arange(20) / 20 * 2 * torch.pi + torch.pi
    for part, width, height in ((OUTER, 0.2, 0.08 + opening / 2), (INNER, 0.15, opening / 2)):
        points[part] = torch.stack([0.5 + width * ring.cos(), 0.6 + height * ring.sin()], -1)
    along = torch.linspace(torch.pi, 0, 17)
    points[JAW] = torch.stack([0.5 + 0.35 * along.cos(), 0.5 + 0.4 * along.sin()], -1)
    return points


def gap(points: torch.Tensor) -> torch.Tensor:
    return (points[..., LOWER, :] - points[..., UPPER, :]).norm(dim=-1)


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.6])
def test_gap_of_the_lips_grows_by_the_factor(factor):
    own = face()
    moved = scale_mouth_opening(own, factor)
    torch.testing.assert_close(gap(moved), factor * gap(own), atol=1e-6, rtol=0)
    assert torch.equal(moved[POSE], own[POSE]) and torch.equal(moved[UPPER], own[UPPER])
    lip = OUTER.start + 15  # below, which keeps its thickness
    torch.testing.assert_close(moved[lip] - moved[LOWER], own[lip] - own[LOWER])
    chin = JAW.start + 8
    torch.testing.assert_close((moved - own)[chin], JAW_SHARE * (moved - own)[LOWER])
    assert float((moved - own)[[JAW.start, JAW.stop - 1]].abs().max()) < 1e-6  # at the ears
    assert float((moved[MOUTH, 0] - own[MOUTH, 0]).abs().max()) < 1e-6


def test_a_turned_face_is_opened_along_its_own_chin():
    own, turn = face(), torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    torch.testing.assert_close(scale_mouth_opening(own @ turn.T, 1.5), scale_mouth_opening(own, 1.5) @ turn.T)


def test_closed_mouths_stay_closed_and_windows_move_together():
    assert (
        torch.isfinite(scale_mouth_opening(face(0.0), 1.6)).all()
        and float(gap(scale_mouth_opening(face(0.0), 1.6))) < 1e-6
    )
    window = torch.stack([face(0.02), face(0.1), face(0.2)])
    assert torch.equal(scale_mouth_opening(window, 0.5)[1], scale_mouth_opening(face(0.1), 0.5))
