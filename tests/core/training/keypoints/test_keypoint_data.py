import dataclasses

import pytest
import torch
from toy_puppet import motion, puppet_clip

from portraittalk_core.errors import InputError
from portraittalk_core.training.keypoints.data import FramePairs, _changed


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
    mirrored, turns = _changed(pictures, turned, Draw(0.2))
    assert torch.equal(mirrored, pictures.flip(-1))
    expected = Rotation.from_euler("xyz", [[5, -10, -20]], degrees=True).as_matrix()
    assert torch.allclose(turns, torch.from_numpy(expected).float(), atol=1e-6)
    same, still = _changed(pictures, turned, Draw(0.8))
    assert torch.equal(same, pictures) and torch.equal(still, turned)


def test_videos_without_two_faces_are_refused(clips):
    valid = torch.tensor([True, False, False, False, False, False])
    one = dataclasses.replace(clips[0], track=dataclasses.replace(clips[0].track, valid=valid))
    assert len(FramePairs([one, clips[1]])) == 6
    with pytest.raises(InputError, match="none of the 1 videos"):
        FramePairs([one])
