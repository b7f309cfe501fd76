"""Head placement: closed forms under shift, scale and turn; following within a limit; placing landmarks."""

import math
from fractions import Fraction

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.renderers.animatenet.head_placement import follow, place, placements
from portraittalk_core.types import LandmarkTrack

WIDTH, HEIGHT = 640, 400
OVAL = (
    "10 338 297 332 284 251 389 356 454 323 361 288 397 365 379 378 400 377 152 148 176 149 150 136 172 58 132 93 234 "
)
OVAL += "127 162 21 54 103 67 109"
OVAL_POINTS = [int(index) for index in OVAL.split()]


def face_px(num_frames: int = 1, centre: tuple[float, float] = (300.0, 210.0), unit: float = 40.0) -> torch.Tensor:
    """(T, 478, 3) pixels of an upright canonical face."""
    points = canonical_face().double()
    points = (points - points.mean(0)) / points[:, 0].std() * unit + torch.tensor([*centre, 0.0])
    return points.expand(num_frames, -1, -1).clone()


def turned(points: torch.Tensor, degrees: float, about: tuple[float, float]) -> torch.Tensor:
    angle, pivot = math.radians(degrees), torch.tensor([*about, 0.0], dtype=points.dtype)
    turn = [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    return (points - pivot) @ torch.tensor(turn, dtype=points.dtype).T + pivot


def track_of(points_px: torch.Tensor) -> LandmarkTrack:
    return LandmarkTrack.from_px(points_px, WIDTH, HEIGHT, Fraction(25))


def placement_of(points_px: torch.Tensor) -> torch.Tensor:
    return placements(track_of(points_px))[0]


def assert_near(first: torch.Tensor, second: torch.Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(first.double(), second.double(), rtol=0, atol=tolerance)


def walk(num_frames: int, seed: int = 0) -> torch.Tensor:
    """(T, 6) placements that jump about."""
    generator = torch.Generator().manual_seed(seed)
    box = torch.rand(num_frames, 4, generator=generator) * 0.5 + 0.25
    roll = torch.randn(num_frames, 1, generator=generator) * 0.4
    return torch.cat([box, roll.sin(), roll.cos()], 1)


# Placement of a face --------------------------------------------------------------------------------------------------


def test_placements_of_an_upright_face_are_the_ovals_box():
    points = face_px()
    right, left = points[0, 33, :2].numpy(), points[0, 263, :2].numpy()
    assert abs(left[1] - right[1]) < 1e-4  # upright, so the box is the plain one
    low, high = points[0, OVAL_POINTS, :2].amin(0), points[0, OVAL_POINTS, :2].amax(0)
    size = torch.tensor([WIDTH, HEIGHT])
    expected = torch.cat([(low + high) / 2 / size, (high - low) / size, torch.tensor([0.0, 1.0])])
    assert_near(placement_of(points), expected)


def test_placements_shift_moves_only_the_middle():
    moved = placement_of(face_px() + torch.tensor([32.0, -20.0, 0.0])) - placement_of(face_px())
    assert_near(moved, torch.tensor([32 / WIDTH, -20 / HEIGHT, 0, 0, 0, 0]))


def test_placements_scale_moves_only_the_size():
    first = placement_of(face_px())
    middle = torch.cat([first[:2].double() * torch.tensor([WIDTH, HEIGHT]), torch.zeros(1)])
    moved = placement_of((face_px() - middle) * 1.3 + middle)
    assert_near(moved, first * torch.tensor([1, 1, 1.3, 1.3, 1, 1]))


@pytest.mark.parametrize("degrees", [25, -70, 170])
def test_placements_turn_moves_only_the_roll(degrees):
    first = placement_of(face_px())
    about = tuple((first[:2].double() * torch.tensor([WIDTH, HEIGHT])).tolist())
    moved = placement_of(turned(face_px(), degrees, about))
    roll = math.radians(degrees)
    assert_near(moved, torch.cat([first[:4], torch.tensor([math.sin(roll), math.cos(roll)])]))


def test_placements_are_of_each_frame_alone():
    points = torch.cat([turned(face_px(), n * 10.0, (300.0, 200.0)) for n in range(4)])
    assert placements(track_of(points)).shape == (4, 6)
    assert torch.equal(placements(track_of(points))[2], placement_of(points[2:3]))


# Following ------------------------------------------------------------------------------------------------------------


def test_follow_a_still_driver_is_constant():
    start = placement_of(turned(face_px(), 17, (300.0, 200.0)))
    assert torch.equal(follow(start, start.expand(50, 6)), start.expand(50, 6))


def test_follow_is_the_papers_clipped_step():
    start = torch.tensor([0.5, 0.5, 0.3, 0.4, 0.0, 1.0])
    driving = torch.tensor([[0.51, 0.45, 0.3, 0.6, 0.0, 1.0]]).expand(4, 6)
    expected = torch.tensor([[0.51, 0.48, 0.3, 0.42], [0.51, 0.46, 0.3, 0.44], [0.51, 0.45, 0.3, 0.46]])
    result = follow(start, driving)
    assert_near(result[:3, :4], expected)
    assert_near(result[:, 4:], driving[:, 4:])


def test_follow_never_jumps_and_stays_on_the_circle():
    start, driving = walk(1)[0], walk(300, seed=1)
    result = follow(start, driving, limit=0.01)
    steps = torch.cat([start[None], result]).diff(dim=0).abs()
    assert steps[:, :4].max() <= 0.01 + 1e-7
    assert steps[:, 4:].max() <= 0.01 * 2**0.5 + 1e-6  # brought back onto the circle
    assert_near(result[:, 4:].norm(dim=1), torch.ones(300))


def test_follow_without_a_limit_is_the_driver():
    driving = walk(20)
    assert_near(follow(walk(1, 3)[0], driving, limit=2), driving)


@pytest.mark.parametrize("degrees", [60, -135, 180])
def test_follow_reaches_any_roll(degrees):
    roll = math.radians(degrees)
    wanted = torch.tensor([0.5, 0.5, 0.3, 0.4, math.sin(roll), math.cos(roll)])
    start = torch.tensor([0.5, 0.5, 0.3, 0.4, 0.0, 1.0])
    result = follow(start, wanted.expand(200, 6))
    assert_near(result[-1], wanted)
    if degrees != 180:
        assert (result[:, 4] * math.sin(roll) >= 0).all()  # the short way round


@pytest.mark.parametrize("lengths", [(16, 24), (1, 1, 38), (12,) * 3 + (4,)])
def test_follow_in_chunks_is_bit_equal_to_one_go(lengths):
    start, driving = walk(1)[0], walk(40, seed=2)
    state, parts = start, []
    for chunk in driving.split(lengths):
        parts.append(follow(state, chunk))
        state = parts[-1][-1]
    assert torch.equal(torch.cat(parts), follow(start, driving))


def test_follow_nobody_is_empty():
    assert follow(walk(1)[0], torch.zeros(0, 6)).shape == (0, 6)


# Placing --------------------------------------------------------------------------------------------------------------


def test_place_where_it_stands_changes_nothing():
    track = track_of(turned(face_px(3), 12, (250.0, 180.0)))
    placed = place(track, placements(track))
    assert_near(placed.points, track.points)
    assert (placed.width, placed.height, placed.fps) == (WIDTH, HEIGHT, track.fps)


def test_place_puts_the_head_at_the_placement():
    track = track_of(face_px(5))
    first = placements(track)[0]
    targets = torch.stack([first * torch.tensor([1, 1, s, s, 1, 1]) for s in (0.5, 0.8, 1, 1.3, 2)])
    targets[:, :2] = torch.tensor([[0.1, 0.2], [0.5, 0.5], [0.9, 0.4], [0.3, 0.3], [-0.2, 1.1]])
    roll = torch.tensor([0.0, 0.5, -1.0, 3.0, -0.1])
    targets[:, 4], targets[:, 5] = roll.sin(), roll.cos()
    assert_near(placements(place(track, targets)), targets, 2e-6)


def test_place_is_a_similarity_in_pixels():
    track = track_of(face_px(1))
    target = placements(track) * torch.tensor([1.1, 0.9, 1.5, 1.5, 1, 1])
    target[:, 4], target[:, 5] = math.sin(0.7), math.cos(0.7)
    before, after = track.points_px[0].double(), place(track, target).points_px[0].double()
    pairs = torch.randint(0, 478, (200, 2), generator=torch.Generator().manual_seed(0))
    lengths = [(points[pairs[:, 0]] - points[pairs[:, 1]]).norm(dim=1) for points in (before, after)]
    assert_near(lengths[1], 1.5 * lengths[0], 1e-3)  # in pixels, with depth: one scale in all three directions


def test_place_keeps_the_faces_shape_under_another_shape_of_box():
    track = track_of(face_px(1))
    wide = placements(track) * torch.tensor([1, 1, 2.0, 0.5, 1, 1])
    assert_near(place(track, wide).points, track.points)  # the same area


def test_place_one_placement_holds_all_frames():
    points = torch.cat([turned(face_px(), n * 9.0, (280.0 + n, 200.0)) for n in range(4)])
    target = placements(track_of(face_px()))
    assert_near(placements(place(track_of(points), target)), target.expand(4, 6), 2e-6)


# Bad input ------------------------------------------------------------------------------------------------------------

GOOD = torch.tensor([[0.5, 0.5, 0.3, 0.4, 0.0, 1.0]])


def bad(column: int, value: float) -> torch.Tensor:
    changed = GOOD.clone()
    changed[0, column] = value
    return changed


@pytest.mark.parametrize(
    ("driving", "message"),
    [
        (GOOD[:, :5], "driving placements.*T, 6"),
        (bad(0, math.nan), "driving placements.*NaN"),
        (bad(2, 0.0), "width and a height above 0, not 0"),
        (bad(5, 3.0), "sine and cosine.*length 3"),
    ],
)
def test_follow_rejects_what_is_no_placement(driving, message):
    with pytest.raises(InputError, match=message):
        follow(GOOD[0], driving)
    with pytest.raises(InputError, match="start placement"):
        follow(driving[0], GOOD)


@pytest.mark.parametrize("limit", [0, -1, math.nan])
def test_follow_rejects_a_limit_of(limit):
    with pytest.raises(InputError, match="limit"):
        follow(GOOD[0], GOOD, limit)


def test_place_rejects_another_number_of_frames():
    with pytest.raises(InputError, match="2 placements cannot place 3 frames"):
        place(track_of(face_px(3)), GOOD.expand(2, 6))


def test_place_rejects_a_face_without_size():
    points = face_px(3)
    points[1] = 5
    with pytest.raises(InputError, match="frame 1 has no size"):
        place(track_of(points), GOOD)
