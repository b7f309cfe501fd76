"""A smile so narrow that the landmarks take its lips for closed, drawn so that its teeth are known to the pixel."""

from fractions import Fraction

import pytest
import torch
from drawn_face import drawn_face

from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.renderers.warp.narrow_smile import lips_around_teeth
from portraittalk_core.renderers.warp.renderer import PortraitRenderer
from portraittalk_core.types import MOUTH_PARAMETERS, HeadPose, LandmarkTrack, MotionPlan, MouthCurves, Portrait

SIDE = 400
SKIN, UPPER, LOWER, TEETH, SHADOW = (175, 172, 170), (80, 76, 76), (150, 146, 146), (215, 214, 212), (40, 38, 38)
UPPER_TEETH = 0.04  # of the mouth's width


def closed_landmarks() -> torch.Tensor:
    return canonical_face() * 110 + torch.tensor([200.0, 150.0, 0.0])


def drawn(points: torch.Tensor, below: float, colour: tuple[int, int, int]) -> torch.Tensor:
    """(H, W, 3) a grey face; below its upper lip is a band of one colour, `below` of the mouth's width high."""

    def chain(ring: tuple[int, ...]) -> torch.Tensor:
        return points[list(ring), :2]

    seam, width = chain(topo.INNER_UPPER_LIP), mouth_width(points)
    ends = seam.clone()
    ends[2:-2, 1] += below * width
    return drawn_face(SIDE, (90, 90, 90), [
        (chain(topo.FACE_OVAL), SKIN),
        (torch.cat([chain(topo.OUTER_UPPER_LIP), seam.flip(0)]), UPPER),
        (torch.cat([seam, chain(topo.OUTER_LOWER_LIP).flip(0)]), LOWER),
        (torch.cat([seam, ends.flip(0)]), colour),
    ])  # fmt: skip


def mouth_width(points: torch.Tensor) -> float:
    return float((points[308] - points[78])[:2].norm())


def renderer_of(picture: torch.Tensor, points: torch.Tensor) -> tuple[PortraitRenderer, LandmarkTrack]:
    rest = LandmarkTrack.from_px(points[None], SIDE, SIDE, Fraction(25))
    return PortraitRenderer(Portrait(picture, rest, "drawn")), rest


def spoken(picture: torch.Tensor, points: torch.Tensor, opening: float) -> torch.Tensor:
    renderer, rest = renderer_of(picture, points)
    zero = torch.zeros(1)
    curves = {name: zero for name in MOUTH_PARAMETERS} | {"opening": zero + opening, "jaw": zero + opening}
    head = HeadPose(torch.zeros(1, 3), torch.zeros(1, 3), torch.ones(1))
    (frame,) = renderer.render(plan_landmarks(MotionPlan(rest, MouthCurves(**curves), zero, zero, head, Fraction(25))))
    return frame


def light_rows(picture: torch.Tensor, points: torch.Tensor) -> list[int]:
    """Rows as light as teeth in the middle of the mouth, from the nose to the chin."""
    x, nose, chin = int(points[13, 0]) + 3, int(points[2, 1]), int(points[152, 1])
    light = picture[nose:chin, x].float().mean(-1) > (TEETH[0] + SKIN[0]) / 2
    return torch.nonzero(light).flatten().tolist()


def test_lips_close_over_the_teeth_of_a_narrow_smile():
    points = closed_landmarks()
    picture = drawn(points, UPPER_TEETH, TEETH)
    assert len(light_rows(picture, points)) >= 3
    assert light_rows(spoken(picture, points, 0.0), points) == []


def test_a_narrow_smile_that_opens_has_one_row_of_teeth():
    points = closed_landmarks()
    rows = light_rows(spoken(drawn(points, UPPER_TEETH, TEETH), points, 0.6), points)
    assert rows == list(range(rows[0], rows[-1] + 1))


@pytest.mark.parametrize("off", [-0.01, 0.0, 0.01])
def test_lips_of_a_narrow_smile_end_beside_its_teeth(off):
    points = closed_landmarks()
    renderer, _ = renderer_of(drawn(points, UPPER_TEETH, TEETH), points)
    seen, width = points[:, :2].clone(), mouth_width(points)
    seen[list(topo.LIPS), 1] += off * width
    lips = lips_around_teeth(renderer._colours_at, seen)
    seam = points[topo.INNER_LIP_TOP, 1]
    assert -0.04 < (lips[topo.INNER_LIP_TOP, 1] - seam) / width < 0
    assert UPPER_TEETH < (lips[topo.INNER_LIP_BOTTOM, 1] - seam) / width < UPPER_TEETH + 0.04


@pytest.mark.parametrize(
    ("below", "colour"), [(0.0, LOWER), (0.015, SHADOW), (0.12, TEETH)], ids=["light lip", "shadow", "gleam"]
)
def test_closed_lips_show_no_teeth(below, colour):
    points = closed_landmarks()
    renderer, _ = renderer_of(drawn(points, below, colour), points)
    assert lips_around_teeth(renderer._colours_at, points[:, :2]) is None
