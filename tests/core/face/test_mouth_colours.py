import pytest
import torch

from portraittalk_core.face import topology as topo
from portraittalk_core.face.mouth_colours import film_colours, inside_colours
from portraittalk_core.motion.rig import plan_landmarks

SKIN, LIP, TEETH, DARK = (150, 100, 80), (150, 60, 60), (220, 210, 180), (40, 10, 10)


def drawn(points: torch.Tensor, light: float = 1.0) -> torch.Tensor:
    """Skin, of which the mouth's upper half shows teeth and its lower half the dark; lips are a rim around it."""
    picture = torch.tensor(SKIN, dtype=torch.float32).expand(512, 512, 3).clone()
    inner = points[[*topo.INNER_UPPER_LIP, *topo.INNER_LOWER_LIP], :2]
    (left, top), (right, bottom) = inner.amin(0).long().tolist(), inner.amax(0).long().tolist()
    middle = (top + bottom) // 2
    picture[top - 15 : bottom + 15, left - 5 : right + 5] = torch.tensor(LIP, dtype=torch.float32)
    picture[top:middle, left:right] = torch.tensor(TEETH, dtype=torch.float32)
    picture[middle:bottom, left:right] = torch.tensor(DARK, dtype=torch.float32)
    return (light * picture).round().byte()


def test_a_films_teeth_and_dark_are_found_over_its_skin_whatever_the_light(make_plan):
    opened = plan_landmarks(make_plan(opening=[0.0, 0.9, 0.9, 0.9, 0.9], angles_deg=[[0.0, 0, 0]] * 5)).points_px
    lights = (1, 1, 0.7, 0.9, 0.8)
    found = [inside_colours(drawn(points, light), points) for points, light in zip(opened, lights, strict=True)]
    assert found[0] is None  # closed
    skin = sum(SKIN) / 3
    expected = torch.tensor([TEETH, DARK]) / skin
    torch.testing.assert_close(film_colours(found), expected, rtol=0, atol=0.02)


def test_frames_that_show_no_teeth_do_not_dim_them(make_plan):
    points = plan_landmarks(make_plan(opening=[0.9], angles_deg=[[0.0, 0, 0]])).points_px[0]
    shows = inside_colours(drawn(points), points)
    hides = torch.stack([shows[1], shows[1]])
    torch.testing.assert_close(film_colours([shows] * 3 + [hides] * 4), shows)


@pytest.mark.parametrize("count", [0, 2])
def test_a_film_of_few_open_mouths_tells_no_colours(count):
    assert film_colours([None] * 9 + [torch.ones(2, 3)] * count) is None


def test_a_face_beyond_the_picture_gives_no_error(make_plan):
    points = plan_landmarks(make_plan(opening=[0.9], angles_deg=[[0.0, 0, 0]])).points_px[0] - 300
    assert inside_colours(torch.full((64, 64, 3), 90, dtype=torch.uint8), points).isfinite().all()
