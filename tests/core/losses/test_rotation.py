import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from portraittalk_core.errors import ShapeError
from portraittalk_core.losses.rotation import rotation_loss


def test_rotation_loss_is_about_twice_a_small_angle_and_zero_for_none():
    turned = torch.from_numpy(Rotation.from_euler("y", [[0], [4]], degrees=True).as_matrix()).float()
    still = torch.eye(3).repeat(2, 1, 1)
    assert rotation_loss(still, still) == 0
    angle = math.radians(4)
    expected = (2 * math.sin(angle) + 2 * (1 - math.cos(angle))) / 2  # half of the faces are turned
    assert rotation_loss(turned, still).item() == pytest.approx(expected, abs=1e-6)


def test_rotation_loss_rejects_angles():
    with pytest.raises(ShapeError, match="target rotations"):
        rotation_loss(torch.eye(3)[None], torch.zeros(1, 3))
