import pytest
import torch

from portraittalk_core.errors import ShapeError
from portraittalk_core.losses.keypoint_prior import keypoint_prior_loss


def test_prior_is_zero_for_distant_keypoints_at_the_right_depth():
    points = torch.tensor([[[-0.5, 0, 0.33], [0.5, 0, 0.33], [0, 0.5, 0.33]]])
    assert keypoint_prior_loss(points).item() == pytest.approx(0, abs=1e-6)


def test_prior_matches_the_closed_form():
    """Two keypoints 0.2 apart: both orders cost 0.1 − 0.04; the mean depth is 0.13 off."""
    points = torch.tensor([[[0.0, 0, 0.2], [0.2, 0, 0.2]]])
    assert keypoint_prior_loss(points).item() == pytest.approx(2 * 0.06 + 0.13, abs=1e-6)


def test_prior_pushes_keypoints_apart():
    points = torch.tensor([[[0.0, 0, 0.33], [0.1, 0, 0.33]]], requires_grad=True)
    keypoint_prior_loss(points).backward()
    assert points.grad[0, 0, 0] > 0 > points.grad[0, 1, 0]


def test_prior_rejects_keypoints_without_depth():
    with pytest.raises(ShapeError, match="keypoints"):
        keypoint_prior_loss(torch.zeros(1, 15, 2))


def test_guided_keypoints_may_lie_near_each_other():
    points = torch.tensor([[[0.0, 0, 0.33], [0.1, 0, 0.33], [0, 0.1, 0.33]]])
    pairs = {(0, 1): 0.01, (0, 2): 0.01, (1, 2): 0.02}  # squared distances
    for guided in (0, 2, 3):
        expected = sum(2 * (0.1 - d) for (_, j), d in pairs.items() if j >= guided)
        assert keypoint_prior_loss(points, num_guided=guided).item() == pytest.approx(expected, abs=1e-6)
