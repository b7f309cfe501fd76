"""All faces of a picture, found where they were painted."""

import pytest
import torch

from portraittalk_core.errors import InputError, ShapeError
from portraittalk_core.face.mesh import search
from portraittalk_core.face.mesh.search import detect_any_way_up, detect_faces
from portraittalk_core.face.mesh.upright import is_upside_down


def found_px(picture, mesh, **options) -> torch.Tensor:
    height, width = picture.shape[:2]
    return detect_faces(picture, mesh, **options) * torch.tensor([width, height, width])


def middles(picture, mesh, **options) -> list[int]:
    return [round(float(face[:, 0].mean())) for face in found_px(picture, mesh, **options)]


@pytest.mark.parametrize(
    ("box", "width", "height"),
    [
        ((120, 80, 220, 200), 400, 300),
        ((25, 15, 375, 285), 400, 300),  # a close-up: too large to be seen without a margin
        ((700, 500, 740, 548), 1000, 800),  # too small to be seen in the whole picture
        ((3, 4, 63, 70), 600, 400),  # at the edge
        ((1200, 900, 2000, 1860), 3000, 2400),  # scaled down to be looked at
    ],
    ids=["plain", "close-up", "small", "edge", "large picture"],
)
def test_detect_faces_matches_painted_box(painted, box, width, height):
    picture = painted.paint(box, width=width, height=height)
    faces = found_px(picture, painted.mesh)
    assert len(faces) == 1
    off_px = (faces[0] - painted.face_in(box))[:, :2].norm(dim=1)
    assert float(off_px.max()) < max(1.0, 0.01 * (box[2] - box[0]))


def test_detect_faces_finds_small_one_beside_others(painted):
    boxes = ((40, 300, 200, 500), (500, 320, 640, 500), (830, 60, 880, 120))
    picture = painted.paint(*boxes, width=1000, height=600)
    assert len(detect_faces(picture, painted.mesh)) == 3


def test_detect_faces_without_face_is_empty(painted):
    assert detect_faces(painted.paint(), painted.mesh).shape == (0, 478, 3)


def test_detect_faces_drops_what_shows_at_one_scale_only(painted):
    """A pattern that only some tile takes for a face is none."""
    seen = painted.mesh.detect

    def dreams(picture):
        tile = max(picture.shape[:2])
        return seen(painted.paint((30, 30, 90, 90), width=tile, height=tile)) if tile == 140 else seen(picture)

    painted.mesh.detect = dreams
    assert len(detect_faces(painted.paint(width=600, height=400), painted.mesh)) == 0


def test_detect_faces_drops_what_does_not_show_closely(painted):
    """What the whole picture's look takes for a face must show in squares around it too."""
    seen = painted.mesh.detect

    def dreams(picture):
        width, height = 400, 300
        blob = painted.paint((120, 80, 240, 200), width=width, height=height)
        return seen(blob) if tuple(picture.shape[:2]) == (height, width) else seen(picture)

    painted.mesh.detect = dreams
    assert len(detect_faces(painted.paint(width=400, height=300), painted.mesh)) == 0


def test_detect_faces_order_by_size_then_left_to_right(painted):
    small, large_right, large_left = (20, 20, 100, 120), (280, 60, 400, 210), (120, 60, 236, 205)
    picture = painted.paint(small, large_right, large_left, width=500, height=300)
    assert middles(picture, painted.mesh) == pytest.approx([178, 340, 60], abs=12)
    assert middles(picture, painted.mesh, order="left_to_right") == pytest.approx([60, 178, 340], abs=12)


def test_detect_faces_is_deterministic(painted):
    picture = painted.paint((20, 20, 100, 120), (200, 50, 290, 160))
    assert torch.equal(detect_faces(picture, painted.mesh), detect_faces(picture, painted.mesh))


def test_detect_faces_quick_search_takes_few_looks(painted):
    detect_faces(painted.paint(width=1200, height=700), painted.mesh, thorough=False)
    assert painted.mesh.num_looks <= 3


def test_detect_faces_rejects_unknown_order(painted):
    with pytest.raises(InputError, match="left_to_right"):
        detect_faces(painted.paint(), painted.mesh, order="random")


def test_detect_faces_rejects_float_picture(painted):
    with pytest.raises(ShapeError, match="uint8"):
        detect_faces(painted.paint().float(), painted.mesh)


FACE = torch.rand(1, 478, 3, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.2


def stand_upright(monkeypatch, upside_down: bool) -> torch.Tensor:
    """A picture whose face is found, and stands as it is found, only where a white corner is at the upper left.

    With `upside_down` a face is found everywhere, as a mesh network finds one in an upside-down picture.
    """
    picture = torch.zeros(60, 90, 3, dtype=torch.uint8)
    picture[:5, :5] = 255

    def is_upright(turned):
        return bool(turned[0, 0, 0])

    found = {True: FACE, False: 0.9 - 0.5 * FACE if upside_down else FACE[:0]}
    monkeypatch.setattr(search, "detect_faces", lambda turned, *_: found[is_upright(turned)])
    monkeypatch.setattr(search, "is_upside_down", lambda turned, _: not is_upright(turned))
    return picture


@pytest.mark.parametrize(("turns", "finds_both"), [(0, False), (2, False), (2, True)])
def test_detect_any_way_up_finds_turned_face(monkeypatch, turns, finds_both):
    upright = stand_upright(monkeypatch, finds_both)
    # every landmark's place, painted, says where it lies after the turn
    y, x = torch.meshgrid(torch.arange(60), torch.arange(90), indexing="ij")
    places = torch.rot90(torch.stack([x, y], -1), turns)
    turned = torch.rot90(upright, turns).contiguous()
    (face,) = detect_any_way_up(turned, object())
    size = torch.tensor([turned.shape[1], turned.shape[0]])
    at = (face[:, :2] * size).long()
    expected = (FACE[0, :, :2] * torch.tensor([90, 60])).long()
    assert (places[at[:, 1], at[:, 0]] - expected).abs().max() <= 1  # a point on a pixel's border may change sides
    torch.testing.assert_close(face[:, 2] * size[0], FACE[0, :, 2] * 90)


def test_detect_any_way_up_keeps_a_face_that_stands_neither_way(monkeypatch):
    upright = stand_upright(monkeypatch, upside_down=True)
    monkeypatch.setattr(search, "is_upside_down", lambda *_: True)
    assert torch.equal(detect_any_way_up(upright, object()), FACE)


def test_an_upside_down_astronaut_is_told_from_an_upright_one(astronaut):
    picture = astronaut.picture
    height, width = picture.shape[:2]
    face = astronaut.landmarks.points_px[0]
    turned = torch.rot90(picture, 2).contiguous()
    back = torch.tensor([width, height, 0.0]) - face * torch.tensor([1.0, 1.0, -1.0])
    assert not is_upside_down(picture, face)
    assert not is_upside_down(turned, back)  # its landmarks stand upside down as well
    mirrored = back.clone()  # upright landmarks on an upside-down face, as a mesh network gives them
    mirrored[:, :2] = back[:, :2].amin(0) + back[:, :2].amax(0) - back[:, :2]
    assert is_upside_down(turned, mirrored)
