"""Clothing that the segmentation does not decide about, such as a collar that stands off the neck."""

import torch

from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.renderers.warp import cutout

WALL, COAT = 200, 10


def test_an_undecided_collar_is_cut_out_as_a_whole(monkeypatch):
    points = canonical_face()[:, :2] * 60 + torch.tensor([150.0, 110.0])
    mouth, chin = (int(points[at, 1]) for at in (topo.INNER_LIP_TOP, topo.CHIN))
    picture = torch.full((300, 300, 3), WALL, dtype=torch.uint8)
    person = torch.zeros(300, 300)
    person[40:, 90:210] = 1  # a block, to the lower border
    person[chin + 20 :] = 1  # its shoulders
    picture[person > 0] = 120
    picture[mouth:, :90] = COAT  # beside the chin, of which the mask is sure below alone
    person[mouth + 4 : chin + 20, :90] = torch.linspace(0.05, 0.8, chin + 16 - mouth)[:, None]
    monkeypatch.setattr(cutout, "portrait_mask", lambda *_: person.clone())
    cut = cutout.cut_out(picture, points)
    collar = (slice(mouth + 1, chin + 18), slice(20, 80))
    assert cut.mask[collar].min() > 0.9
    assert cut.background[:, collar[0], collar[1]].min() > 0.8 * WALL  # nothing of it stays behind
    above = (slice(0, mouth - 8), slice(20, 80))
    assert cut.mask[above].max() == 0
