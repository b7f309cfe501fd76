"""The painted inside of a mouth: what shows, where it stays, and how light it is."""

import numpy as np
import pytest
import torch

from portraittalk_core.renderers.warp.mouth_interior import make_palette, paint_mouth
from portraittalk_core.renderers.warp.teeth import UPPER, sample_teeth

LIPS, SKIN = torch.tensor([[0.65, 0.36, 0.34]]), torch.tensor([[0.85, 0.66, 0.56]])
ROWS = torch.linspace(-0.1, 0.6, 281)


def column(across: float, top: float, bottom: float, jaw: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Heights between the lips at one place across the mouth, and their colours."""
    down = ROWS[(top < ROWS) & (bottom > ROWS)]
    edges = (torch.full_like(down, top), torch.full_like(down, bottom))
    painted = paint_mouth(torch.full_like(down, across), down, *edges, jaw, make_palette(LIPS, SKIN), unit_px=200)
    return down, painted


def upper_light(across: torch.Tensor, size: float) -> torch.Tensor:
    aside = across.abs().numpy()
    return torch.from_numpy(sample_teeth(0, aside, np.full_like(aside, 0.08), size)[1])


def end_of_upper_teeth(down: torch.Tensor, painted: torch.Tensor) -> float:
    upper = down < 0.12
    return float(down[upper][painted[upper].mean(1).diff().argmin()])


@pytest.mark.parametrize("bottom", [0.2, 0.3, 0.45])
def test_upper_teeth_stay_as_the_jaw_drops(bottom):
    assert end_of_upper_teeth(*column(0.08, -0.06, bottom, jaw=0.7 * bottom)) == pytest.approx(
        end_of_upper_teeth(*column(0.08, -0.06, 0.2, jaw=0.14)), abs=0.005
    )


def test_lower_teeth_ride_on_the_lower_lip_and_hide_at_small_openings():
    def lower_teeth(bottom: float, jaw: float) -> float:
        down, painted = column(0.05, -0.06, bottom, jaw)
        below = (down > 0.12) & (down < bottom - 0.03)
        return float(painted[below].mean(1).max() / painted[down < 0.0].mean(1).max())

    assert lower_teeth(0.45, 0.3) > 0.7  # nearly as light as the upper ones
    _, small = column(0.05, -0.03, 0.06, 0.05)
    pixels = small[::2].mean(1)  # of a mouth 200 of them wide
    assert int((pixels.diff().sign().diff().abs() > 1).sum()) <= 3  # one row: no grid of dashes


@pytest.mark.parametrize("gap", [0.08, 0.2, 0.4])
def test_the_inside_is_darker_than_skin_and_never_black(gap):
    for across in (0.0, 0.2, 0.4):
        _, painted = column(across, -0.2 * gap, 0.8 * gap, 0.5 * gap)
        light = painted.mean(1) / SKIN.mean()
        assert float(light.min()) > 0.12
        assert float(light.max()) < 1.1
        # real mouths of that opening, GRID: between a third and four fifths of the skin's light
        assert 0.25 < float(light.mean()) < 0.85


def test_grey_portraits_have_grey_mouths():
    grey = make_palette(torch.full((1, 3), 0.4), torch.full((1, 3), 0.7))
    for colour in vars(grey).values():
        assert float(colour.max() - colour.min()) < 1e-6


def test_teeth_have_the_proportions_of_peoples():
    across = (torch.arange(-345, 345) + 0.5) / 768
    light = upper_light(across, 384)
    lines = [
        float(across[i])
        for i in range(1, len(across) - 1)
        if light[i] < light[i - 1] and light[i] <= light[i + 1] and light[i] > 0.1
    ]
    near = sorted(abs(x) for x in lines)
    assert near[0] == pytest.approx(0, abs=0.004)  # between the two central incisors
    central, lateral = near[1], near[3] - near[1]
    # mesiodistal widths of the upper incisors: 8.5 and 6.5 mm, of a mouth of 50 mm
    assert central == pytest.approx(8.5 / 50, rel=0.12)
    assert lateral / central == pytest.approx(6.5 / 8.5, rel=0.06)
    assert len(UPPER.widths) == len(UPPER.heights) == len(UPPER.tone)


def test_small_mouths_show_smoother_teeth():
    """The line between the two incisors is 0.011 of the mouth wide: pixels of a small mouth show a share of it."""
    line, tooth = (torch.full((1,), place) for place in (0.002, 0.06))
    dips = [1 - float(upper_light(line, size) / upper_light(tooth, size)) for size in (384, 40)]
    assert dips[1] < 0.75 * dips[0]
