import math

import pytest

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.frame_mean import FrameMean


def over(better, *values):
    mean = FrameMean(better)
    for value in values:
        mean.update(value)
    return mean


def test_mean_leaves_out_what_is_infinite_or_missing():
    mean = over("higher", 30.0, math.inf, None, 20.0, math.nan, 40.0)
    assert mean.result() == 30
    assert (mean.count, mean.num_infinite, mean.num_missing) == (3, 1, 2)
    assert mean.worst == (3, 20.0)
    assert over("lower", 1.0, 5.0, 3.0).worst == (1, 5.0)


def test_mean_of_identical_frames_is_infinite_and_of_none_an_error():
    assert over("higher", math.inf, None).result() == math.inf
    with pytest.raises(InputError, match="none of 2 frames"):
        over("lower", None, None).result()
    with pytest.raises(InputError, match="better must be one of"):
        FrameMean("target")
