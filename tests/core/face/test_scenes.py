from fractions import Fraction

import pytest
import torch

from portraittalk_core.face.geometry import rotation_matrix
from portraittalk_core.face.scenes import SceneFinder, other_people
from portraittalk_core.types import LandmarkTrack


def texture(seed: int) -> torch.Tensor:
    """Smooth colours, (120, 160, 3) uint8."""
    coarse = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    return (255 * torch.nn.functional.interpolate(coarse, (120, 160), mode="bilinear")[0].permute(1, 2, 0)).byte()


def scenes_of(pictures, faces=None) -> list[int]:
    finder = SceneFinder()
    for number, picture in enumerate(pictures):
        finder.see(picture, None if faces is None else faces[number])
    return finder.scenes().tolist()


def noisy(picture, seed):
    noise = torch.randint(-6, 7, picture.shape, generator=torch.Generator().manual_seed(seed))
    return (picture.int() + noise).clamp(0, 255).byte()


def test_cuts_are_found_between_noisy_pictures():
    one, other = texture(0), texture(1)
    film = (
        [noisy(one, i) for i in range(7)] + [noisy(other, i) for i in range(5)] + [noisy(one, 9 + i) for i in range(3)]
    )
    assert scenes_of(film) == [0] * 7 + [1] * 5 + [2] * 3


def test_a_pan_a_fade_and_a_flash_are_no_cuts():
    wide = texture(2).repeat(1, 3, 1)
    assert set(scenes_of([wide[:, 9 * i : 9 * i + 160] for i in range(20)])) == {0}
    one, other = texture(0).float(), texture(1).float()
    assert set(scenes_of([torch.lerp(one, other, i / 15).byte() for i in range(16)])) == {0}
    flash = [texture(0)] * 5 + [torch.full((120, 160, 3), 255, dtype=torch.uint8)] + [texture(0)] * 5
    assert set(scenes_of(flash)) == {0}


def test_a_camera_that_shakes_now_and_then_cuts_nothing():
    """Most moves change little of the picture; one that changes much is no cut for that, but another place is."""
    wide, steps = texture(2).repeat(1, 3, 1), [1] * 5 + [3] + [1] * 6 + [3] + [1] * 6
    starts = torch.tensor([0, *steps]).cumsum(0).tolist()
    shaken = [wide[:, at : at + 160] for at in starts]
    assert set(scenes_of(shaken)) == {0}
    assert scenes_of([*shaken, *[texture(1)] * 5]) == [0] * len(shaken) + [1] * 5


def test_a_camera_that_begins_and_ends_to_move_cuts_nothing():
    """A cut to a camera that moves as fast is one."""
    wide = texture(2).repeat(1, 3, 1)
    starts = torch.tensor([0] * 12 + [9] * 12 + [0] * 12).cumsum(0).tolist()
    panned = [wide[:, at : at + 160] for at in starts]
    assert set(scenes_of(panned)) == {0}
    assert scenes_of([*[texture(1)] * 12, *panned[12:]]) == [0] * 12 + [1] * 24


def test_a_face_that_jumps_is_in_another_scene(astronaut):
    face = astronaut.landmarks.points_px[0]
    faces = [face, face + 3, None, face, face + torch.tensor([300.0, 0, 0]), face + torch.tensor([302.0, 0, 0])]
    assert scenes_of([texture(0)] * 6, faces) == [0, 0, 0, 0, 1, 1]


def test_one_picture_is_one_scene():
    assert scenes_of([texture(0)]) == [0]


@pytest.mark.parametrize(("stretch", "is_other"), [(1.0, False), (1.02, False), (1.2, True), (0.85, True)])
def test_another_person_is_known_by_the_faces_shape(astronaut, stretch, is_other):
    """The second scene's face is turned, grown and moved, and as wide as told."""
    face = astronaut.landmarks.points_px[0]
    middle = face.mean(0)
    turn = rotation_matrix(torch.tensor([[4.0, 12.0, -8.0]]))[0]
    second = 1.3 * ((face - middle) * torch.tensor([stretch, 1, 1])) @ turn.T + middle + 40
    points = torch.stack([face] * 4 + [second] * 3)
    track = LandmarkTrack.from_px(points, 512, 512, Fraction(25), torch.tensor([True] * 6 + [False]))
    strange = other_people(track, torch.tensor([0] * 4 + [1] * 3))
    assert strange.tolist() == [False] * 4 + [is_other] * 3
    assert not other_people(track, torch.zeros(7, dtype=torch.int64)).any()
