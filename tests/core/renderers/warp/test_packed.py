"""Colours looked up at steps of a part of a pixel, beside closed forms and torch's own interpolation."""

import pytest
import torch
import torch.nn.functional as F

from portraittalk_core.renderers.warp import packed
from portraittalk_core.renderers.warp.packed import PackedPicture, bytes_of, colours_of, pixels_of

HEIGHT, WIDTH = 30, 41


def centres(height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    """(height, width, 2) positions −1..1 of a picture's pixels."""
    x, y = ((torch.arange(n) + 0.5) / n * 2 - 1 for n in (width, height))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


@pytest.fixture(params=[5, 3])
def steps(request, monkeypatch) -> int:
    if request.param == packed.STEPS:
        monkeypatch.setattr(packed, "FINE_PIXELS", 0)
    return request.param


def test_a_pixel_that_stays_keeps_all_its_bytes(steps):
    """Also those that would be no number, or a tiny one, where four of them were a float."""
    planes = torch.randint(0, 256, (4, HEIGHT, WIDTH), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    planes[3, :10], planes[3, 10:20] = 255, 0
    assert torch.equal(bytes_of(PackedPicture(planes, HEIGHT, WIDTH).at(centres())).permute(2, 0, 1), planes)


def test_a_ramp_is_read_to_a_part_of_a_pixel(steps):
    ramp = (6 * torch.arange(WIDTH)).expand(HEIGHT, WIDTH).to(torch.uint8)
    picture = PackedPicture(torch.stack([ramp, 255 - ramp, ramp, ramp]), HEIGHT, WIDTH)
    x = torch.linspace(2.0, WIDTH - 2.0, 500)
    grid = torch.stack([x / WIDTH * 2 - 1, torch.zeros(500)], -1)[None]
    red, green, _ = colours_of(picture.at(grid))
    assert float((red - 6 * (x - 0.5)).abs().max()) <= 6 * 0.5 / steps + 0.51  # half a step, and rounding
    assert float((red + green - 255).abs().max()) <= 1


def test_a_warp_is_close_to_bilinear_interpolation(steps):
    random = torch.Generator().manual_seed(2)
    planes = F.interpolate(255 * torch.rand(1, 4, 8, 9, generator=random), (HEIGHT, WIDTH), mode="bicubic")[0]
    planes = planes.clamp(0, 255).round()
    grid = centres() + 0.08 * torch.randn(HEIGHT, WIDTH, 2, generator=random)  # beyond the border too
    expected = F.grid_sample(planes[None], grid[None], padding_mode="border", align_corners=False)[0]
    found = bytes_of(PackedPicture(planes.to(torch.uint8), HEIGHT, WIDTH).at(grid)).permute(2, 0, 1).float()
    steepest = max(float(planes.diff(dim=axis).abs().max()) for axis in (1, 2))
    assert float((found - expected).abs().max()) <= 2 * steepest * 0.5 / steps + 1.01
    assert float((found - expected).abs().mean()) <= 0.4 * steepest * 0.5 / steps + 0.3


def test_a_finer_picture_is_read_in_steps_of_the_box():
    fine = torch.zeros(4, 2 * HEIGHT, 2 * WIDTH)
    fine[:, :, 1::2] = 200  # a pixel of the box is half dark, half light
    pixels = PackedPicture(fine.to(torch.uint8), HEIGHT, WIDTH).at(centres())
    torch.testing.assert_close(colours_of(pixels), torch.full((3, HEIGHT, WIDTH), 100.0), rtol=0, atol=0)


def test_colours_are_packed_rounded():
    colours = torch.tensor([0.0, 0.49, 0.51, 127.5, 254.6, 255.0]).expand(3, 2, 6)
    expected = torch.tensor([0, 0, 1, 128, 255, 255], dtype=torch.float32).expand(3, 2, 6)
    assert torch.equal(colours_of(pixels_of(colours)), expected)
