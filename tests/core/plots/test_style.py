"""The picture of a style shows which way it differs, stays on the page, and tells what it needs."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from portraittalk_core.errors import MissingDependency
from portraittalk_core.plots.style import plot_style
from portraittalk_core.plots.track import COLOURS
from portraittalk_core.style.options import StyleUse
from portraittalk_core.style.prior import BlendedStyle, StylePrior
from portraittalk_core.style.reference import named_style
from portraittalk_core.style.statistics import to_numbers
from portraittalk_core.types import STYLE_STATISTICS, StyleStatistics

FIRST, SECOND = 0, 1  # of a blend
BAR_OPACITY = 0.85


def of_colour(picture: torch.Tensor, place: int) -> torch.Tensor:
    """(H, W) where bars of a colour are."""
    full = torch.tensor([int(COLOURS[place][i : i + 2], 16) for i in (1, 3, 5)])
    drawn = BAR_OPACITY * full + (1 - BAR_OPACITY) * 255
    return (picture.float() - drawn).abs().amax(-1) < 6


def middle(picture: torch.Tensor) -> int:
    """Column of the line where the engine itself lies: the darkest one within the axes."""
    return 200 + int(picture[100:600, 200:1000].float().mean((0, 2)).argmin())


def prior(**changes: float) -> StylePrior:
    """The engine's own style, except for some numbers; draws do not vary."""
    style = named_style("calm", StyleUse(noise=0.0))
    mean = to_numbers(StyleStatistics())
    for name, value in changes.items():
        mean[STYLE_STATISTICS.index(name)] += value * style.spread[STYLE_STATISTICS.index(name)]
    return replace(style, mean=mean)


@pytest.mark.parametrize("name", STYLE_STATISTICS)
@pytest.mark.parametrize("side", [-1, 1])
def test_a_measure_is_drawn_to_its_side_in_its_row(name, side):
    picture = plot_style(prior(**{name: 2.0 * side}))
    rows, columns = of_colour(picture, FIRST).nonzero().T
    axis = middle(picture)
    beyond = (columns - axis) * side > 2  # the value in figures is far to the right, in the full colour
    assert beyond.float().mean() > 0.98
    share = (rows.float().mean() - picture.shape[0] / 2) / picture.shape[0]
    assert abs(share - (STYLE_STATISTICS.index(name) - 5) / 11 * 0.9) < 0.09  # eleven rows from the top down


def test_a_larger_difference_is_a_longer_bar_in_proportion():
    one, two = (int(of_colour(plot_style(prior(opening=far)), FIRST).sum()) for far in (1.0, 2.0))
    assert two / one == pytest.approx(2.0, rel=0.05)


def test_far_away_is_cut_off_at_the_edge():
    far, further = (plot_style(prior(opening=by)) for by in (4.0, 4000.0))
    assert int(of_colour(far, FIRST).sum()) == pytest.approx(int(of_colour(further, FIRST).sum()), rel=0.01)
    assert far.shape == further.shape


def test_a_blend_shows_both_styles():
    alone = plot_style(prior(opening=1.0))
    both = plot_style(BlendedStyle(prior(opening=1.0), prior(head_hz=1.0), ((0, 0), (4, 1))))
    assert both.dtype == torch.uint8 and both.shape == alone.shape
    assert not of_colour(alone, SECOND).any()
    for place in (FIRST, SECOND):
        assert int(of_colour(both, place).sum()) > 1000


def test_learnt_numbers_are_drawn_where_there_is_no_motion():
    draw = torch.Generator().manual_seed(0)
    mean, flat = torch.randn(64, generator=draw), torch.zeros(64)
    rough, smooth = (
        plot_style(StylePrior(values, torch.full((64,), 0.1), torch.ones(64), "extractor:1", "a voice"))
        for values in (mean, flat)
    )
    assert rough.shape == smooth.shape and not torch.equal(rough, smooth)
    full = torch.tensor([int(COLOURS[FIRST][i : i + 2], 16) for i in (1, 3, 5)])
    heights = [int(((p.int() - full).abs().amax(-1) < 30).any(1).sum()) for p in (rough, smooth)]
    assert heights[0] > 5 * heights[1]


def test_matplotlib_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency, match="pip install matplotlib"):
        plot_style(named_style("calm"))
