import math

import pytest
import torch

from portraittalk_core.errors import ShapeError
from portraittalk_core.losses.wing import wing_loss


def test_wing_loss_is_logarithmic_below_its_width_and_linear_above():
    """Closed form of the paper's equation 5 with w = 10, ε = 2."""
    for away, expected in ((1.0, 10 * math.log(1.5)), (9.0, 10 * math.log(5.5)), (30.0, 30 - 10 + 10 * math.log(6))):
        found = torch.zeros(3, 2)
        assert wing_loss(found, found + away).item() == pytest.approx(expected, rel=1e-5)
        assert wing_loss(found, found - away).item() == pytest.approx(expected, rel=1e-5)


def test_wing_loss_has_no_jump_at_its_width():
    found = torch.zeros(1, 2)
    below, above = (wing_loss(found, found + away).item() for away in (9.9999, 10.0001))
    assert above - below == pytest.approx(0, abs=1e-3)


def test_other_shapes_are_refused():
    with pytest.raises(ShapeError):
        wing_loss(torch.zeros(3, 2), torch.zeros(2, 2))
