"""The canonical face keeps the promises that head pose relies on."""

import torch

from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import interocular_px


def test_canonical_face_unit_is_interocular_distance_between_the_eyes():
    face = canonical_face()
    assert face.shape == (478, 3)
    eyes = face[list(topo.RIGHT_EYE_CORNERS + topo.LEFT_EYE_CORNERS)].mean(0)
    assert torch.allclose(eyes, torch.zeros(3), atol=1e-4)
    assert torch.allclose(interocular_px(face[None]), torch.ones(1), atol=1e-3)


def test_canonical_face_is_symmetric():
    face = canonical_face()
    mirrored = face * torch.tensor([-1.0, 1, 1])
    assert float(torch.cdist(mirrored, face).amin(1).max()) < 2e-3
    pairs = ((33, 263), (133, 362), (61, 291), (78, 308), (234, 454), (127, 356), (468, 473), (46, 276))
    for right, left in pairs:
        assert torch.allclose(mirrored[right], face[left], atol=2e-3), (right, left)


def test_canonical_face_looks_at_the_viewer():
    face = canonical_face()
    assert int(face[:, 2].argmin()) in (topo.NOSE_TIP, 4)  # the nose is nearest
    assert face[33, 0] < face[263, 0]  # the person's right eye on the viewer's left
    assert face[topo.FOREHEAD_TOP, 1] < 0 < face[topo.INNER_LIP_TOP, 1] < face[topo.CHIN, 1]


def test_canonical_face_mouth_is_shut():
    face = canonical_face()
    gaps = [face[low, 1] - face[up, 1] for up, low in zip(topo.INNER_UPPER_LIP, topo.INNER_LOWER_LIP, strict=True)]
    assert max(abs(float(gap)) for gap in gaps) < 0.03
