import dataclasses

import pytest
import torch
from toy_puppet import motion, puppet_clip

from portraittalk_core.errors import InputError
from portraittalk_core.face.topology import LIPS
from portraittalk_core.training.keypoints.data import GUIDES, FramePairs, _box, _changed, _on_square


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
            import numpy as np

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


def test_videos_without_two_faces_are_refused(clips):
    valid = torch.tensor([True, False, False, False, False, False])
    one = dataclasses.replace(clips[0], track=dataclasses.replace(clips[0].track, valid=valid))
    assert len(FramePairs([one, clips[1]])) == 6
    with pytest.raises(InputError, match="none of the 1 videos"):
        FramePairs([one])
