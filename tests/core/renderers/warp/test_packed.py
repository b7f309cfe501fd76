"""Colours looked up at steps of a part of a pixel, beside closed forms and torch's own interpolation."""

import pytest
import torch
import torch.nn.functional as F

from portraittalk_core.renderers.warp import packed
from portraittalk_core.renderers.warp.packed import (
    PackedPicture,
    bytes_of,
    colours_of,
    mask_of,
    pixels_of,
    write_pixels,
)

HEIGHT, WIDTH = 30, 41


def centres() -> torch.Tensor:
    """(2, height, width) positions of a picture's pixels."""
    return torch.stack(torch.meshgrid(torch.arange(WIDTH) + 0.5, torch.arange(HEIGHT) + 0.5, indexing="xy"))


@pytest.fixture(params=[5, 3])
def steps(request, monkeypatch) -> int:
    if request.param == packed.STEPS:
        monkeypatch.setattr(packed, "FINE_PIXELS", 0)
    return request.param


def test_a_pixel_that_stays_keeps_all_its_bytes(steps):
    """Also those that would be no number, or a tiny one, where four of them were a float."""
    planes = torch.randint(0, 256, (4, HEIGHT, WIDTH), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    planes[3, :10], planes[3, 10:20] = 255, 0
    assert torch.equal(bytes_of(PackedPicture(planes, HEIGHT, WIDTH).at(steps * centres())).permute(2, 0, 1), planes)


def test_a_ramp_is_read_to_a_part_of_a_pixel(steps):
    ramp = (6 * torch.arange(WIDTH)).expand(HEIGHT, WIDTH).to(torch.uint8)
    picture = PackedPicture(torch.stack([ramp, 255 - ramp, ramp, ramp]), HEIGHT, WIDTH)
    x = torch.linspace(2.0, WIDTH - 2.0, 500)
    red, green, _ = colours_of(picture.at(steps * torch.stack([x, torch.full((500,), HEIGHT / 2)])[:, None]))
    assert float((red - 6 * (x - 0.5)).abs().max()) <= 6 * 0.5 / steps + 0.51  # half a step, and rounding
    assert float((red + green - 255).abs().max()) <= 1


def test_a_warp_is_close_to_bilinear_interpolation(steps):
    random = torch.Generator().manual_seed(2)
    planes = F.interpolate(255 * torch.rand(1, 4, 8, 9, generator=random), (HEIGHT, WIDTH), mode="bicubic")[0]
    planes = planes.clamp(0, 255).round()
    places = centres() + 1.5 * torch.randn(2, HEIGHT, WIDTH, generator=random)  # beyond the border too
    grid = (2 * places / torch.tensor([WIDTH, HEIGHT])[:, None, None] - 1).permute(1, 2, 0)
    expected = F.grid_sample(planes[None], grid[None], padding_mode="border", align_corners=False)[0]
    picture = PackedPicture(planes.to(torch.uint8), HEIGHT, WIDTH)
    found = bytes_of(picture.at(steps * places)).permute(2, 0, 1).float()
    steepest = max(float(planes.diff(dim=axis).abs().max()) for axis in (1, 2))
    assert float((found - expected).abs().max()) <= 2 * steepest * 0.5 / steps + 1.01
    assert float((found - expected).abs().mean()) <= 0.4 * steepest * 0.5 / steps + 0.3


def test_a_finer_picture_is_read_in_steps_of_the_box():
    fine = torch.zeros(4, 2 * HEIGHT, 2 * WIDTH)
    fine[:, :, 1::2] = 200  # a pixel of the box is half dark, half light
    pixels = PackedPicture(fine.to(torch.uint8), HEIGHT, WIDTH).at(5 * centres())
    torch.testing.assert_close(colours_of(pixels), torch.full((3, HEIGHT, WIDTH), 100.0), rtol=0, atol=0)


def test_colours_are_packed_rounded():
    colours = torch.tensor([0.0, 0.49, 0.51, 127.5, 254.6, 255.0]).expand(3, 2, 6)
    expected = torch.tensor([0, 0, 1, 128, 255, 255], dtype=torch.float32).expand(3, 2, 6)
    assert torch.equal(colours_of(pixels_of(colours)), expected)


def test_pixels_are_written_into_their_part_of_a_picture_alone():
    """They are written four bytes at a time: no neighbour may get the fourth, nor the memory behind the picture."""
    random = torch.Generator().manual_seed(3)
    planes = torch.randint(0, 256, (4, HEIGHT, WIDTH), dtype=torch.uint8, generator=random)
    pixels = torch.stack(planes.unbind(), -1).view(torch.int32)[..., 0]
    assert torch.equal(mask_of(pixels), planes[3].float())
    memory = torch.full((3 * HEIGHT * WIDTH + 8,), 7, dtype=torch.uint8)
    picture = memory[: 3 * HEIGHT * WIDTH].view(HEIGHT, WIDTH, 3)
    for rows, columns in ((slice(0, HEIGHT), slice(0, WIDTH)), (slice(3, 9), slice(5, 12)), (slice(2, 4), slice(6, 7))):
        picture.fill_(7)
        expected = picture.clone()
        expected[rows, columns] = planes[:3, rows, columns].permute(1, 2, 0)
        write_pixels(pixels[rows, columns], picture, rows.start, columns.start)
        assert torch.equal(picture, expected)
        assert bool((memory[-8:] == 7).all())
