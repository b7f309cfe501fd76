"""Crops and pastes: where they lie by geometry, what they hold by OpenCV's own sampling, what they leave alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from portraittalk_core.errors import InputError
from portraittalk_core.face import topology as topo
from portraittalk_core.renderers.implicit.contract import CropRule
from portraittalk_core.renderers.implicit.crop import MEASURED, FaceCrop, FilmCrops, crop_of
from portraittalk_core.renderers.implicit.paste import Paster, feathered_mask, paste
from portraittalk_core.types import LandmarkTrack

UPRIGHT, SQUARE = CropRule(2.3, -0.125, True), CropRule(1.4, 0.0, False)


def turned(points: torch.Tensor, degrees: float, about=(256.0, 256.0)) -> torch.Tensor:
    angle, middle = math.radians(degrees), torch.tensor(about)
    matrix = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return (points[:, :2] - middle) @ matrix.T + middle


def scene(height: int = 300, width: int = 400) -> torch.Tensor:
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / 21 + k) * np.cos(y / 17 - k) for k in range(3)]
    return torch.from_numpy(np.stack(waves, -1).astype(np.uint8))


@pytest.mark.parametrize("degrees", [0, 35, -110, 180])
def test_an_upright_crop_stands_as_the_face_does(astronaut, degrees):
    points = turned(astronaut.landmarks.points_px[0], degrees)
    crop = crop_of(points, UPRIGHT, 256)
    on_crop = crop.points_on_crop(points).float()
    eyes = on_crop[[33, 159, 133, 145, 362, 386, 263, 374]].mean(0)
    lips = on_crop[list(topo.MOUTH_CORNERS)].mean(0)
    assert abs(float(lips[0] - eyes[0])) < 1e-3 and float(lips[1]) > float(eyes[1])
    measured = on_crop[list(MEASURED)]
    low, high = measured.amin(0), measured.amax(0)
    assert float((high - low).max()) == pytest.approx(256 / 2.3, rel=1e-5)
    middle = (low + high) / 2
    assert float(middle[0]) == pytest.approx(128.25, abs=1e-3)  # half a pixel of 512 off, as the public code has it
    assert float(middle[1]) == pytest.approx(128.25 + 0.125 * 256, abs=1e-3)  # the crop is shifted up


def test_a_square_crop_is_the_box_enlarged(astronaut):
    points = turned(astronaut.landmarks.points_px[0], 20)
    crop = crop_of(points, SQUARE, 128)
    low, high = points.amin(0), points.amax(0)
    assert crop.side_px == pytest.approx(1.4 * float((high - low).max()), rel=1e-5)
    corner = torch.cat([(low + high)[None] / 2 - crop.side_px / 2]).double()
    assert torch.allclose(crop.points_on_crop(corner), torch.zeros(1, 2, dtype=torch.float64), atol=1e-3)


def test_a_resized_crop_covers_the_same_square(astronaut):
    crop = crop_of(astronaut.landmarks.points_px[0], UPRIGHT, 256)
    assert crop.resized(512).side_px == pytest.approx(crop.side_px)
    point = torch.tensor([[200.0, 120.0]])
    assert torch.allclose(crop.resized(512).points_on_crop(point), 2 * crop.points_on_crop(point))
    assert torch.allclose(crop.resized(512).resized(256).matrix, crop.matrix)


def test_a_crop_holds_what_bilinear_sampling_of_the_picture_gives():
    picture, angle = scene(), math.radians(12)
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) * 0.4
    crop = FaceCrop(torch.cat([turn, torch.tensor([[-20.0], [10.0]])], 1).double(), 64)
    taken = crop.take(picture)[0].permute(1, 2, 0).numpy() * 255
    fine = np.mgrid[:128, :128][::-1].reshape(2, -1) / 2 - 0.25  # two samples a pixel and direction
    back = crop.to_picture.numpy()
    x, y = back[:, :2] @ fine + back[:, 2:]
    for channel in range(3):
        plane = map_coordinates(picture[..., channel].numpy().astype(float), [y, x], order=1, mode="grid-constant")
        expected = plane.reshape(64, 2, 64, 2).mean((1, 3))
        assert np.abs(taken[..., channel] - expected).max() < 0.1


def test_beyond_the_picture_a_crop_is_black():
    crop = FaceCrop(torch.tensor([[1.0, 0.0, 30.0], [0.0, 1.0, 30.0]], dtype=torch.float64), 64)
    taken = crop.take(torch.full((200, 200, 3), 255, dtype=torch.uint8))
    assert float(taken[..., :29, :].max()) == 0 and float(taken[..., 31:, 31:].min()) == pytest.approx(1)
    outside = FaceCrop(torch.tensor([[1.0, 0.0, 500.0], [0.0, 1.0, 0.0]], dtype=torch.float64), 64)
    assert float(outside.take(scene()).abs().max()) == 0
    assert torch.equal(paste(scene(), torch.rand(3, 64, 64), outside), scene())


def test_a_face_too_small_or_not_finite_is_refused(astronaut):
    points = astronaut.landmarks.points_px[0]
    with pytest.raises(InputError, match="too small to crop"):
        crop_of(points * 0.01, UPRIGHT, 256)
    with pytest.raises(InputError, match="landmarks of a face to crop"):
        crop_of(points * float("nan"), UPRIGHT, 256)


def test_films_turn_each_crop_or_keep_the_first_one_of_a_scene(astronaut):
    size = torch.tensor([512.0, 512.0, 512.0])
    rows = [astronaut.landmarks.points[0] + torch.tensor([dx, 0.0, 0.0]) for dx in (0.3, 0.0, 0.01, 0.1, 0.11)]
    valid = torch.tensor([False, True, True, True, True])
    track, scenes = LandmarkTrack(torch.stack(rows), valid, 25, 512, 512), torch.tensor([0, 0, 0, 1, 1])
    fixed, upright = (FilmCrops(track, rule, 256, scenes) for rule in (SQUARE, UPRIGHT))
    first = crop_of(rows[1] * size, SQUARE, 256).matrix
    assert torch.equal(fixed.of(2).matrix, first) and torch.equal(fixed.of(1).matrix, first)
    assert torch.equal(fixed.of(4).matrix, crop_of(rows[3] * size, SQUARE, 256).matrix)
    assert torch.equal(upright.of(2).matrix, crop_of(rows[2] * size, UPRIGHT, 256).matrix)


def test_a_paste_of_the_crop_itself_changes_little_and_nothing_outside():
    picture, crop = scene(), FaceCrop(torch.tensor([[0.6, 0.2, -40], [-0.2, 0.6, 20]], dtype=torch.float64), 128)
    pasted = paste(picture, crop.resized(256).take(picture)[0], crop)
    difference = (pasted.int() - picture.int()).abs()
    left, top, right, bottom = crop.bounds(400, 300)
    assert 0 < int(difference[top:bottom, left:right].max()) <= 3  # what two resamplings blur
    difference[top:bottom, left:right] = 0
    assert int(difference.max()) == 0


def test_a_paste_is_the_masks_mixture():
    picture, crop = scene(), FaceCrop(torch.tensor([[1.0, 0, -50], [0, 1, -40]], dtype=torch.float64), 64)
    mask = torch.zeros(64, 64)
    mask[16:48, 16:48] = 0.5
    pasted = paste(picture, torch.ones(3, 64, 64), crop, mask, match_colour=0.0)
    expected = picture.clone()
    inside = expected[56:88, 66:98].float()
    expected[56:88, 66:98] = (inside + 0.5 * (255 - inside) + 0.5).floor().to(torch.uint8)
    assert int((pasted.int() - expected.int()).abs().max()) <= 1
    assert torch.equal(pasted[:50], picture[:50])


@pytest.mark.parametrize(
    "place", [(slice(20, 23), slice(40, 52)), (slice(2, 62), slice(60, 62)), (slice(0, 0), slice(0, 0))]
)
def test_a_small_mask_is_pasted_where_it_lies_in_a_turned_crop(place):
    picture, angle = scene(), math.radians(25)
    turn = 0.3 * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    crop = FaceCrop(torch.from_numpy(np.concatenate([turn, [[-30.0], [5.0]]], 1)), 64)
    mask = torch.zeros(64, 64)
    mask[place] = 0.8
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    at = turn @ np.stack([x.ravel(), y.ravel()]) + [[-30.0], [5.0]]
    alpha = map_coordinates(mask.numpy().astype(float), at[::-1], order=1, mode="grid-constant").reshape(x.shape)
    expected = picture + alpha[..., None] * (255.0 - picture.numpy())
    pasted = paste(picture, torch.ones(3, 64, 64), crop, mask, match_colour=0.0)
    assert float((pasted - expected).abs().max()) <= 1
    assert torch.equal(pasted[alpha == 0], picture[alpha == 0])


def test_colours_are_matched_to_the_picture_around_the_edge():
    picture = scene()
    crop = FaceCrop(torch.tensor([[0.5, 0, -60], [0, 0.5, -30]], dtype=torch.float64), 64)
    own = crop.take(picture)[0]
    tinted = own * torch.tensor([0.95, 1.0, 0.9])[:, None, None] + 0.04
    plain, matched = (paste(picture, tinted, crop, match_colour=amount).float() for amount in (0.0, 1.0))
    same = paste(picture, own, crop, match_colour=0.0).float()
    assert float((matched - same).abs().mean()) < 0.15 * float((plain - same).abs().mean())


def test_a_batch_is_pasted_as_its_frames_are():
    picture = scene()
    crop = FaceCrop(torch.tensor([[0.3, 0.1, -20], [-0.1, 0.3, 10]], dtype=torch.float64), 64)
    crops = torch.rand(3, 3, 64, 64)
    together = list(Paster(picture, crop, 64).paste(crops))
    assert all(torch.equal(together[at], paste(picture, crops[at], crop)) for at in range(3))


def test_a_crop_finer_than_the_picture_does_not_alias():
    """Stripes of one pixel, four to a pixel of the picture, are grey there."""
    crop = FaceCrop(torch.tensor([[4.0, 0, -400], [0, 4.0, -400]], dtype=torch.float64), 256)
    stripes = (torch.arange(256) % 2).float().expand(3, 256, 256)
    pasted = paste(scene(), stripes, crop, torch.ones(256, 256), match_colour=0.0)
    inside = pasted[104:160, 104:160].float()
    assert float((inside - 127.5).abs().max()) <= 1


def test_the_feathered_mask_is_whole_inside_and_nothing_at_the_edge():
    mask = feathered_mask(128)
    assert float(mask[32:96, 32:96].min()) == 1
    assert max(float(edge.max()) for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1])) < 0.02
