import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError, ShapeError
from portraittalk_core.metrics.lip_sync import affine_error, lip_correlation, shift_error

NOISE = np.random.default_rng(3)
TRUE = NOISE.normal(size=60).cumsum()
PREDICTED = 0.3 * TRUE + NOISE.normal(size=60)
SEEN = NOISE.random(60) > 0.2
ALL = torch.ones(60, dtype=torch.bool)


def tensor(values) -> torch.Tensor:
    return torch.tensor(np.asarray(values))


def test_lip_correlation_matches_numpy():
    got = lip_correlation(tensor(PREDICTED), tensor(TRUE), tensor(SEEN))
    assert got.r_zero == pytest.approx(np.corrcoef(PREDICTED[SEEN], TRUE[SEEN])[0, 1], abs=1e-12)
    by_lag = {0: got.r_zero}
    for lag in (1, 2):
        by_lag[lag] = np.corrcoef(PREDICTED[:-lag][SEEN[lag:]], TRUE[lag:][SEEN[lag:]])[0, 1]
        by_lag[-lag] = np.corrcoef(PREDICTED[lag:][SEEN[:-lag]], TRUE[:-lag][SEEN[:-lag]])[0, 1]
    assert got.r_best == pytest.approx(max(by_lag.values()), abs=1e-12)
    assert got.lag == max(by_lag, key=by_lag.get)


@pytest.mark.parametrize(("late", "lag"), [(0, 0), (1, -1), (-2, 2), (2, -2)])
def test_lip_correlation_finds_the_lag(late, lag):
    got = lip_correlation(tensor(np.roll(TRUE, late) * 5 - 2), tensor(TRUE), ALL)
    assert (got.lag, got.r_best) == (lag, pytest.approx(1.0))
    assert (got.r_zero == pytest.approx(1.0)) is (late == 0)


def test_lip_correlation_looks_no_further_than_asked():
    late = tensor(np.roll(TRUE, 4))
    assert lip_correlation(late, tensor(TRUE), ALL, max_lag=4).r_best == pytest.approx(1.0)
    assert lip_correlation(late, tensor(TRUE), ALL).r_best < 0.95
    assert lip_correlation(late, tensor(TRUE), ALL, max_lag=0).lag == 0


@pytest.mark.parametrize("level", [0.0, 0.1, -1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lip_correlation_of_a_constant_is_zero(level, dtype):
    still = torch.full((60,), level, dtype=dtype)
    for pair in ((still, tensor(TRUE)), (tensor(TRUE), still)):
        got = lip_correlation(*pair, ALL)
        assert (got.r_zero, got.r_best, got.lag) == (0.0, 0.0, 0)


def test_lip_correlation_does_not_mind_what_was_not_seen():
    unseen = np.where(SEEN, TRUE, np.nan)
    assert lip_correlation(tensor(PREDICTED), tensor(unseen), tensor(SEEN)) == lip_correlation(
        tensor(PREDICTED), tensor(TRUE), tensor(SEEN)
    )


def test_affine_error_matches_numpy():
    columns = np.stack([PREDICTED, np.ones(60)], 1)[SEEN]
    fit = np.linalg.lstsq(columns, TRUE[SEEN], rcond=None)[0]
    expected = np.abs(columns @ fit - TRUE[SEEN]).mean()
    assert affine_error(tensor(PREDICTED), tensor(TRUE), tensor(SEEN)) == pytest.approx(expected, rel=1e-10)


def test_affine_error_is_zero_for_a_scaled_copy():
    assert affine_error(tensor(3 - 7 * TRUE), tensor(TRUE), ALL) == pytest.approx(0, abs=1e-12)


def test_affine_error_of_a_constant_is_the_mean_deviation():
    expected = np.abs(TRUE - TRUE.mean()).mean()
    assert affine_error(torch.full((60,), 0.1), tensor(TRUE), ALL) == pytest.approx(expected, rel=1e-12)


def test_shift_error_matches_numpy():
    true, predicted = NOISE.normal(size=(60, 4, 2)), NOISE.normal(size=(60, 4, 2)) + 1
    predicted += true
    columns = np.zeros((60, 8, 9))  # one scale for all, and eight offsets
    columns[..., 0], columns[..., 1:] = predicted.reshape(60, 8), np.eye(8)
    columns, target = columns[SEEN].reshape(-1, 9), true[SEEN].reshape(-1)
    rest = (target - columns @ np.linalg.lstsq(columns, target, rcond=None)[0]).reshape(-1, 4, 2)
    expected = np.hypot(rest[..., 0], rest[..., 1]).mean()
    assert shift_error(tensor(predicted), tensor(true), tensor(SEEN)) == pytest.approx(expected, rel=1e-10)


def test_shift_error_of_a_still_mouth():
    true = torch.zeros(20, 1, 2)
    true[::2, 0] = torch.tensor([6.0, 8.0])  # ten apart: five from the mean
    assert shift_error(torch.zeros(20, 1, 2), true, ALL[:20]) == pytest.approx(5.0)


@pytest.mark.parametrize("measure", [lip_correlation, affine_error])
def test_lip_sync_rejects_what_cannot_be_measured(measure):
    curve = tensor(TRUE)
    with pytest.raises(InputError, match="9 of 60"):
        measure(curve, curve, torch.arange(60) < 9)
    with pytest.raises(ShapeError, match=r"\(50,\)"):
        measure(curve[:50], curve, ALL)
    with pytest.raises(ShapeError, match="bool"):
        measure(curve, curve, ALL.float())
    with pytest.raises(InputError, match="NaN"):
        measure(curve / 0, curve, ALL)
    with pytest.raises(InputError, match="NaN"):
        measure(curve, curve / 0, ALL)
