"""Whether lids lie where a picture shows them, on drawn eyes of several sizes and looks."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from portraittalk_core.errors import ShapeError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.aperture import LEFT_EYE, RIGHT_EYE
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.eyes import lids_fit

POINTS = canonical_face() * 110 + torch.tensor([200.0, 180.0, 0.0])
WHITE, BLUE, BLACK = (250, 250, 250), (60, 130, 200), (15, 12, 14)


def face(skin=(205, 160, 135), shadow=None, liner: int = 0, larger: float = 1.0) -> torch.Tensor:
    """(H, W, 3) a face with eyes inside its lids, or `larger` ones."""
    picture = Image.new("RGB", (400, 400), (90, 100, 120))
    pen = ImageDraw.Draw(picture)
    pen.polygon([tuple(POINTS[i, :2].tolist()) for i in topo.FACE_OVAL], fill=skin)
    for upper, lower in (RIGHT_EYE, LEFT_EYE):
        outline = POINTS[list(upper + lower[::-1]), :2]
        middle = outline.mean(0)
        size = torch.tensor([larger, 2 * larger - 1])  # drawn eyes are rounder
        shape = [tuple(point) for point in ((outline - middle) * size + middle).tolist()]
        if shadow:
            pen.polygon(
                [tuple(p) for p in ((outline - middle) * torch.tensor([1.2, 2.2]) + middle).tolist()], fill=shadow
            )
        pen.polygon(shape, fill=WHITE)
        x, y = middle.tolist()
        radius = 11 * larger
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=BLUE)
        if liner:
            pen.line([*shape, shape[0]], fill=BLACK, width=liner)
    noise = 3 * np.random.default_rng(0).normal(size=(400, 400, 3))
    return torch.from_numpy((np.array(picture) + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    "look",
    [
        {},
        {"liner": 3},
        {"shadow": (120, 90, 75)},  # in the eyes' sockets
        {"skin": (70, 45, 35)},
        {"skin": (165, 165, 165), "liner": 2},
    ],
    ids=["plain", "lashes", "shadow", "dark", "grey"],
)
def test_lids_of_usual_eyes_fit(look):
    assert lids_fit(face(**look), POINTS)


def of_few_colours(picture: torch.Tensor, dither: Image.Dither) -> torch.Tensor:
    """The picture in the 216 colours of the web, as old GIFs are."""
    drawn = Image.fromarray(picture.numpy()).convert("P", palette=Image.Palette.WEB, dither=dither)
    return torch.from_numpy(np.array(drawn.convert("RGB")))


@pytest.mark.parametrize("skin", [(205, 160, 135), (150, 105, 85), (95, 65, 50)])
def test_dots_of_a_web_palette_are_no_drawn_eyes(skin):
    small = POINTS / 2
    picture = Image.fromarray(face(skin, liner=3).numpy()).resize((200, 200))
    dotted = of_few_colours(torch.from_numpy(np.array(picture)), Image.Dither.FLOYDSTEINBERG)
    assert lids_fit(dotted, small)


def test_large_eyes_of_a_web_palette_are_drawn_ones():
    assert not lids_fit(of_few_colours(face(liner=4, larger=2.0), Image.Dither.FLOYDSTEINBERG), POINTS)


@pytest.mark.parametrize("skin", [(205, 160, 135), (245, 215, 190), (110, 75, 55)])
@pytest.mark.parametrize("larger", [1.8, 2.5])
def test_lids_inside_of_large_eyes_do_not_fit(skin, larger):
    assert not lids_fit(face(skin, liner=4, larger=larger), POINTS)


def test_rejects_other_shapes():
    with pytest.raises(ShapeError, match="478"):
        lids_fit(torch.zeros(10, 10, 3, dtype=torch.uint8), torch.zeros(68, 2))
