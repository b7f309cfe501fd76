"""The inside of a film's own mouths: teeth that a frame shows stand in others, where the film says that they do."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from portraittalk_core.face.aperture import MOUTH, Aperture
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.motion.turned_face import TurnedFace
from portraittalk_core.renderers.contract import Film
from portraittalk_core.renderers.warp import own_inside_trial
from portraittalk_core.renderers.warp.film import FilmedFace
from portraittalk_core.renderers.warp.own_inside import OwnInside
from portraittalk_core.renderers.warp.own_inside_trial import best_inside, tried_frames
from portraittalk_core.types import MOUTH_PARAMETERS, HeadPose, MotionPlan, MouthCurves

TEETH, DARK = torch.tensor([205.0, 215, 225]), torch.tensor([30.0, 12, 12])
OPENINGS = [0.0, *(0.35, 0.5, 0.65, 0.8) * 4]


@pytest.fixture(scope="module")
def speaking(astronaut):
    """Landmarks of a face whose mouth opens to and fro, at rest first."""
    count, opening = len(OPENINGS), torch.tensor(OPENINGS)
    zero = torch.zeros(count)
    curves = {name: zero for name in MOUTH_PARAMETERS} | {"opening": opening, "jaw": opening}
    head = HeadPose(torch.zeros(count, 3), torch.zeros(count, 3), torch.ones(count))
    return plan_landmarks(
        MotionPlan(astronaut.landmarks, MouthCurves(*curves.values()), zero, zero, head, Fraction(25))
    )


def with_inside(picture, points, colours):
    """A picture (H, W, 3) with given colours of (u, v), over the mouth's width and down from the upper lip, inside."""
    mouth, shown = Aperture.of(points[:, :2], MOUTH), picture.clone()
    u, v = mouth.axes_on(*(torch.arange(side) + 0.5 for side in (picture.shape[1], picture.shape[0])))
    top, bottom = mouth.edge_heights(u.flatten())
    inside = (v > top.view_as(u)) & (v < bottom.view_as(u)) & (u.abs() < 0.5 * mouth.width)
    shown[inside] = colours(u[inside] / mouth.width, (v[inside] - top.view_as(u)[inside]) / mouth.width).byte()
    return shown


def gapped_teeth(u, v):
    """Teeth with one dark gap beside the middle, over the dark."""
    teeth = (v < 0.12) & ((u - 0.1).abs() > 0.025)
    return torch.where(teeth[:, None], TEETH, DARK)


def filmed(monkeypatch, speaking, astronaut, insides):
    """A film of those mouths, and its face."""
    pictures = [with_inside(astronaut.picture, points, insides(at)) for at, points in enumerate(speaking.points_px)]
    monkeypatch.setattr(own_inside_trial, "pictures_at", lambda path, fps, numbers: (pictures[at] for at in numbers))
    return Film(Path("film.mp4"), speaking), TurnedFace(speaking.slice(0, 1)), pictures


def test_the_films_own_gap_between_teeth_is_shown_in_other_frames(monkeypatch, speaking, astronaut):
    film, face, pictures = filmed(monkeypatch, speaking, astronaut, lambda at: gapped_teeth)
    own = best_inside(film, 0, face)
    assert own is not None
    target = speaking.points_px[3]
    shown = {}
    for name, inside in (("own", own), ("painted", None)):
        made = FilmedFace(face, 25.0, own=inside).draw(pictures[1], speaking.points_px[1], target).float()
        mouth = Aperture.of(target[:, :2], MOUTH)
        u = torch.tensor([-0.1, 0.1]) * mouth.width
        at = mouth.pixels_of(u, mouth.edge_heights(u)[0] + 0.07 * mouth.width).long()
        shown[name] = made[at[:, 1], at[:, 0]].mean(1)
    assert shown["own"][0] > shown["own"][1] + 60  # a tooth on the one side, the gap on the other
    assert (shown["painted"][0] - shown["painted"][1]).abs() < 30


def test_mouths_that_are_never_alike_are_painted(monkeypatch, speaking, astronaut):
    def noise(at):
        def colours(u, v):
            levels = torch.rand(64, generator=torch.Generator().manual_seed(at))
            cell = ((u + 0.5) * 8).long().clamp(0, 7) * 8 + (v * 20).long().clamp(0, 7)
            return DARK + levels[cell][:, None] * (TEETH - DARK)

        return colours

    film, face, _ = filmed(monkeypatch, speaking, astronaut, noise)
    assert best_inside(film, 0, face) is None


def test_an_inside_without_teeth_is_painted(monkeypatch, speaking, astronaut):
    flesh = torch.tensor([150.0, 80, 80])
    film, face, _ = filmed(monkeypatch, speaking, astronaut, lambda at: lambda u, v: flesh.expand(len(u), 3))
    assert best_inside(film, 0, face) is None


def test_a_film_with_few_open_mouths_is_painted(monkeypatch, speaking, astronaut):
    film, face, _ = filmed(monkeypatch, speaking, astronaut, lambda at: gapped_teeth)
    valid = torch.arange(len(speaking)) < 4
    film = replace(film, track=replace(speaking, valid=valid))
    assert 1 <= len(tried_frames(film, 0)) <= 3
    assert best_inside(film, 0, face) is None


def test_of_each_part_of_a_scene_the_sharpest_open_mouth_is_tried(speaking):
    scenes = (torch.arange(len(speaking)) >= 9).long()
    sharpness = torch.arange(len(speaking)).float()
    assert tried_frames(Film(Path("film.mp4"), speaking, scenes=scenes, sharpness=sharpness), 1) == [*range(9, 17)]
    whole = tried_frames(Film(Path("film.mp4"), speaking, sharpness=sharpness), 0)
    assert whole[:4] == [2, 4, 6, 8] and len(whole) == own_inside_trial.TRIED


def test_teeth_take_the_light_of_the_frame_and_of_the_gap(speaking, astronaut):
    points, face = speaking.points_px[4], TurnedFace(speaking.slice(0, 1))
    picture = with_inside(astronaut.picture, points, lambda u, v: TEETH.expand(len(u), 3))
    drawer = FilmedFace(face, 25.0)
    placed = drawer.placed(points, None)
    own = OwnInside.of(picture, points[:, :2], placed, torch.full((3,), 0.6))
    mouth = Aperture.of(points[:, :2], MOUTH)
    top, bottom = mouth.edge_heights(torch.zeros(1))
    at, half = mouth.pixels_of(torch.zeros(1), (top + bottom) / 2), (bottom - top) / 2

    def paint(at):
        return torch.zeros(3, len(at))

    def shown(gap, skin):
        return float(own.colours(at, half, gap, placed, torch.full((3,), skin), paint).mean())

    full = shown(bottom - top, 0.6)
    assert full == pytest.approx(float(TEETH.mean()), abs=12)
    assert shown(bottom - top, 0.3) == pytest.approx(full / 2, rel=0.02)
    assert shown((bottom - top) / 4, 0.6) < 0.8 * full


def test_a_mouth_outside_of_the_picture_shows_nothing(speaking, astronaut):
    away = speaking.points_px[3, :, :2] + torch.tensor([4000.0, 0.0])
    assert OwnInside.of(astronaut.picture, away, away, torch.ones(3)) is None
