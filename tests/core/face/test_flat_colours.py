"""Faces drawn in flat colours are told from those with grain or strokes; all are made here."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from portraittalk_core.errors import ShapeError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.flat_colours import is_flat

SIDE = 400
SKIN = (247, 214, 189)


def points() -> torch.Tensor:
    return canonical_face() * 110 + torch.tensor([200.0, 150.0, 0.0])


def drawing(skin: tuple[int, int, int] = SKIN, background: tuple[int, int, int] = (90, 100, 120)) -> np.ndarray:
    """(H, W, 3) a face with eyes, cheeks and a mouth in flat colours."""
    picture = Image.new("RGB", (SIDE, SIDE), background)
    pen = ImageDraw.Draw(picture)

    def fill(ring: tuple[int, ...], colour: tuple[int, int, int]) -> None:
        pen.polygon([tuple(point) for point in points()[list(ring), :2].tolist()], fill=colour)

    fill(topo.FACE_OVAL, skin)
    for x, y in points()[[50, 280], :2].tolist():
        pen.ellipse((x - 20, y - 12, x + 20, y + 12), fill=(250, 180, 165))
    fill((*topo.RIGHT_UPPER_LID, *reversed(topo.RIGHT_LOWER_LID)), (40, 25, 20))
    fill((*topo.LEFT_UPPER_LID, *reversed(topo.LEFT_LOWER_LID)), (40, 25, 20))
    fill((*topo.OUTER_UPPER_LIP, *reversed(topo.OUTER_LOWER_LIP)), (205, 95, 98))
    return np.array(picture)


def noise(sigma: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, sigma, (SIDE, SIDE, 3))


def shading(levels: float) -> np.ndarray:
    """Light that falls by so many levels over the picture."""
    return np.linspace(0, -levels, SIDE)[None, :, None].repeat(SIDE, 0)


def brush_strokes(levels: float) -> np.ndarray:
    return levels * np.sin(np.arange(SIDE) * 2 * np.pi / 9)[None, :, None].repeat(SIDE, 0)


@pytest.mark.parametrize(
    ("change", "flat"),
    [(0, True), (noise(0.5), True), (shading(40), True), (noise(3), False), (brush_strokes(4), False)],
    ids=["drawn", "saved with loss", "soft light", "grain", "painted"],
)
def test_grain_and_strokes_tell_a_photograph_or_a_painting(change, flat):
    picture = torch.from_numpy((drawing() + change).clip(0, 255).round().astype(np.uint8))
    assert is_flat(picture, points()) == flat


def test_a_drawing_on_white_paper_is_flat_and_a_photograph_with_a_burnt_spot_is_not():
    assert is_flat(torch.from_numpy(drawing((255, 255, 255), (255, 255, 255))), points())
    photograph = (drawing() + noise(3)).clip(0, 255).astype(np.uint8)
    photograph[110:190, 150:260] = 255
    assert not is_flat(torch.from_numpy(photograph), points())


def test_nothing_is_said_of_a_tiny_face():
    small = np.array(Image.fromarray(drawing()).resize((80, 80)))
    assert not is_flat(torch.from_numpy(small), points() / 5)


def test_wrong_shapes_are_refused():
    with pytest.raises(ShapeError, match="landmarks of the face"):
        is_flat(torch.from_numpy(drawing()), points()[:100])
