from fractions import Fraction

import pytest
import torch

from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.motion.rig import JAW_SHARE, WIDEST_GAP, face_axes, make_rig, plan_landmarks
from portraittalk_core.types import LandmarkTrack


def lip_gap(points: torch.Tensor) -> torch.Tensor:
    return (points[:, topo.INNER_LIP_BOTTOM] - points[:, topo.INNER_LIP_TOP]).norm(dim=1)


def ring(points: torch.Tensor, chain: tuple[int, ...]) -> torch.Tensor:
    return points[:, list(chain), :2]


def test_closed_mouth_of_a_smiling_portrait_has_no_gap(make_plan, astronaut):
    rest = lip_gap(astronaut.landmarks.points_px)
    closed = lip_gap(plan_landmarks(make_plan(opening=[0.0])).points_px)
    assert rest > 5  # the astronaut shows her teeth
    assert closed < 0.03 * rest


def test_mouth_opening_is_linear_in_the_curve(make_plan, astronaut):
    rig = make_rig(astronaut.landmarks)
    gaps = lip_gap(plan_landmarks(make_plan(opening=[0.0, 0.25, 0.5, 1.0])).points_px)
    widest = WIDEST_GAP * rig.mouth_width * rig.unit_px
    torch.testing.assert_close(gaps[1:] - gaps[0], widest * torch.tensor([0.25, 0.5, 1.0]), rtol=0.03, atol=0.05)


def test_jaw_drops_with_the_mouth_and_the_upper_face_stays(make_plan, astronaut):
    closed, wide = plan_landmarks(make_plan(opening=[0.0, 1.0])).points_px
    rig = make_rig(astronaut.landmarks)
    drop = (wide - closed)[topo.CHIN].norm() / (WIDEST_GAP * rig.mouth_width * rig.unit_px)
    assert float(drop) == pytest.approx(JAW_SHARE, rel=0.05)
    assert (wide - closed)[list(topo.RIGID)].abs().max() < 1e-3


def test_parted_lips_bend_nowhere_but_in_the_corners(make_plan):
    """The edges of an open mouth are arcs: no step where the corners sink and what is beside them does not."""
    rest = LandmarkTrack.from_px(canonical_face()[None] * 110 + 200, 400, 400, Fraction(25))
    points = plan_landmarks(make_plan(rest, opening=[1.0])).points_px[0]
    upper, lower = ring(points[None], topo.INNER_UPPER_LIP)[0], ring(points[None], topo.INNER_LOWER_LIP)[0]
    steps = torch.cat([upper, lower.flip(0)[1:-1]])  # clockwise, around the opening
    steps = steps.roll(-1, 0) - steps
    turns = torch.rad2deg(torch.atan2(steps[:, 0] * steps.roll(-1, 0)[:, 1] - steps[:, 1] * steps.roll(-1, 0)[:, 0],
                                      (steps * steps.roll(-1, 0)).sum(1)))  # fmt: skip
    corners = [len(upper) - 2, len(turns) - 1]
    assert (turns[corners] > 60).all()
    others = [place for place in range(len(turns)) if place not in corners]
    assert turns[others].max() < 40  # the lower lip's middle
    assert turns[others].min() > -10  # the upper lip's own bow


@pytest.mark.parametrize("opening", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("rounding", [0.0, 1.0])
@pytest.mark.parametrize("width", [-1.0, 0.0, 1.0])
def test_lip_rings_keep_their_order(make_plan, opening, rounding, width):
    points = plan_landmarks(make_plan(opening=[opening], rounding=[rounding], width=[width])).points_px
    axes, origin, _ = face_axes(points[0])
    down = ((points - origin) @ axes.T)[..., 1:2].expand(-1, -1, 2)
    for rings, sign in ((topo.UPPER_LIP_RINGS, 1), (topo.LOWER_LIP_RINGS, -1)):
        for outer, inner in zip(rings[:-1], rings[1:], strict=True):
            between = sign * (ring(down, inner) - ring(down, outer))[:, 3:-3, 0]
            assert between.min() > -0.2  # px: an inner ring never crosses the ring around it
    assert (ring(down, topo.INNER_LOWER_LIP) - ring(down, topo.INNER_UPPER_LIP))[..., 0].min() > -0.5


def test_width_spreads_and_rounding_narrows_the_mouth(make_plan):
    points = plan_landmarks(make_plan(width=[0.0, 1.0, 0.0], rounding=[0.0, 0.0, 1.0])).points_px
    rest, spread, rounded = (points[:, 291] - points[:, 61]).norm(dim=1)
    assert spread > 1.08 * rest
    assert rounded < 0.85 * rest


def test_press_closes_an_open_mouth(make_plan):
    gap = lip_gap(plan_landmarks(make_plan(opening=[0.8, 0.8], press=[0.0, 1.0])).points_px)
    assert gap[1] < 0.05 * gap[0]


def test_blink_brings_the_lids_together(make_plan):
    points = plan_landmarks(make_plan(blink=[0.0, 1.0])).points_px
    for upper, lower in ((topo.RIGHT_UPPER_LID, topo.RIGHT_LOWER_LID), (topo.LEFT_UPPER_LID, topo.LEFT_LOWER_LID)):
        gap = (ring(points, upper) - ring(points, lower)).norm(dim=-1)[:, 1:-1]
        assert gap[0].max() > 2
        assert gap[1].max() < 0.01


def test_head_turn_has_the_documented_signs(make_plan):
    turns = [[0.0, 0, 0], [8.0, 0, 0], [0, 8.0, 0], [0, 0, 8.0]]
    rest, pitch, yaw, roll = plan_landmarks(make_plan(angles_deg=turns)).points_px
    nose = topo.NOSE_TIP
    assert pitch[nose, 1] > rest[nose, 1] + 2  # looks down
    assert yaw[nose, 0] > rest[nose, 0] + 2  # turns to the viewer's right
    left, right = topo.LEFT_EYE_CORNERS[1], topo.RIGHT_EYE_CORNERS[0]
    assert roll[left, 1] - roll[right, 1] > rest[left, 1] - rest[right, 1] + 5  # clockwise


def test_locked_head_and_resting_face_repeat_the_portrait_above_the_mouth(make_plan, astronaut):
    points = plan_landmarks(make_plan(opening=[0.0])).points_px[0]
    torch.testing.assert_close(
        points[list(topo.RIGID)], astronaut.landmarks.points_px[0, list(topo.RIGID)], rtol=0, atol=1e-3
    )


def test_spans_join_to_the_whole(make_plan):
    plan = make_plan(opening=[0.0, 0.2, 0.9, 0.5, 0.1], blink=[0, 0.5, 1, 0.5, 0])
    whole = plan_landmarks(plan).points
    parts = torch.cat([plan_landmarks(plan, start, start + 2).points for start in (0, 2, 4)])
    torch.testing.assert_close(whole, parts)


def test_a_tilted_portrait_opens_along_its_own_axis(make_plan, astronaut):
    rest = astronaut.landmarks
    quarter = torch.tensor([[0.0, 1.0, 0], [-1.0, 0, 0], [0, 0, 1]])
    centre = torch.tensor([256.0, 256.0, 0])
    tilted = LandmarkTrack.from_px((rest.points_px - centre) @ quarter + centre, 512, 512, rest.fps)
    upright = plan_landmarks(make_plan(opening=[0.7])).points_px
    lying = plan_landmarks(make_plan(tilted, opening=[0.7])).points_px
    torch.testing.assert_close(lying, (upright - centre) @ quarter + centre, rtol=0, atol=0.02)


@pytest.mark.parametrize("gap", [0.1, 0.3, 0.6])
def test_wide_open_lips_close_without_swelling(gap):
    """They meet, at most half as thick again; the lower one does what a smile's gap exceeds."""
    points = canonical_face().clone() * 100 + 300
    lower = sorted({i for ring in topo.LOWER_LIP_RINGS for i in ring[1:-1]})
    points[lower, 1] += 100 * gap
    rig = make_rig(LandmarkTrack.from_px(points[None], 600, 600, Fraction(25)))
    shut = rig.rest + rig.close
    upper_way = float(rig.close[topo.INNER_LIP_TOP, 1])
    assert float((shut[topo.INNER_LIP_BOTTOM] - shut[topo.INNER_LIP_TOP])[1].abs()) < 1e-4
    assert 0 < upper_way < 0.12
    for outer, inner in ((0, 13), (17, 14)):
        before, after = (float((face[inner] - face[outer])[1].abs()) for face in (rig.rest, shut))
        assert after <= 1.51 * before


def test_a_blink_moves_no_brow():
    rig = make_rig(LandmarkTrack.from_px(canonical_face()[None] * 100 + 300, 600, 600, Fraction(25)))
    assert rig.shut[[*topo.RIGHT_BROW, *topo.LEFT_BROW]].abs().max() == 0
    assert rig.shut[[159, 386], 1].min() > 0.05


def test_rounding_levels_the_corners_of_a_smile(make_plan):
    """Rounded lips that keep a smile's corners are a V: they come in and down."""
    face = canonical_face()
    rig = make_rig(LandmarkTrack.from_px(face[None] * 100 + 300, 600, 600, Fraction(25)))
    smiling = LandmarkTrack.from_px((rig.rest + 0.12 * rig.smile)[None] * 100 + 300, 600, 600, Fraction(25))
    points = plan_landmarks(make_plan(smiling, opening=[0.2, 0.2], rounding=[0.0, 1.0])).points_px
    seam = points[:, [topo.INNER_LIP_TOP, topo.INNER_LIP_BOTTOM], 1].mean(1)
    smile, rounded = (seam - points[:, list(topo.MOUTH_CORNERS), 1].mean(1)).tolist()
    assert smile > 5
    assert abs(rounded) < 0.45 * smile
