from fractions import Fraction

import pytest
import torch

from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import rotation_matrix
from portraittalk_core.motion.turned_face import TurnedFace
from portraittalk_core.types import LandmarkTrack

REST = canonical_face() * 100 + torch.tensor([256.0, 256, 0])
COUNT = 60


def heads(yaw_deg: torch.Tensor) -> torch.Tensor:
    pitch = 6 * torch.sin(torch.arange(len(yaw_deg)) / 3)
    return rotation_matrix(torch.stack([pitch, yaw_deg, torch.zeros(len(yaw_deg))], 1))


def filmed(yaw_deg: torch.Tensor, gap: torch.Tensor, leans: float) -> LandmarkTrack:
    """A face whose lips part by a gap, and lie further aside the further the head is turned, in its own axes."""
    lips, turn = list(topo.LIPS), heads(yaw_deg)
    points = REST.expand(len(yaw_deg), -1, -1).clone()
    points[:, lips, 0] += leans * turn[:, 0, 2, None]
    lower = [*topo.INNER_LOWER_LIP[1:-1]]
    points[:, lower, 1] += gap[:, None]
    return LandmarkTrack.from_px((points - 256) @ turn.transpose(1, 2) * 1.1 + 260, 512, 512, Fraction(25))


def yaws(largest_deg: float) -> torch.Tensor:
    return largest_deg * torch.sin(torch.arange(COUNT) / COUNT * 6.283)


@pytest.fixture(scope="module")
def gaps():
    return 12 * torch.rand(COUNT, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("leans", [0.0, 30.0])
def test_a_shut_mouth_lies_where_a_turned_head_has_it(gaps, leans):
    """Learnt from a film that speaks; compared with the same heads, silent."""
    yaw = yaws(50.0)
    rest = filmed(torch.zeros(1), torch.zeros(1), leans)
    film = filmed(yaw, gaps, leans)
    silent = filmed(yaw, torch.zeros(COUNT), leans).points_px[:, list(topo.LIPS)]

    def off(face):
        return (face.placed(face.rest[None], film.points_px)[:, list(topo.LIPS)] - silent).norm(dim=2).mean(1)

    assert float(off(TurnedFace.of_film(film, rest)).max()) < 1.5
    if leans:
        assert float(off(TurnedFace(rest)).max()) > 15


def test_a_face_is_rigid_where_no_frame_tells_otherwise(gaps):
    rest, film = filmed(torch.zeros(1), torch.zeros(1), 30.0), filmed(yaws(50.0), gaps, 30.0)
    rigid = TurnedFace(rest).placed(rest.points_px, film.points_px)
    nothing = TurnedFace.of_film(film, rest, torch.zeros(COUNT, dtype=torch.bool))
    assert torch.equal(nothing.placed(rest.points_px, film.points_px), rigid)
    own = [*topo.RIGID, topo.CHIN]  # where it is rigid
    torch.testing.assert_close(rigid[:, own], film.points_px[:, own], rtol=0, atol=0.05)


def test_frames_without_the_face_teach_nothing(gaps):
    film, rest = filmed(yaws(50.0), gaps, 30.0), filmed(torch.zeros(1), torch.zeros(1), 30.0)
    seen = torch.arange(COUNT) % 3 > 0
    points = torch.where(seen[:, None, None], film.points, film.points.roll(7, 1))
    scrambled = LandmarkTrack(points, seen, film.fps, 512, 512)
    faces = TurnedFace.of_film(scrambled, rest), TurnedFace.of_film(film, rest, seen)
    assert torch.equal(faces[0].departures, faces[1].departures)
    assert float(faces[0].departures.abs().max()) > 0.1
