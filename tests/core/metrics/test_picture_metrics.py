import math
import sys
import warnings

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.metrics.psnr import psnr
from portraittalk_core.metrics.ssim import ssim


def flat(value: float) -> torch.Tensor:
    return torch.full((32, 32, 3), value, dtype=torch.float64)


@pytest.mark.parametrize(("difference", "decibels"), [(0.1, 20.0), (0.01, 40.0)])
def test_psnr_of_a_constant_difference(difference, decibels):
    assert psnr(flat(0.5), flat(0.5 + difference), data_range=1.0) == pytest.approx(decibels, abs=1e-9)


def test_psnr_matches_the_published_value_on_bytes():
    a, b = flat(100).to(torch.uint8), flat(110).to(torch.uint8)
    assert psnr(a, b) == pytest.approx(28.130804, abs=1e-6)


def test_psnr_is_infinite_for_identical():
    assert math.isinf(psnr(flat(0.3), flat(0.3)))


# values of metrics.md, from scikit-image and by the formula's closed form for flat pictures
@pytest.mark.parametrize(("a", "b", "expected"), [(0.0, 1.0, 1e-4 / 1.0001), (0.5, 0.6, 0.98360924), (0.2, 0.2, 1.0)])
def test_ssim_of_flat_pictures(a, b, expected):
    assert ssim(flat(a), flat(b), data_range=1.0) == pytest.approx(expected, abs=1e-8)


def test_ssim_of_a_ramp_and_its_reverse():
    i = torch.arange(64, dtype=torch.float64)
    ramp = ((i[:, None] + i[None]) / 126)[..., None].expand(-1, -1, 3)
    assert ssim(ramp, 1 - ramp, data_range=1.0) == pytest.approx(0.18448276, abs=1e-8)


def test_pictures_of_different_shapes_are_rejected():
    with pytest.raises(InputError, match="cannot be compared"):
        psnr(flat(0), flat(0)[:16])
    with pytest.raises(InputError, match="cannot be compared"):
        ssim(flat(0), flat(0)[:16])
    with pytest.raises(InputError, match="smaller than the window"):
        ssim(flat(0)[:8], flat(0)[:8])


def ssim_by_formula(a: np.ndarray, b: np.ndarray, data_range: float) -> float:
    """Wang et al. 2004, equation 13, of each channel; windows wholly inside; truncate · σ = 5 gives 11 taps."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2

    def mean(picture):
        return gaussian_filter(picture, 1.5, truncate=5 / 1.5)[5:-5, 5:-5]

    found = []
    for x, y in zip(np.moveaxis(a, 2, 0), np.moveaxis(b, 2, 0), strict=True):
        mx, my = mean(x), mean(y)
        vx, vy, cov = mean((x - x.mean()) ** 2), mean((y - y.mean()) ** 2), mean((x - x.mean()) * (y - y.mean()))
        dx, dy = mx - x.mean(), my - y.mean()
        vx, vy, cov = vx - dx**2, vy - dy**2, cov - dx * dy
        found.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(found))


@pytest.mark.parametrize("size", [(11, 11), (60, 83), (73, 20), (74, 64), (75, 12), (300, 33)])  # strips' edges
def test_psnr_and_ssim_of_bytes_match_their_formulas(size):
    random = torch.Generator().manual_seed(0)
    a = torch.randint(0, 256, (size[0] + 4, size[1] + 4, 3), generator=random).to(torch.uint8)
    a = torch.nn.functional.avg_pool2d(a.permute(2, 0, 1).float(), 5, 1).permute(1, 2, 0).to(torch.uint8)
    b = (a.float() * 0.8 + 20 * torch.randn(a.shape, generator=random)).clamp(0, 255).to(torch.uint8)
    x, y = (picture.numpy().astype(np.float64) for picture in (a, b))
    assert ssim(a, b) == pytest.approx(ssim_by_formula(x, y, 255), abs=1e-9)
    assert ssim(a.double() / 255, b.double() / 255, 1.0) == pytest.approx(ssim(a, b), abs=1e-9)
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / np.mean((x - y) ** 2)), abs=1e-9)


def test_float_pictures_count_in_doubles():
    a = torch.rand(20, 20, 3, generator=torch.Generator().manual_seed(0))
    b = a + 1e-6
    error = np.mean((a.double().numpy() - b.double().numpy()) ** 2)
    assert psnr(a, b, 1.0) == pytest.approx(-10 * math.log10(error), abs=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy's, of the division by zero
        assert math.isinf(psnr(a, a, 1.0))


def test_ssim_is_what_scikit_image_gives_of_the_whole_picture():
    a, b = natural(2).repeat(5, 1, 1), natural(3).repeat(5, 1, 1)
    assert ssim(a, b) == pytest.approx(skimage_ssim(a, b, 255), abs=1e-12)


def skimage_ssim(a: torch.Tensor, b: torch.Tensor, data_range: float) -> float:
    from skimage.metrics import structural_similarity

    options = {"data_range": data_range, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return structural_similarity(a.double().numpy(), b.double().numpy(), channel_axis=-1, **options)


PAIRS = {  # what the metric is applied to: values 0..1, multiplied by the data range
    "noise": lambda: (natural() / 255, (natural() / 255 + 0.1 * torch.rand(64, 64, 3)).clamp(0, 1)),
    "shift": lambda: (natural() / 255, (natural() / 255).roll(2, 1)),
    "black and white": lambda: (flat(0), flat(1)),
    "both black": lambda: (flat(0), flat(0)),  # where an eps in the denominator would show most
    "hardly a contrast": lambda: (flat(0), 1e-6 * torch.rand(32, 32, 3)),
}


@pytest.mark.parametrize("data_range", [1.0, 255.0])
@pytest.mark.parametrize("pair", PAIRS)
def test_psnr_and_ssim_match_scikit_image(pair, data_range):
    from skimage.metrics import peak_signal_noise_ratio

    torch.manual_seed(0)
    a, b = (picture.double() * data_range for picture in PAIRS[pair]())
    assert ssim(a, b, data_range) == pytest.approx(skimage_ssim(a, b, data_range), abs=1e-9)
    with np.errstate(divide="ignore"):
        expected = peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=data_range)
    assert psnr(a, b, data_range) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("metric", "name"), [(psnr, "PSNR"), (ssim, "SSIM")])
def test_without_kornia_it_is_told_how_to_get_it(metric, name, monkeypatch):
    monkeypatch.setitem(sys.modules, "kornia.metrics", None)
    with pytest.raises(MissingDependency, match=rf"{name} needs kornia \(pip install kornia\)"):
        metric(flat(0.5), flat(0.6), 1.0)


def natural(seed: int = 0) -> torch.Tensor:
    """(64, 64, 3) 0..255: noise with more of it in the low frequencies, as pictures have."""
    random = torch.Generator().manual_seed(seed)
    layers = [
        torch.nn.functional.interpolate(torch.rand(1, 3, size, size, generator=random), (64, 64), mode="bicubic")
        for size in (4, 8, 16, 32, 64)
    ]
    return (255 * sum(layers)[0] / len(layers)).permute(1, 2, 0).clamp(0, 255)


def blurred(picture: torch.Tensor, width: int) -> torch.Tensor:
    planes = torch.nn.functional.pad(picture.permute(2, 0, 1)[None], [width // 2] * 4, mode="replicate")
    return torch.nn.functional.avg_pool2d(planes, width, 1)[0].permute(1, 2, 0)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_picture_metrics_are_symmetric_and_fall_with_noise_blur_and_shift(metric):
    picture, noise = natural(), torch.randn(64, 64, 3, generator=torch.Generator().manual_seed(1))
    worse = {
        "noise": [picture + level * noise for level in (2, 5, 15, 40)],
        "blur": [blurred(picture, width) for width in (3, 5, 9, 15)],
        "shift": [picture.roll(pixels, 1) for pixels in (1, 2)],
    }
    for pictures in worse.values():
        found = [metric(p, picture) for p in pictures]
        assert found == sorted(found, reverse=True)
        assert metric(picture, picture) > found[0]
        assert metric(picture, pictures[0]) == pytest.approx(found[0], rel=1e-12)


def test_psnr_and_ssim_match_torchmetrics():
    from torchmetrics.functional import image

    a, b = natural(2).double() / 255, natural(3).double() / 255
    x, y = (p.permute(2, 0, 1)[None] for p in (a, b))
    expected = float(image.peak_signal_noise_ratio(x, y, data_range=1.0))
    assert psnr(a, b, data_range=1.0) == pytest.approx(expected, rel=1e-6)
    # its mean counts the reflected border since 1.9: where the window fits is what the paper and scikit-image count
    _, whole = image.structural_similarity_index_measure(x, y, data_range=1.0, return_full_image=True)
    inside = float(whole[..., 5:-5, 5:-5].mean())
    assert ssim(a, b, data_range=1.0) == pytest.approx(inside, abs=1e-6)
