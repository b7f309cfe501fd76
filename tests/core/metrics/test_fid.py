import sys

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from portraittalk_core.errors import InputError, MissingDependency, ShapeError
from portraittalk_core.metrics.fid import FidMeter, fid
from portraittalk_core.metrics.frechet import RunningGaussian, frechet_distance
from portraittalk_core.metrics.networks.inception import FidInception


class Stub(torch.nn.Module):
    """A stand-in for Inception: means of channels and of the halves of the picture, in its own few digits."""

    num_features = 6

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, pictures):
        assert pictures.dtype == torch.uint8 and pictures.shape[1] == 3
        self.sizes.append(len(pictures))
        upper, lower = pictures.float().chunk(2, 2)
        return torch.cat([part.flatten(2).mean(2) for part in (upper, lower)], 1)


def pictures(seed: int, count: int, side: int = 8, dark: float = 1.0) -> list[torch.Tensor]:
    drawn = torch.randint(0, 256, (count, side, side, 3), generator=torch.Generator().manual_seed(seed))
    return list((drawn * dark).to(torch.uint8))


def features_of(frames) -> np.ndarray:
    return np.stack([np.concatenate([h.reshape(-1, 3).mean(0) for h in np.array_split(f.numpy(), 2)]) for f in frames])


def by_scipy(a: np.ndarray, b: np.ndarray) -> float:
    ca, cb = np.cov(a.T), np.cov(b.T)
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)


def test_fid_matches_scipy_and_our_frechet_distance_over_batches_of_other_sizes():
    made, true = pictures(0, 31), pictures(1, 20, dark=0.8) + pictures(2, 7, side=10)
    network = Stub()
    meter = FidMeter(network, batch=4)
    for k in range(31):  # by turns, as a video and its target come
        meter.update(made[k], of_target=False)
        if k < len(true):
            meter.update(true[k], of_target=True)
    a, b = features_of(made), features_of(true)
    found = meter.result()
    assert set(network.sizes) == {3, 4}  # 31 = 7·4 + 3, 20 = 5·4, 7 = 4 + 3
    assert sum(network.sizes) == 58
    assert found == pytest.approx(by_scipy(a, b), rel=1e-4)  # the stub counts in float32
    gaussians = RunningGaussian(), RunningGaussian()
    for gaussian, features in zip(gaussians, (a, b), strict=True):
        gaussian.update(torch.from_numpy(features))
    assert found == pytest.approx(frechet_distance(*gaussians), rel=1e-4)
    assert fid(made, true, Stub()) == pytest.approx(found, rel=1e-6)
    assert fid(true, made, Stub()) == pytest.approx(found, rel=1e-6)


def test_fid_of_a_square_and_its_stretched_copy():
    class Corner(torch.nn.Module):
        num_features = 2

        def forward(self, batch):
            return batch[:, :2, 0, 0].float()

    def with_corners(*corners):
        made = [torch.zeros(4, 4, 3, dtype=torch.uint8) for _ in corners]
        for picture, corner in zip(made, corners, strict=True):
            picture[0, 0, :2] = torch.tensor(corner, dtype=torch.uint8)
        return made

    square = with_corners((0, 0), (0, 2), (2, 0), (2, 2))
    stretched = with_corners((1, 1), (1, 5), (5, 1), (5, 5))
    assert fid(square, stretched, Corner()) == pytest.approx(32 / 3, abs=1e-9)  # metrics.md


def test_fid_of_the_same_is_nothing_and_never_below():
    few = pictures(3, 3)  # a singular covariance
    assert 0 <= fid(few, few, Stub()) < 1e-3
    many = pictures(4, 40)
    assert 0 <= fid(many, many, Stub()) < 1e-3


def test_fid_grows_with_darkness():
    true = pictures(5, 40)
    found = [fid([(f * level).to(torch.uint8) for f in true], true, Stub()) for level in (1.0, 0.95, 0.8, 0.5)]
    assert found == sorted(found) and found[1] > found[0] + 1


@pytest.mark.slow  # roots of matrices of 2048 × 2048
def test_fid_of_inceptions_2048_numbers_of_few_pictures():
    torch.manual_seed(0)
    network = FidInception().eval()
    for part in network.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)  # else nothing is left after so many layers
    features = []
    network.register_forward_hook(lambda _network, _pictures, answer: features.append(answer))
    found = fid(pictures(6, 3, side=40), pictures(7, 4, side=40), network)
    assert [part.shape for part in features] == [(3, 2048), (4, 2048)]
    gaussians = RunningGaussian(), RunningGaussian()
    for gaussian, part in zip(gaussians, features, strict=True):
        gaussian.update(part)
    expected = frechet_distance(*gaussians)
    assert expected > 0.01
    assert found == pytest.approx(expected, rel=1e-3)


def test_fid_rejects():
    meter = FidMeter(Stub())
    meter.update(pictures(0, 1)[0], of_target=False)
    with pytest.raises(InputError, match="FID of 1 and 0 pictures"):
        meter.result()
    with pytest.raises(ShapeError, match="the picture for FID"):
        meter.update(torch.zeros(3, 8, 8), of_target=True)

    class Broken(Stub):
        def forward(self, batch):
            return torch.full((len(batch), self.num_features), torch.nan)

    with pytest.raises(InputError, match="features for FID holds 24 values"):
        fid(pictures(0, 4), pictures(1, 4), Broken())


def test_without_torchmetrics_it_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(MissingDependency, match=r"FID needs torchmetrics \(pip install torchmetrics\)"):
        FidMeter(Stub())
