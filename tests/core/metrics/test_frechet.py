import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.frechet import RunningGaussian, frechet_distance, gaussian_distance
from portraittalk_core.metrics.fvd import ClipFeatures, fvd


def of(features, *cuts: int) -> RunningGaussian:
    running = RunningGaussian()
    for part in np.split(np.asarray(features, dtype=np.float64), cuts):
        running.update(torch.from_numpy(part))
    return running


def random(seed: int, count: int = 50, width: int = 6) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, width)) @ generator.normal(size=(width, width)) + generator.normal(size=width)


def test_distance_of_two_gaussians_is_27():
    eye, zero = torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    shifted = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert gaussian_distance(zero, eye, shifted, 4 * eye) == pytest.approx(27, abs=1e-9)


def test_distance_of_a_square_and_its_stretched_copy():
    square = np.array([[0, 0], [0, 2], [2, 0], [2, 2]])
    assert frechet_distance(of(square), of(2 * square + 1)) == pytest.approx(32 / 3, abs=1e-6)


def test_distance_matches_scipy_and_is_symmetric():
    from scipy.linalg import sqrtm

    a, b = random(0), random(1)
    ca, cb = np.cov(a.T), np.cov(b.T)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert frechet_distance(of(a), of(b)) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(of(b), of(a)) == pytest.approx(expected, rel=1e-9)


def test_distance_of_few_samples_and_themselves_is_zero():
    few = random(2, count=4, width=64)  # a singular covariance
    assert frechet_distance(of(few), of(few)) < 1e-6


def test_parts_give_what_the_whole_gives():
    features = random(3) + 1e4  # where a sum of squares would lose its digits
    running = of(features, 1, 1, 7, 30)
    np.testing.assert_allclose(running.mean.numpy(), features.mean(0), rtol=1e-12)
    np.testing.assert_allclose(running.covariance.numpy(), np.cov(features.T), rtol=1e-8)
    assert running.count == 50


def test_distance_grows_with_noise():
    features, noise = random(4), np.random.default_rng(5).normal(size=(50, 6))
    found = [frechet_distance(of(features), of(features + level * noise)) for level in (0, 0.5, 1, 2, 4)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert found[1] > 1e-3


def test_rejects():
    with pytest.raises(InputError, match="two samples, there are 1"):
        frechet_distance(of(random(0)[:1]), of(random(0)))
    with pytest.raises(InputError, match="features of 3 and 6 numbers"):
        frechet_distance(of(random(0, width=3)), of(random(0)))
    with pytest.raises(InputError, match="cannot join"):
        running = of(random(0))
        running.update(torch.zeros(2, 5))
    with pytest.raises(InputError, match="NaN"):
        of(np.full((3, 2), np.nan))


def test_distance_matches_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Given(torch.nn.Module):
        """Pictures that are features already."""

        num_features = 6

        def forward(self, pictures):
            return pictures.double()

    a, b = random(6), random(7, count=31)
    theirs = FrechetInceptionDistance(Given())
    theirs.update(torch.from_numpy(a), real=False)
    theirs.update(torch.from_numpy(b), real=True)
    assert frechet_distance(of(a), of(b)) == pytest.approx(float(theirs.compute()), rel=1e-9)


def picture(seed: int, side: int = 8) -> torch.Tensor:
    return torch.randint(0, 256, (side, side, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def channel_means(batch: torch.Tensor) -> torch.Tensor:
    """A stand-in for I3D: the mean of each channel."""
    return batch.double().flatten(2).mean(2)


def test_fvd_is_of_whole_clips_that_do_not_overlap():
    frames = [picture(i, side=224) for i in range(39)]
    features = ClipFeatures(channel_means)
    for frame in frames:
        features.update(frame)
    clips = np.stack([np.stack(frames[i : i + 16]).mean((0, 1, 2)) for i in (0, 16)]) / 127.5 - 1
    np.testing.assert_allclose(features.gaussian().mean.numpy(), clips.mean(0), atol=1e-6)
    assert features.gaussian().count == 2
    assert fvd(features, features) < 1e-6


def test_fvd_gives_the_network_clips_of_its_size():
    seen = []
    features = ClipFeatures(lambda clip: seen.append(clip) or channel_means(clip))
    for i in range(16):
        features.update(torch.full((30, 20, 3), 255 if i == 3 else 0, dtype=torch.uint8))
    assert seen[0].shape == (1, 3, 16, 224, 224)
    np.testing.assert_allclose(seen[0][0, :, 3], 1, atol=1e-6)
    np.testing.assert_allclose(seen[0][0, :, 4], -1, atol=1e-6)


def test_fvd_needs_two_of_each():
    clips = ClipFeatures(channel_means)
    with pytest.raises(InputError, match="FVD of 0 and 0 clips"):
        fvd(clips, clips)
