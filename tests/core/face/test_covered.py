"""Whether a mouth is seen, on pictures drawn from landmarks: lips, moustaches, cloth and hands."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from portraittalk_core.errors import ShapeError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.covered import SEEN, mouth_covered, mouth_visibility

POINTS = canonical_face() * 90 + torch.tensor([200.0, 170.0, 0.0])
SKIN, LIPS, LINE = (205, 160, 135), (185, 110, 105), (110, 60, 55)
# the sides of the nose, the cheeks and the chin: where a mask lies
MASK = (195, 117, 123, 215, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 435, 352, 346)


def polygon(pen: ImageDraw.ImageDraw, points, colour: tuple[int, int, int]) -> None:
    pen.polygon([tuple(POINTS[i, :2].tolist()) for i in points], fill=colour)


def face(skin=SKIN, lips=LIPS, line=LINE, beard=None) -> Image.Image:
    picture = Image.new("RGB", (400, 400), (90, 100, 120))
    pen = ImageDraw.Draw(picture)
    polygon(pen, topo.FACE_OVAL, skin)
    if beard:
        polygon(pen, MASK, beard)
    polygon(pen, topo.OUTER_UPPER_LIP + topo.OUTER_LOWER_LIP[::-1], lips)
    seam = [tuple(POINTS[i, :2].tolist()) for i in topo.INNER_UPPER_LIP]
    pen.line(seam, fill=line, width=3)
    return picture


def seen(picture: Image.Image, noise: float = 3.0) -> float:
    levels = np.array(picture) + noise * np.random.default_rng(0).normal(size=(400, 400, 3))
    return mouth_visibility(torch.from_numpy(levels.clip(0, 255).astype(np.uint8)), POINTS)


@pytest.mark.parametrize(
    "look",
    [
        {},
        {"skin": (70, 45, 35), "lips": (85, 45, 42), "line": (30, 15, 12)},  # dark skin
        {"beard": (60, 45, 38)},
        {"skin": (160, 160, 160), "lips": (130, 130, 130), "line": (70, 70, 70)},  # a grey photograph
        {"skin": (250, 220, 200), "lips": (250, 220, 200), "line": (20, 20, 20)},  # a line drawing
        {"line": (240, 235, 225)},  # teeth between the lips
    ],
    ids=["plain", "dark", "beard", "grey", "line", "teeth"],
)
def test_lips_are_seen(look):
    assert seen(face(**look)) > SEEN


def test_pale_lips_are_seen_by_the_dark_below_bared_teeth():
    """In a laughing portrait's film, teeth were as light as lips, and lips as the skin: 8 of 193 frames were left."""
    opened = POINTS.clone()
    opened[[*topo.INNER_LOWER_LIP[1:-1], *topo.OUTER_LOWER_LIP[1:-1]], 1] += 20
    pale = (225, 190, 172)
    picture = face(skin=pale, lips=pale, line=pale)
    upper, lower = (opened[list(chain), :2] for chain in (topo.INNER_UPPER_LIP, topo.INNER_LOWER_LIP))
    pen = ImageDraw.Draw(picture)
    for share, colour in ((1.0, (40, 20, 20)), (0.75, (220, 192, 176))):  # the dark, and teeth above it
        edge = torch.lerp(upper, lower, share).flip(0)
        pen.polygon([tuple(at) for at in torch.cat([upper, edge]).tolist()], fill=colour)
    levels = torch.from_numpy(np.array(picture))
    assert mouth_visibility(levels, opened) > SEEN


@pytest.mark.parametrize(
    "colour", [(235, 235, 240), (25, 25, 28), (140, 185, 205), (170, 40, 45), (205, 180, 155), SKIN]
)
@pytest.mark.parametrize("pleats", [0, 4])
def test_cloth_covers_lips(colour, pleats):
    picture = face()
    pen = ImageDraw.Draw(picture)
    polygon(pen, MASK, colour)
    low, high = POINTS[list(MASK), 1].min(), POINTS[list(MASK), 1].max()
    for i in range(pleats):
        y = float(low + (i + 0.8) / pleats * (high - low))
        pen.line([(120, y), (280, y)], fill=tuple(round(0.8 * level) for level in colour), width=2)
    assert seen(picture) < SEEN


def test_striped_blue_cloth_covers_lips():
    picture = face()
    pen = ImageDraw.Draw(picture)
    polygon(pen, MASK, (90, 120, 200))
    for x in range(130, 280, 14):
        pen.line([(x, 180), (x, 330)], fill=(60, 90, 160), width=6)
    assert seen(picture) < SEEN


@pytest.mark.parametrize(("width_px", "told"), [(26, True), (20, False)])
def test_nothing_is_said_of_mouths_that_are_smaller_than_the_error_of_their_landmarks(width_px, told):
    """Of 193 frames of a film with mouths of 19 pixels 23 counted as covered, and none at twice the size."""
    picture = face()
    polygon(ImageDraw.Draw(picture), MASK, (25, 25, 28))
    scale = width_px / float((POINTS[291, :2] - POINTS[61, :2]).norm())
    small = picture.resize((round(400 * scale),) * 2, Image.Resampling.BOX)
    assert (mouth_visibility(torch.from_numpy(np.array(small)), POINTS * scale) < SEEN) == told


def test_fingers_cover_lips():
    picture = face()
    pen = ImageDraw.Draw(picture)
    for i in range(5):
        pen.rounded_rectangle([110, 190 + 28 * i, 300, 215 + 28 * i], 12, fill=(200, 150, 120), outline=(150, 100, 80))
    assert seen(picture) < SEEN


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("look", [{}, {"skin": (90, 58, 44), "lips": (112, 58, 52), "line": (30, 15, 12)}])
def test_a_hand_over_one_half_covers_lips(look, side):
    picture, middle = face(**look), float(POINTS[0, 0])
    skin = look.get("skin", SKIN)
    ends = sorted((middle, middle + side * 90))
    ImageDraw.Draw(picture).rectangle((ends[0], 120, ends[1], 300), fill=tuple(round(0.96 * level) for level in skin))
    assert seen(picture) < SEEN


@pytest.mark.parametrize("look", [{}, {"skin": (70, 45, 35), "lips": (62, 38, 36), "line": (30, 15, 12)}])
def test_lips_in_light_from_one_side_are_seen(look):
    levels = np.array(face(**look)) * np.linspace(0.45, 1.25, 400)[:, None]
    assert seen(Image.fromarray(levels.clip(0, 255).astype(np.uint8))) > SEEN


def test_brightness_of_the_picture_hardly_matters():
    dark = face().point(lambda level: level // 3)
    assert seen(dark, noise=1.0) > SEEN
    assert seen(face()) == pytest.approx(1.0)


def test_a_mouth_outside_of_the_picture_has_an_answer():
    picture = torch.from_numpy(np.array(face()))[:200].contiguous()
    assert mouth_covered(picture, POINTS)


def test_rejects_other_shapes():
    picture = torch.zeros(10, 10, 3, dtype=torch.uint8)
    with pytest.raises(ShapeError, match="478"):
        mouth_visibility(picture, torch.zeros(68, 2))
    with pytest.raises(ShapeError, match="uint8"):
        mouth_visibility(picture.float(), POINTS)
