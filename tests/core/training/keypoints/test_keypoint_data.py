import dataclasses

import numpy as np
import pytest
import torch
from toy_puppet import motion, puppet_clip

from portraittalk_core.errors import InputError
from portraittalk_core.face.topology import LIPS
from portraittalk_core.training.keypoints.data import GUIDES, REGIONS, FramePairs, _box, _changed, _on_square
from portraittalk_core.training.keypoints.variation import PictureVariation, Variation


@pytest.fixture(scope="module")
def clips():
    return [puppet_clip(seed, 6) for seed in range(2)]


def test_pair_holds_two_frames_of_one_video_with_their_rotation(clips):
    data = FramePairs(clips)
    assert len(data) == 12
    batch, again = data.batch(1, 4, 7, 64), FramePairs(clips).batch(1, 4, 7, 64)
    assert torch.equal(batch.source, again.source) and torch.equal(batch.driving, again.driving)
    frames = {(v, f): (clips[v].read(f) + 1) / 2 for v in range(2) for f in range(6)}
    for i in range(4):
        (source,) = (key for key, picture in frames.items() if torch.equal(picture, batch.source[i]))
        (driving,) = (key for key, picture in frames.items() if torch.equal(picture, batch.driving[i]))
        assert source[0] == driving[0] and source[1] != driving[1]
        for (video, frame), rotation in ((source, batch.source_rotation), (driving, batch.driving_rotation)):
            roll = motion(6, video)[frame, 2]  # the puppet turns in the picture's plane alone
            assert torch.allclose(rotation[i, 1, 0], roll.sin(), atol=0.02)
            assert torch.allclose(rotation[i, 0, 0], roll.cos(), atol=0.02)


def test_every_frame_drives_once_an_epoch(clips):
    data = FramePairs(clips)
    driving = torch.cat([data.batch(number, 4, 0, 64).driving for number in range(3)])
    assert len({picture.numpy().tobytes() for picture in driving}) == 12


def test_mirrored_pairs_turn_the_other_way():
    """A head that looks to the viewer's right and leans clockwise looks left and leans back in the mirror."""

    class Draw:
        def __init__(self, chance):
            self.chance = chance

        def uniform(self, low, high, shape):
            return np.zeros(shape)

        def random(self):
            return self.chance

    from scipy.spatial.transform import Rotation

    turned = torch.from_numpy(Rotation.from_euler("xyz", [[5, 10, 20]], degrees=True).as_matrix())
    pictures = torch.rand(1, 3, 4, 4) * 2 - 1
    mirrored, turns, flipped = _changed(pictures, turned, Draw(0.2))
    assert flipped
    assert torch.equal(mirrored, pictures.flip(-1))
    expected = Rotation.from_euler("xyz", [[5, -10, -20]], degrees=True).as_matrix()
    assert torch.allclose(turns, torch.from_numpy(expected).float(), atol=1e-6)
    same, still, flipped = _changed(pictures, turned, Draw(0.8))
    assert not flipped and torch.equal(same, pictures) and torch.equal(still, turned)


def test_guides_and_boxes_lie_on_the_lips_of_the_picture(clips):
    """Colours at the guides are those at the landmarks; mirrored, right and left change places."""
    data = FramePairs(clips, augment=True)
    batch = data.batch(0, 6, 3, 64)
    plain = FramePairs(clips).batch(0, 6, 3, 64)
    upright = [bool(torch.equal(batch.driving_rotation[i], plain.driving_rotation[i])) for i in range(6)]
    assert len(set(upright)) == 2
    for i, same in enumerate(upright):
        guides, boxes = plain.driving_guides[i].clone(), plain.regions[i].clone()
        if not same:
            guides[:, 0] *= -1
            boxes[:, 0] *= -1
            right, left = GUIDES.index(61), GUIDES.index(291)
            guides[[right, left]] = guides[[left, right]]
            for right, left in ((159, 386), (145, 374)):
                places = [GUIDES.index(right), GUIDES.index(left)]
                guides[places] = guides[places[::-1]]
        assert torch.allclose(batch.driving_guides[i], guides) and torch.allclose(batch.regions[i], boxes)
    track = clips[0].track
    points = track.points_px[0, :, :2] / (track.width / 2) - 1
    assert torch.allclose(_on_square(track, [0])[0], points, atol=1e-6)
    wide = dataclasses.replace(track, width=track.width + 40)  # the square is cut from the middle
    moved = _on_square(wide, [0])[0]
    expected = (wide.points_px[0, :, :2] - torch.tensor([20.0, 0.0])) / (track.width / 2) - 1
    assert torch.allclose(moved, expected, atol=1e-5)
    x, y, half = _box(points[list(LIPS)])
    lips = points[list(LIPS)]
    assert x - half < lips[:, 0].min() and lips[:, 0].max() < x + half and abs(y - lips[:, 1].mean()) < half


def test_varied_pictures_carry_their_landmarks_and_heads_with_them():
    """A bright spot stays at its landmark; known turns and moves; a head's rotation is turned in front of it."""
    from scipy.spatial.transform import Rotation

    side = 96
    line = (torch.arange(side) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    spots = torch.tensor([[[0.2, -0.3], [-0.3, 0.25], [0.1, 0.4]]]).expand(3, -1, -1)
    pictures = torch.stack([torch.exp(-((x - sx) ** 2 + (y - sy) ** 2) / 0.002) for sx, sy in spots[0].tolist()])
    strong = Variation(shift=0.15, zoom=0.25, stretch=0.2, turn_deg=25, bend=0.01)
    look = PictureVariation.draw(strong, 3, np.random.default_rng(5))
    varied, found = look.pictures(pictures.expand(3, -1, -1, -1)), look.points(spots)
    weight = varied / varied.sum((2, 3), keepdim=True)
    centres = torch.stack([(weight * x).sum((2, 3)), (weight * y).sum((2, 3))], -1)
    assert (centres - found).abs().max() < 0.02
    assert (found - spots).norm(dim=-1).mean() > 0.1
    look = PictureVariation.draw(Variation(turn_deg=30), 3, np.random.default_rng(1))
    for turned, angle in zip(look.points(spots), look.angles.tolist(), strict=True):
        expected = Rotation.from_euler("z", angle).as_matrix()[:2, :2] @ spots[0].numpy().T
        assert torch.allclose(turned, torch.from_numpy(expected.T).float(), atol=1e-5)
    head = Rotation.from_euler("xyz", [10, 20, 0], degrees=True)
    expected = (Rotation.from_euler("z", float(look.angles[0])) * head).as_matrix()
    turned = look.rotations(torch.from_numpy(head.as_matrix()).expand(3, -1, -1))
    assert torch.allclose(turned[0], torch.from_numpy(expected).float(), atol=1e-6)


def test_pictures_of_a_pair_vary_alike_unless_they_are_apart(clips):
    strong = Variation(shift=0.2, zoom=0.2, light=0.5, blur=2.0)
    numbers = np.random.default_rng(0), np.random.default_rng(0)
    alike = PictureVariation.draw(strong, 2, numbers[0], same=True)
    apart = PictureVariation.draw(strong, 2, numbers[1])
    assert torch.equal(alike.warp.affine[0], alike.warp.affine[1]) and alike.coarse == (1, 1)
    assert torch.equal(alike.gamma[0], alike.gamma[1]) and torch.equal(alike.slope[0], alike.slope[1])
    assert (apart.warp.affine[0] - apart.warp.affine[1]).abs().max() > 0.01 and apart.gamma[0] != apart.gamma[1]
    picture = torch.rand(2, 3, 64, 64)
    assert torch.allclose(PictureVariation.draw(Variation(), 2, numbers[0]).pictures(picture), picture, atol=1e-4)
    dark = dataclasses.replace(
        PictureVariation.draw(Variation(light=1.0), 2, numbers[0]), gamma=torch.tensor([2.0, 0.5])
    )
    dark = dataclasses.replace(dark, slope=torch.zeros(2, 2))
    assert torch.allclose(dark.pictures(picture), torch.stack([picture[0] ** 2, picture[1] ** 0.5]), atol=1e-3)
    data = FramePairs(clips, variation=strong, apart=True)
    batch, plain = data.batch(0, 2, 0, 64), FramePairs(clips).batch(0, 2, 0, 64)
    moved = batch.driving_points - plain.driving_points
    assert moved.abs().max() > 0.05
    guides = torch.stack([points[list(GUIDES)] for points in batch.driving_points])
    assert torch.equal(batch.driving_guides, guides)
    assert torch.equal(batch.regions[0], torch.stack([_box(batch.driving_points[0, list(r)]) for r in REGIONS]))


def test_videos_without_two_faces_are_refused(clips):
    valid = torch.tensor([True, False, False, False, False, False])
    one = dataclasses.replace(clips[0], track=dataclasses.replace(clips[0].track, valid=valid))
    assert len(FramePairs([one, clips[1]])) == 6
    with pytest.raises(InputError, match="none of the 1 videos"):
        FramePairs([one])
