"""The benchmark of the mouth's inside measures what it says: on drawn mouths whose answers are known."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.mouth import clip_score  # noqa: E402
from benchmarks.mouth_clips import MouthClip  # noqa: E402
from benchmarks.mouth_learnt import places  # noqa: E402
from portraittalk_core.face import topology as topo  # noqa: E402
from portraittalk_core.face.aperture import MOUTH, Aperture, pixel_centres  # noqa: E402
from portraittalk_core.face.canonical import canonical_face  # noqa: E402

SIDE = 200
REST = canonical_face() * 60 + torch.tensor([100.0, 80.0, 0.0])


@pytest.fixture(scope="module")
def clip() -> MouthClip:
    """One frame: the lower lip 12 pixels lower, and stripes all over the picture."""
    points = REST.clone()
    points[list(topo.INNER_LOWER_LIP[1:-1] + topo.OUTER_LOWER_LIP[1:-1]), 1] += 12
    x = torch.arange(SIDE)
    stripes = (100 + 80 * torch.sin(x / 3)).to(torch.uint8)[None, :, None].expand(SIDE, SIDE, 3).contiguous()
    return MouthClip("drawn", stripes, REST, stripes[None], points[None])


def test_the_film_itself_is_perfect(clip):
    outer, inner, alike, sharp = clip_score(clip, clip.pictures)
    assert outer == inner == pytest.approx(60 + 20 * torch.log10(torch.tensor(255.0)).item(), abs=0.01)
    assert alike == pytest.approx(1)
    assert sharp == pytest.approx(1)


def test_what_is_wrong_outside_the_lips_does_not_count_for_psnr(clip):
    outside = clip.pictures.clone()
    outside[:, :, : int(REST[61, 0]) - 8] = 0
    assert clip_score(clip, outside)[0] > 100
    five = (clip.pictures.int() + 5).to(torch.uint8)
    assert clip_score(clip, five)[0] == pytest.approx(20 * torch.log10(torch.tensor(255 / 5)).item(), abs=0.1)


def test_a_mouth_of_one_colour_is_not_sharp(clip):
    assert clip_score(clip, torch.full_like(clip.pictures, 100))[3] < 0.01


def test_places_are_all_inside_the_lips(clip):
    at, inputs = places(clip, Aperture.of(REST[:, :2], MOUTH), clip.targets[0])
    mouth = Aperture.of(clip.targets[0, :, :2], MOUTH)
    u, v = mouth.axes_of(pixel_centres((0, 0, SIDE, SIDE)))
    top, bottom = mouth.edge_heights(u)
    assert 0.7 < len(at) / int(((v > top) & (v < bottom)).sum()) <= 1
    assert (inputs[:, 3:5] > 0).all()
    width = Aperture.of(REST[:, :2], MOUTH).width
    assert float(inputs[0, 6]) == pytest.approx(mouth.gap / width, rel=0.1)
