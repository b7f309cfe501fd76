"""Eyes: saccades, directions, and what rendered frames show of them."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.mesh.landmarks import open_mesh
from portraittalk_core.face.mesh.search import detect_faces
from portraittalk_core.motion.gaze import EXAMPLE, EyeWander, Gaze, camera_deg, gaze_points, own_gaze_deg, saccade_s
from portraittalk_core.motion.options import STILL, MotionOptions
from portraittalk_core.motion.rig import make_rig, plan_landmarks
from portraittalk_core.motion.smoothing import frame_times_s
from portraittalk_core.renderers.warp.build import portrait_renderer
from portraittalk_core.renderers.warp.eyes import Eyes
from portraittalk_core.types import Portrait

YAWS, PITCHES = (-20.0, -10.0, 0.0, 10.0, 20.0), (-12.0, 0.0, 12.0)
RATE = Fraction(25)
BROWS_AND_LIDS = ((topo.RIGHT_BROW, topo.RIGHT_LOWER_LID), (topo.LEFT_BROW, topo.LEFT_LOWER_LID))


@pytest.fixture(scope="module")
def close_up(astronaut) -> Portrait:
    """The astronaut's face, three times as large."""
    from portraittalk_core.face.mesh.landmarks import find_portrait

    head = astronaut.picture[20:220, 120:320].permute(2, 0, 1)[None].float()
    large = torch.nn.functional.interpolate(head, scale_factor=2.4, mode="bicubic").clamp(0, 255)
    return find_portrait(large[0].permute(1, 2, 0).round().to(torch.uint8).contiguous())


@pytest.fixture(scope="module")
def renderer(close_up):
    return portrait_renderer(close_up)


@pytest.fixture(scope="module")
def eyes(renderer) -> Eyes:
    return next(one for one in renderer.painters if isinstance(one, Eyes))


@pytest.fixture(scope="module")
def looking(close_up, renderer):
    """Pictures of eyes that look aside and of raised brows; their landmarks as the mesh finds them, and as asked."""
    from portraittalk_core.types import HeadPose, MotionPlan, MouthCurves

    gaze = torch.tensor([*((yaw, 0.0) for yaw in YAWS), *((0.0, pitch) for pitch in PITCHES), (0.0, 0.0)])
    count, rest = len(gaze), torch.zeros(len(gaze))
    brows = torch.zeros(count)
    brows[-1] = 1.0
    head = HeadPose(torch.zeros(count, 3), torch.zeros(count, 3), torch.ones(count))
    plan = MotionPlan(close_up.landmarks, MouthCurves.closed(count), rest, brows, head, RATE, gaze=gaze)
    track = plan_landmarks(plan)
    pictures = list(renderer.render(track))
    with open_mesh() as mesh:
        found = [detect_faces(picture, mesh, thorough=False)[0] for picture in pictures]
    return pictures, torch.stack(found), track


def pupils(found: torch.Tensor) -> torch.Tensor:
    """(T, 2) where the pupils stand between the eyes' corners, of the distance from corner to corner."""
    places = []
    for iris, corners in ((topo.RIGHT_IRIS, topo.RIGHT_EYE_CORNERS), (topo.LEFT_IRIS, topo.LEFT_EYE_CORNERS)):
        right, left = found[:, corners[0], :2], found[:, corners[1], :2]
        along, aside = left - right, found[:, iris[0], :2] - (left + right) / 2
        square = (along**2).sum(1)
        across = torch.stack([-along[:, 1], along[:, 0]], 1)
        places.append(torch.stack([(aside * along).sum(1), (aside * across).sum(1)], 1) / square[:, None])
    return torch.stack(places).mean(0)


@pytest.mark.slow
def test_the_mesh_sees_eyes_look_where_they_are_told(looking):
    aside, down = pupils(looking[1]).unbind(1)
    aside, down = aside[: len(YAWS)], down[len(YAWS) : -1]
    assert bool((aside.diff() > 0.015).all()) and bool((down.diff() > 0.01).all())
    # 10.4 mm behind the cornea's centre of rotation, of an eye 29 mm wide
    expected = 10.4 / 29 * (math.sin(math.radians(20)) - math.sin(math.radians(-20)))
    assert 0.5 * expected < float(aside[-1] - aside[0]) < 1.3 * expected


@pytest.mark.slow
def test_brows_of_a_stressed_syllable_are_seen_to_rise(looking):
    found = looking[1][[YAWS.index(0.0), -1]]
    unit = float((found[0, topo.LEFT_EYE_CORNERS[0], 0] - found[0, topo.RIGHT_EYE_CORNERS[1], 0]).abs())
    heights = [found[:, list(brow), 1].mean(1) - found[:, list(lid), 1].mean(1) for brow, lid in BROWS_AND_LIDS]
    assert all(0.03 * unit < float(height[0] - height[1]) < 0.25 * unit for height in heights)


@pytest.mark.slow
def test_only_what_is_between_the_lids_changes_and_nothing_at_rest(close_up, renderer, eyes, looking):
    pictures, _, track = looking
    rest, aside = pictures[YAWS.index(0.0)], pictures[YAWS.index(20.0)]
    lids = close_up.landmarks.points_px[0, list(topo.EYELIDS), :2]
    (x0, y0), (x1, y1) = (lids.amin(0) - 3).long().tolist(), (lids.amax(0) + 4).long().tolist()
    changed = (rest.int() - aside.int()).abs().amax(-1)
    assert int(changed[y0:y1, x0:x1].max()) > 40
    changed[y0:y1, x0:x1] = 0
    assert int(changed.max()) == 0
    renderer.painters.remove(eyes)
    (unpainted,) = renderer.render(track.slice(YAWS.index(0.0), YAWS.index(0.0) + 1))
    renderer.painters.insert(0, eyes)
    assert torch.equal(rest, unpainted)


def test_eyes_stay_where_they_are_in_a_head_that_only_turns(close_up, eyes):
    from portraittalk_core.types import HeadPose, MotionPlan, MouthCurves

    angles = torch.tensor([[3.0, 8.0, -4.0], [-5.0, -9.0, 6.0]])
    head = HeadPose(angles, torch.full((2, 3), 0.05), torch.ones(2))
    rest = torch.zeros(2)
    track = plan_landmarks(MotionPlan(close_up.landmarks, MouthCurves.closed(2), rest, rest, head, RATE))
    assert len(eyes.shown) == 2
    assert float(eyes.moves_px(track.points_px[..., :2]).abs().max()) < 0.01


def test_eyes_behind_dark_glasses_have_nothing_to_move(close_up):
    picture = close_up.picture.clone()
    lids = close_up.landmarks.points_px[0, list(topo.EYELIDS), :2]
    (x0, y0), (x1, y1) = (lids.amin(0) - 12).long().tolist(), (lids.amax(0) + 12).long().tolist()
    picture[y0:y1, x0:x1] = 20
    region = picture.permute(2, 0, 1)[None].float()
    box = (0, 0, picture.shape[1], picture.shape[0])
    assert not Eyes(region, box, close_up.landmarks.points_px[0]).shown


def test_saccades_follow_the_main_sequence_and_conversations(astronaut):
    assert saccade_s(10) == pytest.approx(0.043)  # 2.2 ms a degree and 21 ms
    rate = 125.0
    times = frame_times_s(int(400 * rate), rate)
    shares, quick = {}, []
    for talks in (True, False):
        way = EyeWander(3).at(times, torch.full((len(times),), talks))
        shares[talks] = float((way.norm(dim=1) < 1.4).float().mean())
        speed = (way.diff(dim=0).norm(dim=1) * rate).numpy()
        quick.append(speed.max())
    # Lee et al. 2002: 3.1 s at the other and 0.93 s away while talking, 7.9 and 0.43 s while listening
    assert shares[True] == pytest.approx(3.1 / (3.1 + 0.93), abs=0.06)
    assert shares[False] == pytest.approx(7.9 / (7.9 + 0.43), abs=0.03)
    assert 150 < max(quick) < 600  # degrees a second, of saccades up to 24°


def test_pieces_of_a_stream_look_where_the_whole_clip_does(astronaut):
    times, talks = frame_times_s(500, RATE), torch.arange(500) % 90 < 60
    whole = EyeWander(1).at(times, talks)
    wander = EyeWander(1)
    pieces = [wander.at(times[start:stop], talks[start:stop]) for start, stop in ((0, 1), (1, 120), (120, 500))]
    assert torch.equal(torch.cat(pieces), whole)
    assert not torch.equal(EyeWander(2).at(times, talks), whole)


def directed(astronaut, times, **options) -> torch.Tensor:
    rig = make_rig(astronaut.landmarks)
    head = torch.zeros(len(times), 3)
    return Gaze(MotionOptions(**options), rig.rest, rig.axes).at(times, torch.ones(len(times), dtype=torch.bool), head)


def test_gaze_points_are_joined_and_added_to_the_direction(astronaut):
    points = tuple(gaze_points("[[2, 10, -5], [0, 0, 0], [1, 4, 0], [1, 0, 0]]"))
    times = torch.tensor([0.0, 0.5, 0.999999, 1.0, 1.5, 9.0], dtype=torch.float64)
    still = directed(astronaut, times, eye_motion=0.0, gaze_yaw=2.0, gaze_points=points)
    expected = torch.tensor([[0, 0], [2, 0], [4, 0], [0, 0], [5, -2.5], [10, -5.0]]) + torch.tensor([2.0, 0.0])
    torch.testing.assert_close(still, expected, rtol=0, atol=1e-3)


def test_eyes_at_the_camera_look_against_the_heads_turn(astronaut):
    rig = make_rig(astronaut.landmarks)
    angle = math.radians(12)
    about_y = torch.tensor([[math.cos(angle), 0, -math.sin(angle)], [0, 1, 0], [math.sin(angle), 0, math.cos(angle)]])
    turned = camera_deg(rig.axes @ about_y.T) - camera_deg(rig.axes)
    assert float(turned[0]) == pytest.approx(-12, abs=0.5) and abs(float(turned[1])) < 0.5
    times = torch.tensor([1.0], dtype=torch.float64)
    looking = directed(astronaut, times, eye_motion=0.0, gaze="camera")[0]
    torch.testing.assert_close(looking + own_gaze_deg(rig.rest), camera_deg(rig.axes), rtol=0, atol=1e-3)


def test_moving_eyes_stay_on_their_target_as_the_head_turns(astronaut):
    rig = make_rig(astronaut.landmarks)
    times, talks = frame_times_s(2, RATE), torch.ones(2, dtype=torch.bool)
    heads = torch.zeros(2, 3), torch.tensor([[2.0, 3.0, 1.0]]).expand(2, 3)
    still, turned = (Gaze(MotionOptions(), rig.rest, rig.axes).at(times, talks, head) for head in heads)
    torch.testing.assert_close(turned - still, torch.tensor([[-3.0, -2.0]]).expand(2, 2), rtol=0, atol=1e-4)


def test_nothing_moves_the_eyes_of_a_still_face(astronaut):
    rig = make_rig(astronaut.landmarks)
    assert not Gaze(replace(MotionOptions(), **STILL), rig.rest, rig.axes).moves


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[0, 1]]", r"gaze point 1 must be \[seconds, yaw, pitch\]"),
        ("[[0, 31, 0]]", "gaze point 1 must have a yaw from -30 to 30 degrees, not 31"),
        ("[[0, 3, -21]]", "a pitch from -20 to 20 degrees, not -21"),
        ("[[-1, 0, 0]]", "must be at 0 s or later"),
        ('[[0, "left", 0]]', "a yaw from -30 to 30"),
        ("{}", "a list of at most"),
    ],
)
def test_what_is_no_gaze_point_is_told(text, message):
    with pytest.raises(InputError, match=message):
        gaze_points(text)


def test_the_example_is_one():
    assert gaze_points(EXAMPLE) == [(0.0, 0.0, 0.0), (2.5, 12.0, -3.0)]
