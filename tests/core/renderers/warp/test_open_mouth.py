"""Mouths that are open in the portrait, drawn so that lips, teeth and darkness are known to the pixel."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn_face import drawn_face

from portraittalk_core.face import topology as topo
from portraittalk_core.face.aperture import MOUTH, Aperture, pixel_centres
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.renderers.warp.open_mouth import on_lip_edges
from portraittalk_core.renderers.warp.renderer import PortraitRenderer
from portraittalk_core.types import MOUTH_PARAMETERS, HeadPose, LandmarkTrack, MotionPlan, MouthCurves, Portrait

SIDE = 400
SKIN, LIPS, TEETH, DARK = (205, 160, 135), (180, 95, 95), (245, 243, 235), (40, 18, 18)


def plan(rest: LandmarkTrack, openings: list[float]) -> MotionPlan:
    zeros = torch.zeros(len(openings))
    curves = {name: zeros for name in MOUTH_PARAMETERS}
    curves |= {"opening": torch.tensor(openings), "jaw": torch.tensor(openings)}
    head = HeadPose(torch.zeros(len(openings), 3), torch.zeros(len(openings), 3), torch.ones(len(openings)))
    return MotionPlan(rest, MouthCurves(**curves), zeros, zeros, head, Fraction(25))


def track_of(points_px: torch.Tensor) -> LandmarkTrack:
    return LandmarkTrack.from_px(points_px[None], SIDE, SIDE, Fraction(25))


def open_landmarks(opening: float) -> torch.Tensor:
    closed = canonical_face() * 110 + torch.tensor([200.0, 150.0, 0.0])
    return plan_landmarks(plan(track_of(closed), [opening])).points_px[0]


def drawn(points: torch.Tensor, upper_teeth: float, lower_teeth: float = 0.0) -> torch.Tensor:
    """(H, W, 3) a face whose teeth fill these shares of the open mouth, from above and from below."""

    def chain(ring: tuple[int, ...]) -> torch.Tensor:
        return points[list(ring), :2]

    top, bottom = chain(topo.INNER_UPPER_LIP), chain(topo.INNER_LOWER_LIP)
    return drawn_face(SIDE, (90, 100, 120), [
        (chain(topo.FACE_OVAL), SKIN),
        (torch.cat([chain(topo.OUTER_UPPER_LIP), chain(topo.OUTER_LOWER_LIP).flip(0)]), LIPS),
        (torch.cat([top, bottom.flip(0)]), DARK),
        (torch.cat([top, torch.lerp(top, bottom, upper_teeth).flip(0)]), TEETH),
        (torch.cat([torch.lerp(bottom, top, lower_teeth), bottom.flip(0)]), TEETH),
    ])  # fmt: skip


def off_by(points: torch.Tensor, share: float) -> torch.Tensor:
    """Landmarks whose inner lips lie off the edges, into the mouth, by a share of its width."""
    moved = points.clone()
    width = float((points[308] - points[78])[:2].norm())
    moved[list(topo.INNER_UPPER_LIP[1:-1]), 1] += share * width
    moved[list(topo.INNER_LOWER_LIP[1:-1]), 1] -= share * width
    return moved


def frames(
    picture: torch.Tensor, points: torch.Tensor, openings: list[float], covered: bool = False
) -> list[torch.Tensor]:
    rest = track_of(points)
    renderer = PortraitRenderer(Portrait(picture, rest, "drawn"), covered=covered)
    return list(renderer.render(plan_landmarks(plan(rest, openings))))


def white(picture: torch.Tensor) -> torch.Tensor:
    """(H, W) pixels more like teeth than like skin, lips or darkness."""
    colours = torch.tensor([TEETH, SKIN, LIPS, DARK]).float()
    return torch.cdist(picture.reshape(-1, 3).float(), colours).argmin(1).reshape(picture.shape[:2]) == 0


def rows_of_teeth(picture: torch.Tensor, points: torch.Tensor) -> int:
    """Runs of white pixels from the nose to the chin, in the middle of the mouth."""
    column = white(picture)[int(points[2, 1]) : int(points[152, 1]), int(points[13, 0]) + 3].int()
    return int((column.diff() == 1).sum())


CASES = [(0.5, 1.0, 0.0), (0.8, 0.45, 0.0), (1.0, 0.3, 0.25), (1.3, 0.25, 0.2), (1.0, 0.0, 0.0)]


@pytest.mark.parametrize("off", [0.0, 0.03, -0.03])
@pytest.mark.parametrize("case", CASES)
def test_an_open_mouth_shuts_without_a_rest(case, off):
    opening, upper_teeth, lower_teeth = case
    points = open_landmarks(opening)
    picture = drawn(points, upper_teeth, lower_teeth)
    assert white(picture).sum() > 100 or upper_teeth == 0
    (shut,) = frames(picture, off_by(points, off), [0.0])
    assert white(shut).sum() <= 0.02 * white(picture).sum()


@pytest.mark.parametrize("upper_teeth", [1.0, 0.45])
def test_lips_shut_where_landmarks_see_a_third_of_them_in_the_mouth(upper_teeth):
    points = open_landmarks(1.0)
    picture, off = drawn(points, upper_teeth), points.clone()
    for rings, sign in ((topo.UPPER_LIP_RINGS, 1), (topo.LOWER_LIP_RINGS, -1)):
        outer, edge = (points[list(rings[place][1:-1]), 1] for place in (0, 3))
        for place, share in ((3, 1.7), (2, 1.15)):  # of the lip's thickness
            off[list(rings[place][1:-1]), 1] = torch.lerp(outer, edge, share)
        assert (sign * (off[list(rings[2][1:-1]), 1] - edge) > 0).all()
    (shut,) = frames(picture, off, [0.0])
    assert white(shut).sum() <= 0.02 * white(picture).sum()


@pytest.mark.parametrize("off", [0.0, 0.03])
def test_a_small_blurred_smile_shuts_without_a_light_strip(off):
    """A camera blurs teeth over the lips' edges by pixels, which is much of a small lip."""
    scale, reach = 0.4, 3
    points = open_landmarks(0.5)
    picture = drawn(points, 1.0).permute(2, 0, 1)[None].float()
    picture = F.interpolate(picture, scale_factor=scale, mode="area")
    picture = F.avg_pool2d(F.pad(picture, (reach,) * 4, mode="replicate"), 2 * reach + 1, 1)[0]
    rest = LandmarkTrack.from_px(off_by(points, off)[None] * scale, *picture.shape[:0:-1], Fraction(25))
    picture = picture.round().to(torch.uint8).permute(1, 2, 0).contiguous()
    (shut,) = PortraitRenderer(Portrait(picture, rest, "small")).render(plan_landmarks(plan(rest, [0.0])))
    lips = points[list(topo.LIPS), :2] * scale
    (left, top), (right, bottom) = lips.amin(0).int().tolist(), lips.amax(0).int().tolist()
    middle = slice((left + right) // 2 - 5, (left + right) // 2 + 6)
    assert picture[top:bottom, middle, 2].max() > 200  # teeth
    assert shut[top:bottom, middle, 2].max() <= SKIN[2] + 1


@pytest.mark.parametrize("wider", [0.3, 0.7, 1.0])
def test_a_smile_that_opens_has_one_row_of_teeth(wider):
    points = open_landmarks(0.5)
    picture = drawn(points, 1.0)
    (frame,) = frames(picture, points, [wider])
    assert rows_of_teeth(frame, points) == 1


def test_teeth_stay_where_they_are_as_the_lips_move():
    points = open_landmarks(0.8)
    picture = drawn(points, 0.45)
    x = int(points[13, 0]) + 3
    for frame in frames(picture, points, [0.7, 0.8, 1.0]):
        teeth = torch.nonzero(white(frame)[:, x]).flatten()
        known = torch.nonzero(white(picture)[:, x]).flatten()
        assert abs(int(teeth.max()) - int(known.max())) <= 2


@pytest.mark.parametrize("opening", [0.1, 0.4, 0.8, 1.0])
def test_a_wide_mouth_has_no_more_rows_than_it_had(opening):
    points = open_landmarks(1.3)
    picture = drawn(points, 0.3, 0.2)
    assert rows_of_teeth(picture, points) == 2
    (frame,) = frames(picture, points, [opening])
    assert rows_of_teeth(frame, points) <= 2


@pytest.mark.parametrize("off", [-0.03, 0.0, 0.03])
def test_lips_end_where_the_picture_shows_it(off):
    points = open_landmarks(0.8)
    picture = drawn(points, 0.5)
    renderer = PortraitRenderer(Portrait(picture, track_of(points), "drawn"))
    edges = on_lip_edges(renderer._colours_at, off_by(points, off)[:, :2])
    true, width = Aperture.of(points[:, :2], MOUTH), float((points[308] - points[78])[:2].norm())
    for chain, outward in zip(MOUTH, (-1.0, 1.0), strict=True):
        beyond = outward * (edges[list(chain[2:-2]), 1] - points[list(chain[2:-2]), 1]) / width
        assert true.gap > 10
        assert (beyond > 0).all()  # on the lip
        assert (beyond < 0.045).all()  # but not far


def test_a_closed_mouth_keeps_its_painted_inside():
    points = canonical_face() * 110 + torch.tensor([200.0, 150.0, 0.0])
    renderer = PortraitRenderer(Portrait(drawn(points, 0.0), track_of(points), "drawn"))
    assert renderer.mouth.inside is None


def test_a_covered_mouth_shows_no_inside():
    points = open_landmarks(0.0)
    cloth = torch.tensor([140, 185, 205], dtype=torch.uint8)
    picture = drawn(points, 0.0)
    nose, chin = int(points[195, 1]), int(points[152, 1])
    picture[nose : chin + 20] = cloth
    for frame in frames(picture, points, [0.4, 1.0], covered=True):
        mouth = frame[int(points[2, 1]) : int(points[17, 1]) + 10, int(points[61, 0]) : int(points[291, 0])]
        assert (mouth.int() - cloth.int()).abs().max() <= 2


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_face_is_animated_as_an_upright_one(quarters):
    points = open_landmarks(0.5)
    picture = drawn(points, 1.0)
    middle = torch.tensor([SIDE / 2, SIDE / 2, 0.0])
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).matrix_power(quarters)  # rot90's way
    turned = (points - middle) @ turn + middle
    for upright, frame in zip(
        frames(picture, points, [0.0, 0.8]),
        frames(torch.rot90(picture, quarters).contiguous(), turned, [0.0, 0.8]),
        strict=True,
    ):
        back = torch.rot90(frame, -quarters)
        assert (upright != picture).any()
        assert ((back.int() - upright.int()).abs().amax(-1) > 24).float().mean() < 1e-3


@pytest.mark.parametrize(("grain", "share"), [(0.0, (0.75, 1.0)), (4.0, (0.0, 0.4))], ids=["drawn", "photographed"])
def test_the_inside_of_a_drawn_mouth_is_of_flat_colours(grain, share):
    """Darkness, one band of teeth, a tongue: no single teeth, no shading, as they are painted into photographs."""
    closed = open_landmarks(0.0)
    made = drawn(closed, 0.0).numpy() + np.random.default_rng(0).normal(0, grain, (SIDE, SIDE, 3))
    picture = torch.from_numpy(made.clip(0, 255).astype(np.uint8))
    renderer = PortraitRenderer(Portrait(picture, track_of(closed)), blinks=False)
    target = plan_landmarks(plan(track_of(closed), [0.8]))
    frame = next(renderer.render(target))
    mouth = Aperture.of(target.points_px[0, :, :2], MOUTH)
    u, v = mouth.axes_of(pixel_centres((0, 0, SIDE, SIDE)))
    top, bottom = mouth.edge_heights(u)
    inside = frame[(v > top + 3) & (v < bottom - 3) & (u.abs() < 0.35 * mouth.width)].int()
    colours, counts = inside.div(4, rounding_mode="floor").unique(dim=0, return_counts=True)
    assert len(inside) > 300
    assert share[0] <= float(counts.topk(min(3, len(counts))).values.sum() / counts.sum()) <= share[1]
