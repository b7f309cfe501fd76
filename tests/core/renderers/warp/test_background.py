"""Lines behind a moving head, on a drawn head before stripes."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.renderers.contract import RenderJob
from portraittalk_core.renderers.warp.background import background_at, kept_motion
from portraittalk_core.renderers.warp.build import warped_pictures
from portraittalk_core.types import MOUTH_PARAMETERS, HeadPose, LandmarkTrack, MotionPlan, MouthCurves, Portrait

SIDE, PERIOD = 400, 20
POINTS = canonical_face() * 90 + torch.tensor([200.0, 170.0, 0.0])
OVAL = POINTS[list(topo.FACE_OVAL), :2]
HAIR = (int(OVAL[:, 0].min()) - 12, 60, int(OVAL[:, 0].max()) + 12, 330)


def drawn(stripes: str, hair=(80, 50, 30)) -> torch.Tensor:
    """(H, W, 3) a head before rows, columns or nothing."""
    picture = np.full((SIDE, SIDE, 3), 210, np.uint8)
    dark = np.arange(SIDE) % PERIOD < PERIOD // 2
    if stripes == "rows":
        picture[dark] = 120
    elif stripes == "columns":
        picture[:, dark] = 120
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    pen.ellipse(HAIR, fill=hair)
    pen.polygon([tuple(point) for point in OVAL.tolist()], fill=(205, 160, 135))
    pen.rectangle([120, 340, 280, 400], fill=(60, 60, 90))
    return torch.from_numpy(np.array(image))


def turned(picture: torch.Tensor, angles_deg: list[float]) -> torch.Tensor:
    rest = LandmarkTrack.from_px(POINTS[None], SIDE, SIDE, Fraction(25))
    zero = torch.zeros(1)
    head = HeadPose(torch.tensor([angles_deg]), torch.zeros(1, 3), torch.ones(1))
    mouth = MouthCurves(**{name: zero for name in MOUTH_PARAMETERS})
    track = plan_landmarks(MotionPlan(rest, mouth, zero, zero, head, Fraction(25)))
    (frame,) = warped_pictures(RenderJob.of_track(Portrait(picture, rest, "drawn"), track))
    return frame


EDGE = 90  # levels, between two rows of the picture
LEVELS = 12 + EDGE // 10  # a colour may come from a tenth of a pixel aside


@pytest.mark.parametrize("angles_deg", [[0.0, 2.0, 2.0], [2.0, 0.0, -3.0]])
def test_rows_beside_a_turned_head_stay_straight(angles_deg):
    picture = drawn("rows")
    frame = turned(picture, angles_deg)
    assert (frame != picture).float().mean() > 0.01
    beside = slice(100, 300)
    for columns in (slice(0, HAIR[0] - 14), slice(HAIR[2] + 14, SIDE)):
        assert (frame[beside, columns].int() - picture[beside, columns].int()).abs().max() <= LEVELS


def test_columns_above_a_turned_head_stay_straight():
    picture = drawn("columns")
    frame = turned(picture, [0.0, 3.0, 0.0])
    assert (frame[: HAIR[1] - 14].int() - picture[: HAIR[1] - 14].int()).abs().max() <= LEVELS


def grid() -> torch.Tensor:
    line = torch.linspace(0.5, SIDE - 0.5, 64)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)


def test_background_is_found_up_to_the_hair_and_not_within():
    nodes = grid()
    found = background_at(drawn("rows"), OVAL, nodes)
    (x0, y0, x1, y1), x, y = HAIR, nodes[..., 0], nodes[..., 1]
    inside = ((x - (x0 + x1) / 2) / (x1 - x0) * 2) ** 2 + ((y - (y0 + y1) / 2) / (y1 - y0) * 2) ** 2
    assert not (found & (inside < 0.97)).any()
    above_chin = y < float(OVAL[:, 1].max()) - 5
    assert found[(inside > 1.1) & above_chin & ((x < x0) | (x > x1))].float().mean() > 0.95


def test_a_plain_or_unknown_background_is_none():
    assert background_at(drawn("plain"), OVAL, grid()) is None
    noise = torch.randint(0, 255, (SIDE, SIDE, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert background_at(noise, OVAL, grid()) is None


def test_motion_along_the_outline_ends_and_motion_across_fades():
    nodes = grid()
    background = nodes[..., 0] > 200  # a head that fills the left half
    kept = kept_motion(background, nodes, 60.0)
    assert torch.equal(kept[~background], torch.eye(2).expand(int((~background).sum()), 2, 2))
    row = kept[32, 32:]
    across, along = row[:, 0, 0], row[:, 1, 1]
    assert (across.diff() <= 1e-6).all()
    assert 0.3 < float(across[int(30 / 6.3)]) < 0.7
    assert float(across[-1]) == 0
    assert (along[2:] < 0.05).all()
    assert row[:, 0, 1].abs().max() < 0.05
