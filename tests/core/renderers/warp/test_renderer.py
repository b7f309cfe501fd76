import dataclasses

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.face import topology as topo
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.renderers.warp.renderer import PortraitRenderer, check_same_shape
from portraittalk_core.types import LandmarkTrack, Portrait


def draw(portrait: Portrait, track: LandmarkTrack) -> list[torch.Tensor]:
    return list(PortraitRenderer(portrait).render(track))


def test_render_of_the_portraits_own_landmarks_changes_almost_nothing(astronaut):
    (drawn,) = draw(astronaut, astronaut.landmarks)
    difference = (drawn.float() - astronaut.picture.float()).abs()
    assert difference.mean() < 0.25
    assert drawn.dtype == torch.uint8
    assert drawn.shape == astronaut.picture.shape


def test_pixels_further_than_half_a_face_stay_untouched(astronaut, make_plan):
    drawn = draw(astronaut, plan_landmarks(make_plan(opening=[1.0], blink=[1.0], angles_deg=[[4.0, 5.0, 4.0]])))[0]
    points = astronaut.landmarks.points_px[0, :, :2]
    low, high = points.amin(0), points.amax(0)
    half = (high - low) / 2
    x0, y0 = (low - half).long().tolist()
    x1, y1 = (high + half).long().tolist()
    changed = (drawn != astronaut.picture).any(-1)
    assert changed.any()
    changed[y0:y1, x0:x1] = False
    assert not changed.any()


@pytest.mark.parametrize(
    "curves",
    [
        {"opening": [0.6]},
        {"blink": [1.0]},
        {"angles_deg": [[0.0, 0.0, 4.0]]},
        {"angles_deg": [[0.0, 4.0, 0.0]]},
        {"width": [1.0], "opening": [0.3]},
    ],
)
def test_landmarks_found_again_lie_where_they_were_sent(astronaut, make_plan, curves):
    from portraittalk_core.face.geometry import interocular_px
    from portraittalk_core.face.mesh.landmarks import find_portrait

    track = plan_landmarks(make_plan(**curves))
    found = find_portrait(draw(astronaut, track)[0]).landmarks.points_px
    error = (found - track.points_px)[0, :, :2].norm(dim=1).mean() / interocular_px(track.points_px)[0]
    moved = (astronaut.landmarks.points_px - track.points_px)[0, :, :2].norm(dim=1).mean() / 42
    assert error < 0.03
    assert error < 0.75 * moved or moved < 0.03


def test_an_open_mouth_shows_a_dark_inside_and_a_closed_one_does_not(astronaut, make_plan):
    track = plan_landmarks(make_plan(opening=[0.0, 1.0]))
    closed, wide = draw(astronaut, track)
    below_teeth = (0.3 * track.points_px[1, 13] + 0.7 * track.points_px[1, 14]).long()
    x, y = int(below_teeth[0]), int(below_teeth[1])
    assert wide[y, x].float().mean() < 0.7 * closed[y, x].float().mean()
    assert closed[y, x].float().mean() > 110


def test_a_blink_hides_the_iris(astronaut, make_plan):
    opened, shut = draw(astronaut, plan_landmarks(make_plan(blink=[0.0, 1.0])))
    for iris in (topo.RIGHT_IRIS[0], topo.LEFT_IRIS[0]):
        x, y = astronaut.landmarks.points_px[0, iris, :2].long().tolist()
        above = slice(y - 3, y + 1)
        assert shut[above, x].float().mean() > opened[above, x].float().mean() + 25


def test_frames_do_not_depend_on_how_the_track_is_cut(astronaut, make_plan):
    track = plan_landmarks(make_plan(opening=[0.1 * i for i in range(11)]))
    renderer = PortraitRenderer(astronaut)
    whole = list(renderer.render(track))
    parts = [p for start in (0, 3, 10) for p in renderer.render(track.slice(start, {0: 3, 3: 10, 10: 11}[start]))]
    assert len(whole) == len(parts) == 11
    for a, b in zip(whole, parts, strict=True):
        assert (a.int() - b.int()).abs().max() <= 1  # rounding of differently batched sums


@pytest.mark.parametrize(("width", "height"), [(128, 128), (301, 477), (1024, 640)])
def test_render_any_size(astronaut, make_plan, width, height):
    small = torch.nn.functional.interpolate(
        astronaut.picture[:320, :320].permute(2, 0, 1)[None].float(), size=(height, width), mode="area"
    )[0]
    picture = small.permute(1, 2, 0).round().to(torch.uint8).contiguous()
    points = astronaut.landmarks.points_px * torch.tensor([width / 320, height / 320, width / 320])
    rest = LandmarkTrack.from_px(points, width, height, astronaut.landmarks.fps)
    drawn = draw(Portrait(picture, rest), plan_landmarks(make_plan(rest, opening=[0.8], blink=[1.0])))
    assert drawn[0].shape == (height, width, 3)
    assert (drawn[0] != picture).any()


def test_a_face_cut_by_the_picture_edge_is_drawn(astronaut, make_plan):
    picture = astronaut.picture[100:300, 200:400].contiguous()
    points = astronaut.landmarks.points_px - torch.tensor([200.0, 100, 0])
    rest = LandmarkTrack.from_px(points, 200, 200, astronaut.landmarks.fps)
    drawn = draw(Portrait(picture, rest), plan_landmarks(make_plan(rest, opening=[0.8])))
    assert drawn[0].shape == (200, 200, 3)


def test_render_rejects_a_track_of_another_shape(astronaut):
    points = astronaut.landmarks
    wide = dataclasses.replace(points, width=1024, height=512)
    with pytest.raises(InputError, match="1024×512.*512×512"):
        draw(astronaut, wide)
    check_same_shape(dataclasses.replace(points, width=1024, height=1024), 512, 512)


def test_grey_portraits_stay_grey(astronaut, make_plan):
    grey = astronaut.picture.float().mean(-1, keepdim=True).expand(-1, -1, 3).to(torch.uint8).contiguous()
    drawn = draw(Portrait(grey, astronaut.landmarks), plan_landmarks(make_plan(opening=[1.0])))[0].float()
    assert (drawn.amax(-1) - drawn.amin(-1)).max() < 14
