import math
from fractions import Fraction

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.adfd import AdfdMeter, adfd
from portraittalk_core.metrics.meter import FrameMean, LandmarkMean, MetricContext, Once
from portraittalk_core.types import LandmarkTrack

CONTEXT = MetricContext(Fraction(25), (300, 400))


def track(seed: int, valid: list[bool]) -> LandmarkTrack:
    points = torch.rand(len(valid), 478, 3, generator=torch.Generator().manual_seed(seed))
    return LandmarkTrack(points, torch.tensor(valid), Fraction(25), 400, 300)


def parts(whole: LandmarkTrack, sizes: list[int]):
    start = 0
    for size in sizes:
        yield whole.slice(start, start + size)
        start += size


def fed(values):
    meter = FrameMean(lambda value: value)
    for value in values:
        meter.update(value)
    return meter


def test_frame_mean_leaves_unknown_and_infinite_frames_out():
    meter = fed([3.0, None, 5.0, math.inf, math.nan])
    assert meter.result() == 4.0
    assert meter.curves().isnan().tolist() == [False, True, False, False, True]
    assert fed([math.inf, math.inf]).result() == math.inf
    with pytest.raises(InputError, match="none of 2 frames"):
        fed([None, math.nan]).result()


def test_frame_mean_does_not_measure_identical_frames_where_their_value_is_known():
    meter = FrameMean(lambda a, b: float((a - b).abs().sum()), identical=-1.0)
    for b in (0.0, 2.0):
        meter.update(torch.zeros(3), torch.full((3,), b))
    assert meter.values == [-1.0, 6.0]


def test_landmark_mean_is_over_frames_with_a_face_in_both_in_pixels_of_the_target():
    made, true = track(1, [True, True, False, True]), track(2, [True, False, True, True])
    meter = LandmarkMean(lambda a, b: (a - b).norm(dim=2).mean(1))
    for pair in zip(parts(made, [1, 3]), parts(true, [1, 3]), strict=True):
        meter.update(*pair)
    expected = [
        float(((made.points[k, :, :2] - true.points[k, :, :2]).double() * torch.tensor([400, 300])).norm(dim=1).mean())
        for k in (0, 3)
    ]
    assert meter.result() == pytest.approx(sum(expected) / 2, rel=1e-9)
    assert meter.curves().isnan().tolist() == [False, True, True, False]
    lonely = LandmarkMean(lambda a, b: (a - b).norm(dim=2).mean(1))
    lonely.update(track(1, [True, False]), track(2, [True, True]))
    with pytest.raises(InputError, match="fewer than 2 frames"):
        lonely.result()


@pytest.mark.parametrize("sizes", [[9], [1] * 9, [3, 1, 5]])
def test_adfd_in_parts_is_that_of_the_frames_with_a_face_in_both(sizes):
    seen = [True, True, False, True, False, True, True, True, True]
    made, true = track(3, seen), track(4, [True] * 8 + [False])
    meter = AdfdMeter(CONTEXT)
    for pair in zip(parts(made, sizes), parts(true, sizes), strict=True):
        meter.update(*pair)
    both = made.valid & true.valid
    size = torch.tensor([400, 300])
    whole = adfd(*(t.points[both][:, :468, :2].double() * size for t in (made, true)), (300, 400))
    found = meter.result()
    assert (found["adfd"], found["adfd_place"]) == pytest.approx((whole.score, whole.spatial), rel=1e-9)
    curves = meter.curves()
    assert curves["adfd_motion"][~curves["adfd_motion"].isnan()].tolist() == pytest.approx(
        whole.motion_per_frame.tolist(), rel=1e-9
    )
    assert curves["adfd_motion"].isnan().tolist() == [True, False, True, False, True, False, False, False, True]


def test_once_without_its_input_says_so():
    with pytest.raises(InputError, match="nothing to measure"):
        Once(lambda value: value).result()
