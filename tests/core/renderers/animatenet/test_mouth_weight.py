import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.face import topology as topo
from portraittalk_core.renderers.animatenet.mouth_weight import mouth_maps


def test_weight_stands_at_the_lips_and_fades(astronaut):
    track = astronaut.landmarks
    maps = mouth_maps(track, 2.0)([0, 0], 512, 512)
    assert maps.shape == (2, 1, 512, 512)
    for x, y in track.points_px[0, list(topo.LIPS), :2].round().long().tolist():
        assert float(maps[0, 0, y, x]) == pytest.approx(2.0)
    for far in (168, 10, 152):  # bridge of the nose, forehead, chin
        x, y = track.points_px[0, far, :2].round().long().tolist()
        assert float(maps[0, 0, y, x]) < 1.5
    assert maps[0, 0, 500, 20] == 1 and maps[0, 0, 20, 500] == 1


def test_map_of_a_lower_resolution_is_the_same_smaller(astronaut):
    maps = mouth_maps(astronaut.landmarks, 0.0)
    large, small = maps([0], 512, 512), maps([0], 64, 64)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(large, 8), small, atol=0.1, rtol=0)


def test_weight_one_needs_no_map_and_others_are_checked(astronaut):
    assert mouth_maps(astronaut.landmarks, 1.0) is None
    with pytest.raises(InputError, match="the mouth weight must lie between 0 and 4"):
        mouth_maps(astronaut.landmarks, 5.0)
