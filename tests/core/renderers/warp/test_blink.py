"""Blinks on a drawn face with glasses: the lids move, the rims and the brows do not."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from portraittalk_core.face import topology as topo
from portraittalk_core.face.aperture import LEFT_EYE, RIGHT_EYE, Aperture
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import rotation_matrix
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.renderers.contract import RenderJob
from portraittalk_core.renderers.warp.build import warped_pictures
from portraittalk_core.renderers.warp.lid_painter import LidPainter
from portraittalk_core.renderers.warp.renderer import PortraitRenderer
from portraittalk_core.types import MOUTH_PARAMETERS, HeadPose, LandmarkTrack, MotionPlan, MouthCurves, Portrait

SIDE, FINE = 400, 4
SKIN, WHITE, BROW = (205, 160, 135), (250, 250, 250), (70, 45, 30)
POINTS = canonical_face() * 110 + torch.tensor([200.0, 180.0, 0.0])
REST = LandmarkTrack.from_px(POINTS[None], SIDE, SIDE, Fraction(25))


def blinking(values: list[float]) -> LandmarkTrack:
    zeros, count = torch.zeros(len(values)), len(values)
    head = HeadPose(torch.zeros(count, 3), torch.zeros(count, 3), torch.ones(count))
    mouth = MouthCurves(**{name: zeros for name in MOUTH_PARAMETERS})
    return plan_landmarks(MotionPlan(REST, mouth, torch.tensor(values), zeros, head, Fraction(25)))


def drawn(larger: float = 1.0, rim: float = 0.0) -> torch.Tensor:
    """(H, W, 3) a face; its eyes may be larger than its lids; a rim lies so many openings above them."""
    picture = Image.new("RGB", (SIDE * FINE, SIDE * FINE), (90, 100, 120))
    pen = ImageDraw.Draw(picture)

    def places(points: torch.Tensor) -> list[tuple[float, float]]:
        return [tuple(point) for point in (points[:, :2] * FINE).tolist()]

    pen.polygon(places(POINTS[list(topo.FACE_OVAL)]), fill=SKIN)
    for brow in (topo.RIGHT_BROW, topo.LEFT_BROW):
        pen.polygon(places(POINTS[list(brow[:5] + brow[5:][::-1])]), fill=BROW)
    for upper, lower in (RIGHT_EYE, LEFT_EYE):
        outline = POINTS[list(upper + lower[::-1])]
        middle = outline.mean(0)
        pen.polygon(places((outline - middle) * torch.tensor([larger, 2 * larger - 1, 1]) + middle), fill=WHITE)
        if rim:
            y = rim_height(upper, lower, rim) * FINE
            x0, x1 = (float(POINTS[i, 0]) * FINE for i in (upper[0], upper[-1]))
            pen.rectangle([x0 - 40, y - 2 * FINE, x1 + 40, y], fill=(10, 10, 10))
    return torch.from_numpy(np.array(picture.reduce(FINE)))


def rim_height(upper: tuple[int, ...], lower: tuple[int, ...], rim: float) -> float:
    """Of a rim's lower edge in the picture."""
    gap = Aperture.of(POINTS[:, :2], (upper, lower)).gap
    return float(POINTS[list(upper), 1].min()) - rim * gap


def whites(picture: torch.Tensor) -> int:
    return int((picture.float().mean(-1) > 225).sum())


def test_a_blink_shuts_the_eyes():
    picture = drawn()
    (shut,) = PortraitRenderer(Portrait(picture, REST)).render(blinking([1.0]))
    assert whites(picture) > 400
    assert whites(shut) < 0.03 * whites(picture)


@pytest.mark.parametrize("blink", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("rim", [0.6, 0.9, 1.2])
def test_a_blink_leaves_rims(blink, rim):
    picture = drawn(rim=rim)
    (frame,) = PortraitRenderer(Portrait(picture, REST)).render(blinking([blink]))
    for upper, lower in (RIGHT_EYE, LEFT_EYE):
        y = round(rim_height(upper, lower, rim))
        for point in upper[2:-2]:
            x = int(POINTS[point, 0])
            before, after = (rows_of(one, x, y) for one in (picture, frame))
            assert abs(after - before) < 1.0


@pytest.mark.parametrize("blink", [0.4, 0.6])
def test_lids_close_evenly_along_a_smooth_curve(blink):
    (frame,) = PortraitRenderer(Portrait(drawn(), REST)).render(blinking([blink]))
    light, opened = frame.float().mean(-1), []
    for chains in (RIGHT_EYE, LEFT_EYE):
        eye = Aperture.of(POINTS[:, :2], chains)
        columns = range(int(eye.origin[0] - 0.3 * eye.width), int(eye.origin[0] + 0.3 * eye.width))
        rows = slice(int(eye.origin[1] - eye.gap), int(eye.origin[1] + eye.gap))
        white = (light[rows, columns] - 160).clamp(0, 90) / 90
        rest = (drawn().float().mean(-1)[rows, columns] - 160).clamp(0, 90) / 90
        opened.append(float(white.sum() / rest.sum()))
        # the lid's edge is where the white begins: a parabola fits it
        edge = (white > 0.3).double().argmax(0).double()
        x = torch.linspace(-1, 1, len(columns), dtype=torch.float64)
        basis = torch.stack([torch.ones_like(x), x, x * x], 1)
        assert float((basis @ torch.linalg.lstsq(basis, edge[:, None]).solution - edge[:, None]).abs().max()) < 1.6
    assert opened[0] == pytest.approx(opened[1], abs=0.06)
    assert opened[0] == pytest.approx(1 - blink, abs=0.2)


def test_the_lash_line_moves_with_the_lid():
    picture = Image.fromarray(drawn().numpy())
    pen = ImageDraw.Draw(picture)
    for upper, _ in (RIGHT_EYE, LEFT_EYE):
        pen.line([tuple(point) for point in POINTS[list(upper), :2].tolist()], fill=(20, 15, 15), width=3)
    (frame,) = PortraitRenderer(Portrait(torch.from_numpy(np.array(picture)), REST)).render(blinking([1.0]))
    for upper, lower in (RIGHT_EYE, LEFT_EYE):
        middle = len(upper) // 2
        x, top, bottom = int(POINTS[upper[middle], 0]), int(POINTS[upper[middle], 1]), int(POINTS[lower[middle], 1])
        column = frame[:, x].float().mean(-1)
        assert column[top - 3 : top + 3].min() > 120  # skin where it was
        assert column[bottom - 3 : bottom + 5].min() < 90  # the line where the lids meet


def rows_of(picture: torch.Tensor, x: int, y: int) -> float:
    """Height of the middle of a dark bar near (x, y)."""
    column = 255 - picture[y - 8 : y + 9, x].float().mean(-1)
    weight = (column - 150).clamp(min=0)
    return float((weight * torch.arange(17)).sum() / weight.sum())


def test_a_blink_leaves_brows():
    picture = drawn()
    (frame,) = PortraitRenderer(Portrait(picture, REST)).render(blinking([1.0]))
    brows = (picture.float().mean(-1) < 80).float()
    after = (frame.float().mean(-1) < 80).float()
    top = slice(0, int(POINTS[list(topo.RIGHT_BROW + topo.LEFT_BROW), 1].max()) + 3)
    assert brows[top].sum() > 300
    assert (brows[top] - after[top]).abs().sum() < 0.06 * brows[top].sum()


def test_large_drawn_eyes_do_not_blink():
    picture = drawn(larger=2.2)
    portrait = Portrait(picture, REST)
    (frame,) = warped_pictures(RenderJob.of_track(portrait, blinking([1.0])))
    assert (frame.int() - picture.int()).abs().max() <= 2
    (usual,) = warped_pictures(RenderJob.of_track(Portrait(drawn(), REST), blinking([1.0])))
    assert whites(usual) < 0.03 * whites(drawn())


def test_frames_without_blinks_do_not_depend_on_their_neighbours():
    renderer = PortraitRenderer(Portrait(drawn(), REST))
    alone = list(renderer.render(blinking([0.0])))[0]
    beside = list(renderer.render(blinking([0.0, 1.0])))[0]
    assert (alone.int() - beside.int()).abs().max() <= 1


@pytest.mark.parametrize("grain", [0.0, 4.0])
def test_a_shut_lid_has_the_grain_of_the_skin(grain):
    """Film grain of a known deviation all over the picture: a lid without it is a flat patch."""
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, grain, (SIDE, SIDE, 1)))
    picture = (drawn().double() + noise).round().clamp(0, 255).to(torch.uint8)
    (shut,) = PortraitRenderer(Portrait(picture, REST)).render(blinking([1.0]))
    for upper, lower in (RIGHT_EYE, LEFT_EYE):
        x, top, bottom = int(POINTS[upper[4], 0]), int(POINTS[upper[4], 1]), int(POINTS[lower[4], 1])
        lid = shut[top + 2 : bottom - 8, x - 12 : x + 12].double().mean(-1)
        differences = lid.diff(dim=1).std() / 2**0.5  # of neighbours, so that shading does not count
        assert 0.4 * grain <= float(differences) <= 1.2 * grain + 0.6


def small_blink(
    scale: float, roll_deg: float, narrow: float = 0.0, shade: tuple[int, int, int] | None = None
) -> tuple[torch.Tensor, ...]:
    """A small tilted face with lash lines, shut; its lower lids' edges (2, N, 2); and how it was before.

    Its eyes may be narrower, and what is above them may have a shade.
    """
    turn, points = rotation_matrix(torch.tensor([[0.0, 0.0, roll_deg]]))[0].T, canonical_face() * 110
    for upper, lower in (RIGHT_EYE, LEFT_EYE):
        points[list(upper)] = torch.lerp(points[list(upper)], points[list(lower)], narrow)
    points, side = points @ turn + torch.tensor([200.0, 180.0, 0.0]), round(SIDE * scale)
    picture = Image.new("RGB", (SIDE * FINE, SIDE * FINE), SKIN)
    pen = ImageDraw.Draw(picture)
    for upper, lower in (RIGHT_EYE, LEFT_EYE):
        edge, beneath = (points[list(chain), :2] * FINE for chain in (upper, lower))
        if shade:
            x0, x1, y = edge[0, 0] - 40, edge[-1, 0] + 40, float(edge[:, 1].max())
            pen.rectangle([float(x0), y - 260, float(x1), y], fill=shade)
        pen.polygon([tuple(point) for point in torch.cat([edge, beneath.flip(0)]).tolist()], fill=WHITE)
        pen.line([tuple(point) for point in edge.tolist()], fill=(20, 15, 15), width=3 * FINE)
    picture = torch.from_numpy(np.array(picture.resize((side, side), Image.BOX)))
    rest = LandmarkTrack.from_px(points[None] * scale, side, side, Fraction(25))
    zero, one = torch.zeros(1), torch.ones(1)
    mouth = MouthCurves(**{name: zero for name in MOUTH_PARAMETERS})
    head = HeadPose(torch.zeros(1, 3), torch.zeros(1, 3), one)
    track = plan_landmarks(MotionPlan(rest, mouth, one, zero, head, Fraction(25)))
    (shut,) = PortraitRenderer(Portrait(picture, rest)).render(track)
    return shut, torch.stack([points[list(lower), :2] * scale for _, lower in (RIGHT_EYE, LEFT_EYE)]), picture


def test_a_small_tilted_lash_line_has_no_beads():
    shut, edges, _ = small_blink(0.75, -17.0)
    for edge in edges:
        middle = edge[2:-2]  # of the lid's way across the eye
        columns = range(int(middle[:, 0].min()), int(middle[:, 0].max()))
        rows = slice(int(edge[:, 1].min()) - 4, int(edge[:, 1].max()) + 6)
        # how much darkness each column holds: beads make it go up and down
        dark = (150 - shut[rows, columns].float().mean(-1)).clamp(min=0).sum(0)
        assert dark.min() > 20
        assert float(dark.diff().diff().abs().mean() / dark.mean()) < 0.4


def test_a_narrow_eyes_lid_begins_in_the_colour_of_what_is_above_it():
    shut, edges, before = small_blink(0.8, 0.0, 0.6, (175, 130, 110))
    for edge in edges:
        x, low = int(edge[:, 0].mean()), int(edge[:, 1].max())
        column = shut[low - 40 : low - 5, x - 2 : x + 3].float().mean((1, 2))
        assert before[low - 40, x].float().mean() == pytest.approx(138, abs=3)
        assert column.diff().abs().max() < 8


def test_a_shut_lid_is_lit_as_the_skin_around_it():
    """Light that grows downwards by half a level each pixel grows so on the lid as well."""
    light = 0.5 * (torch.arange(SIDE) - 180.0)[:, None, None]
    lit = (drawn() + light).round().clamp(0, 255).to(torch.uint8)
    dim, bright = (
        list(PortraitRenderer(Portrait(picture, REST)).render(blinking([1.0])))[0].double().mean(-1)
        for picture in (drawn(), lit)
    )
    for upper, lower in (RIGHT_EYE, LEFT_EYE):
        x, top, bottom = int(POINTS[upper[4], 0]), int(POINTS[upper[4], 1]), int(POINTS[lower[4], 1])
        rows, columns = slice(top, bottom - 4), slice(x - 8, x + 8)
        difference = (bright - dim)[rows, columns].mean(1)
        heights = torch.arange(len(difference), dtype=torch.float64)
        basis = torch.stack([heights, torch.ones_like(heights)], 1)
        assert float(torch.linalg.lstsq(basis, difference[:, None]).solution[0]) == pytest.approx(0.5, abs=0.2)


def test_a_shut_eyes_lash_line_thins_out_at_its_ends():
    """A line as dark there as in the middle, beside the lashes that stay, looks like a rim around the lid."""
    shut, edges, _ = small_blink(1.0, 0.0)
    for edge in edges:
        left, right = int(edge[0, 0]), int(edge[-1, 0])
        rows, end = slice(int(edge[:, 1].max()) - 25, int(edge[:, 1].max()) + 8), round(0.12 * (right - left))
        dark = (140 - shut[rows, left : right + 1].float().mean(-1)).clamp(min=0).sum(0)
        middle = dark[2 * end : -2 * end].median()
        assert middle > 100
        assert max(dark[:end].max(), dark[-end:].max()) < 1.25 * middle


def test_a_shut_lid_is_lightest_where_the_eyeball_bulges():
    shut, edges, _ = small_blink(1.0, 0.0)
    for edge in edges:
        x, y, aside = int(edge[:, 0].mean()), int(edge[:, 1].mean()) - 6, round(0.36 * float(edge[-1, 0] - edge[0, 0]))
        row = shut[y - 1 : y + 2].double().mean((0, 2))
        middle, left, right = (row[at - 1 : at + 2].mean() for at in (x, x - aside, x + aside))
        assert middle - max(left, right) > 4


@pytest.mark.parametrize("yaw_deg", [-75.0, 75.0])
def test_a_profiles_hidden_eye_is_not_painted(yaw_deg):
    points = canonical_face() * 110 @ rotation_matrix(torch.tensor([[0.0, yaw_deg, 0.0]]))[0].T + POINTS[1]
    lids = LidPainter(
        points[:, :2].contiguous(), [], lambda at: torch.full((*at.shape[:-1], 3), 128.0), (0, 0, 400, 400)
    )
    head = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    targets = points[None, :, :2].clone()
    for upper, lower in (RIGHT_EYE, LEFT_EYE):
        targets[:, list(upper)] = targets[:, list(lower)]
    _, shut = lids.held_open(targets, head[None])
    near = int(points[[263, 33], 2].argmin())  # z leads away from the viewer: 0 is the left eye
    assert shut[0, 1 - near] > 0.9
    assert shut[0, near] == 0


def creased(rises: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A face with creases so many eye widths above its lids, a third darker than the skin, and the same one shut."""
    picture, width = Image.fromarray(drawn().numpy()), Aperture.of(POINTS[:, :2], RIGHT_EYE).width
    pen, shade = ImageDraw.Draw(picture), tuple(round(0.67 * level) for level in SKIN)
    for upper, _ in (RIGHT_EYE, LEFT_EYE):
        line = POINTS[list(upper[2:-2]), :2] - torch.tensor([0.0, rises * width])
        pen.line([tuple(point) for point in line.tolist()], fill=shade, width=3)
    picture = torch.from_numpy(np.array(picture))
    (shut,) = PortraitRenderer(Portrait(picture, REST)).render(blinking([1.0]))
    return picture, shut


def test_the_crease_above_an_eye_smooths_out_as_its_lid_shuts():
    before, shut = creased(0.12)
    width = Aperture.of(POINTS[:, :2], RIGHT_EYE).width
    for upper, _ in (RIGHT_EYE, LEFT_EYE):
        x, y = int(POINTS[upper[4], 0]), int(POINTS[upper[4], 1] - 0.12 * width)
        depths = [float(166.7 - one[y - 4 : y + 5, x].float().mean(-1).min()) for one in (before, shut)]
        assert depths[0] > 40
        assert depths[1] < 0.25 * depths[0]


@pytest.mark.parametrize("thick", [2, 6])
def test_a_shut_eyes_lash_line_is_as_thick_as_the_open_ones(thick):
    """A line so many pixels thick holds as much darkness where it comes to rest."""
    picture = Image.fromarray(drawn().numpy())
    pen = ImageDraw.Draw(picture)
    for upper, _ in (RIGHT_EYE, LEFT_EYE):
        line = POINTS[list(upper), :2] - torch.tensor([0.0, thick / 2])
        pen.line([tuple(point) for point in line.tolist()], fill=(20, 15, 15), width=thick)
    (shut,) = PortraitRenderer(Portrait(torch.from_numpy(np.array(picture)), REST)).render(blinking([1.0]))
    for _, lower in (RIGHT_EYE, LEFT_EYE):
        x, y = int(POINTS[lower[4], 0]), int(POINTS[lower[4], 1])
        dark = (160 - shut[y - 8 : y + 9, x - 3 : x + 4].float().mean((1, 2))).clamp(min=0).sum()
        assert 0.6 < float(dark) / (thick * (160 - 16.7)) < 1.8
