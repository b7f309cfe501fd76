"""The six rows of PortraitTalk's table 2 run through on the smallest plan, and every row's key changes the frames."""

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.ablation import PAPER, ROWS, Plan, ablation  # noqa: E402

pytest.importorskip("diffusers")
pytest.importorskip("accelerate")


@pytest.mark.slow
def test_six_rows_run_and_each_key_acts():
    """What so short a training cannot decide, the order of the rows, is not asserted."""
    plan = Plan(2, 1, 1, 1, rows=8, sample_steps=1, clips=1, held_out=1, frames=10, reader_clips=8)
    *rows, truth = ablation(plan)
    assert [row.name for row in rows] == list(ROWS) == list(PAPER) and len(rows) == 6
    assert all(math.isfinite(row.psnr) and 0 <= row.adfd <= 1 for row in rows)
    assert math.isinf(truth.psnr) and truth.flicker == pytest.approx(1, abs=1e-5)
    assert len({row.psnr for row in rows}) == 6
