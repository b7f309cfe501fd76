from fractions import Fraction

import pytest
import torch

from portraittalk_core.face import topology as topo
from portraittalk_core.face.aperture import MOUTH, Aperture
from portraittalk_core.face.geometry import interocular_px
from portraittalk_core.face.mesh.landmarks import open_mesh, track_faces
from portraittalk_core.motion.dub import with_mouth
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.motion.turned_face import TurnedFace
from portraittalk_core.renderers.warp.film import FilmedFace
from portraittalk_core.renderers.warp.renderer import PortraitRenderer

OPENINGS = [0.0, 0.15, 0.5, 0.9, 0.6, 0.3, 0.8, 0.1]


@pytest.fixture(scope="module")
def film(astronaut):
    """Pictures of a face that speaks, with the landmarks they were drawn at; the first is at rest."""
    from portraittalk_core.types import HeadPose, MotionPlan, MouthCurves

    count = len(OPENINGS)
    zero, opening = torch.zeros(count), torch.tensor(OPENINGS)
    from portraittalk_core.types import MOUTH_PARAMETERS

    curves = {name: zero for name in MOUTH_PARAMETERS} | {"opening": opening, "jaw": opening}
    head = HeadPose(torch.zeros(count, 3), torch.zeros(count, 3), torch.ones(count))
    plan = MotionPlan(astronaut.landmarks, MouthCurves(*curves.values()), zero, zero, head, Fraction(25))
    track = plan_landmarks(plan)
    return list(PortraitRenderer(astronaut).render(track)), track


def drawn(film, target_frame: int, colours: torch.Tensor | None = None):
    """The film with the mouth of one of its frames in all of them."""
    pictures, track = film
    said = track.slice(target_frame, target_frame + 1)
    said = said.__class__(said.points.expand(len(track), -1, -1).contiguous(), track.valid, track.fps, 512, 512)
    rest = track.slice(0, 1)
    target = with_mouth(track, said, rest)
    face = FilmedFace(TurnedFace(rest), 25.0, colours)
    made = [face.draw(p, f, t) for p, f, t in zip(pictures, track.points_px, target.points_px, strict=True)]
    return made, target


def inside(pictures, target) -> torch.Tensor:
    """(T, h, w, 3) the pixels well within the open mouth."""
    points = target.points_px[0]
    (x0, y0), (x1, y1) = points[13, :2], points[14, :2]
    half = (points[topo.INNER_MOUTH_CORNERS[1], 0] - points[topo.INNER_MOUTH_CORNERS[0], 0]) / 5
    rows = slice(int(y0) + 3, int(y1) - 2)
    columns = slice(int((x0 + x1) / 2 - half), int((x0 + x1) / 2 + half))
    return torch.stack([picture[rows, columns].float() for picture in pictures])


def test_the_inside_of_the_mouth_is_steady_whatever_the_filmed_mouth_does(film):
    made, target = drawn(film, 3)
    others = [number for number in range(len(made)) if number != 3]  # where the film's own mouth is the wanted one
    seen = inside(made, target)[others]
    assert seen.shape[1] > 6 and seen.shape[2] > 12
    steps = (seen[1:] - seen[:-1]).abs().mean((1, 2, 3))
    assert steps.max() < 4  # levels of 255
    filmed = inside(film[0], target)  # in which it comes and goes
    assert (filmed[1:] - filmed[:-1]).abs().mean((1, 2, 3)).max() > 15


def test_far_from_the_mouth_nothing_changes(film):
    made, _ = drawn(film, 3)
    for picture, original in zip(made, film[0], strict=True):
        brow = int(film[1].points_px[0, topo.RIGHT_BROW, 1].min())
        assert torch.equal(picture[:brow], original[:brow])
        assert torch.equal(picture[:, :40], original[:, :40])
    assert not torch.equal(made[0], film[0][0])


def test_a_mouth_that_does_not_move_is_the_films_own_picture(film):
    pictures, track = film
    face = FilmedFace(TurnedFace(track.slice(0, 1)), 25.0)
    assert face.draw(pictures[3], track.points_px[3], track.points_px[3]) is pictures[3]


@pytest.mark.parametrize("frame", [0, 3])
def test_landmarks_found_again_are_the_wanted_ones(film, frame):
    made, target = drawn(film, frame)
    with open_mesh() as mesh:
        found = track_faces(made, Fraction(25), mesh)
    away = (found.points_px - target.points_px)[:, list(topo.LIPS), :2].norm(dim=2).mean(1)
    assert (away / interocular_px(target.points_px)).max() < 0.05


def test_a_face_at_the_pictures_edge_is_drawn(film):
    pictures, track = film
    cut = int(track.points_px[0, topo.INNER_LIP_BOTTOM, 1]) + 4
    face = FilmedFace(TurnedFace(track.slice(0, 1)), 25.0)
    made = face.draw(pictures[0][:cut].contiguous(), track.points_px[0], track.points_px[3])
    assert made.shape == (cut, 512, 3)


def test_teeth_and_the_dark_behind_them_have_the_colours_that_the_film_shows(film):
    cold, green = torch.tensor([1.0, 1.1, 1.4]), torch.tensor([0.1, 0.6, 0.1])
    both = [inside(*drawn(film, 3, colours))[0].flatten(0, 1) for colours in (None, torch.stack([cold, green]))]
    lightest, darkest = (
        [shown[shown.mean(1).argsort()][part].mean(0) for shown in both] for part in (slice(-60, None), slice(60))
    )
    assert float(lightest[1][2] / lightest[1][0]) > 1.25 * float(lightest[0][2] / lightest[0][0])
    assert float(darkest[1][1] / darkest[1][0]) > 1.3 * float(darkest[0][1] / darkest[0][0])


def test_bared_teeth_do_not_stick_to_the_closing_lips(film):
    """On smiles a landmark lies off the edge: what is between the lips is blue here, and their landmarks within."""
    pictures, track = film
    true, off = track.points_px[3], track.points_px[3].clone()
    aperture = Aperture.of(true[:, :2], MOUTH)
    off[list(MOUTH[0][1:-1]), 1] += 0.02 * aperture.width
    off[list(MOUTH[1][1:-1]), 1] -= 0.03 * aperture.width
    picture = pictures[3].clone()
    u, v = aperture.axes_on(torch.arange(512) + 0.5, torch.arange(512) + 0.5)
    top, bottom = aperture.edge_heights(u)
    picture[(v > top) & (v < bottom) & (u.abs() < aperture.width / 2)] = torch.tensor([0, 0, 255], dtype=torch.uint8)
    # the corners' landmarks are true, and cut nothing: only what lies between them counts
    shut = FilmedFace(TurnedFace(track.slice(0, 1)), 25.0).draw(picture, off, track.points_px[0])
    within = u.abs() < 0.4 * aperture.width

    def blue(shown):
        return int(((shown[..., 2].int() - shown[..., 0] > 60) & within).sum())

    assert blue(picture) > 150
    assert blue(shut) <= 0.02 * blue(picture)
