import numpy as np
import pytest
import torch

from portraittalk_core.training.mouth.closures import Closures, add_closures, add_gap, closed_frames
from portraittalk_core.training.mouth.trajectories import Sounds
from portraittalk_core.types import MouthCurves

# sil 0-.5, m .5-.6, a .6-.9, pause .9-1.05, f 1.05-1.15, a 1.15-1.4, u 1.4-1.6
SOUNDS = Sounds(
    ("", "m", "a", "", "f", "a", "u"),
    np.array([0, 0.5, 0.6, 0.9, 1.05, 1.15, 1.4]),
    np.array([0.5, 0.6, 0.9, 1.05, 1.15, 1.4, 1.6]),
)
TIMES = (torch.arange(80) + 0.5) / 50


def mouth(closed: list[tuple[float, float]], tucked: list[tuple[float, float]] = ()) -> MouthCurves:
    """Lips wide open but closed, or tucked, in these spans of seconds."""

    def within(spans, times: torch.Tensor = TIMES) -> torch.Tensor:
        inside = [(times >= start) & (times <= end) for start, end in spans]
        return torch.stack(inside).any(0) if spans else torch.zeros(len(times), dtype=torch.bool)

    still = torch.zeros(len(TIMES))
    return MouthCurves((~within(closed)).float(), still, still, still, still, within(tucked).float(), still)


def judged(curves: MouthCurves, within_s: float = 0.04) -> Closures:
    total = Closures()
    add_closures(total, curves, TIMES, SOUNDS, within_s)
    return total


def test_lips_that_do_what_sounds_ask_for():
    total = judged(mouth([(0.52, 0.58), (0.93, 1.02)], [(1.06, 1.14)]))
    assert (total.bilabials, total.labiodentals, total.pauses) == ([True], [True], [True])
    assert total.vowels_closed == [False, False]  # u may close
    assert total.vowels_tucked == [False, False]


def test_lips_that_do_the_opposite():
    total = judged(mouth([(0.7, 0.8)], [(1.2, 1.35)]))
    assert (total.bilabials, total.labiodentals, total.pauses) == ([False], [False], [False])
    assert total.vowels_closed == [True, False]
    assert total.vowels_tucked == [False, True]


@pytest.mark.parametrize(
    ("late_s", "counts"), [(0.0, True), (0.03, True), (0.06, False), (-0.03, True), (-0.07, False)]
)
def test_a_closure_counts_within_its_time(late_s, counts):
    middle = 0.55 + late_s
    assert judged(mouth([(middle - 0.011, middle + 0.011), (0.0, 0.2)])).bilabials == [counts]


def test_a_gap_of_any_unit_is_judged_alike():
    curves, totals = mouth([(0.52, 0.58)]), (Closures(), Closures())
    for total, scale in zip(totals, (1.0, 0.043), strict=True):
        add_gap(total, 0.02 + scale * curves.parting, TIMES, SOUNDS, 0.04)
    assert totals[0] == totals[1]
    assert closed_frames(curves.parting).sum() == 3
    assert np.isnan(Closures().share("bilabials"))
