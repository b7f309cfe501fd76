"""References read from a film, and from a portrait, as a model is given them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from stub_lips import SIDE, StubLips, puppet_film, puppet_moves, puppet_picture, spoken
from toy_puppet import track_of

from portraittalk_core.errors import InputError
from portraittalk_core.face.lip_points import MOUTH_POINTS
from portraittalk_core.renderers.contract import RenderJob
from portraittalk_core.renderers.lip.crop import LipBoxes
from portraittalk_core.renderers.lip.options import LipPaintOptions, frame_numbers
from portraittalk_core.renderers.lip.renderer import LipRenderer
from portraittalk_core.types import Portrait

FRAMES = 12


@pytest.fixture(autouse=True)
def _stand_in_references():
    """None: these tests read real ones."""


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    moves = puppet_moves(FRAMES)
    moves[:, 3] = torch.linspace(0, 1, FRAMES)  # the mouth opens
    return puppet_film(tmp_path_factory.mktemp("film") / "film.mp4", moves)


def references(film, model=None, **options):
    model = model or StubLips(sound="none")
    job = RenderJob.of_track(film, spoken(film))
    list(LipRenderer(model, LipPaintOptions(**options)).render(job))
    (given,) = model.references
    return given


def test_references_are_the_films_crops_from_closed_to_open(film):
    given = references(film, references=4, lip_references=2)
    rule = StubLips().crop
    boxes, pictures = LipBoxes(film.track, rule), list(film.pictures())
    expected = [boxes[at].take(pictures[at], rule.size) for at in (0, 3, 7, 11)]
    assert torch.equal(given.pictures, torch.stack(expected))
    assert given.sketches.shape == (4, 3, 48, 48) and given.lips.shape == given.lip_sketches.shape == (2, 3, 48, 48)
    assert torch.equal(references(film, reference_frames="11, 3").pictures, torch.stack([expected[3], expected[1]]))


def test_lips_stay_in_place_in_a_box_of_half_as_much_again(film):
    given = references(film, references=1, lip_references=2)
    for lips, at in zip(given.lips, (0, 11), strict=True):
        shown = lips.amax(0) > 0
        points = LipBoxes(film.track, StubLips().crop).points01(at, film.track.points[at, list(MOUTH_POINTS)]) * 48
        low, high = points.amin(0), points.amax(0)
        rows, columns = torch.nonzero(shown.any(1)).flatten(), torch.nonzero(shown.any(0)).flatten()
        for found, axis in ((columns, 0), (rows, 1)):
            length = float(high[axis] - low[axis])
            assert abs(len(found) - 1.5 * length) <= 1.5
            assert abs(float(found.float().mean()) + 0.5 - float(low[axis] + high[axis]) / 2) <= 1
        box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        rule = StubLips().crop
        whole = LipBoxes(film.track, rule)[at].take(list(film.pictures())[at], rule.size)
        assert torch.equal(lips[:, box[0], box[1]], whole[:, box[0], box[1]])


def test_a_film_with_fewer_frames_than_references_repeats_them(film):
    assert len(references(film, references=25).pictures) == 25
    assert len(references(film, references=0).pictures) == 2  # a fifth of twelve
    assert LipPaintOptions(references=0).num_references(1) == 1
    assert LipPaintOptions(references=0).num_references(10_000) == 25


def test_hidden_frames_are_no_references(film):
    valid = torch.arange(FRAMES) < 8
    part = replace(film, track=replace(film.track, valid=valid))
    rule = StubLips().crop
    last = LipBoxes(film.track, rule)[4].take(list(film.pictures())[4], rule.size)
    given = references(part, references=2).pictures  # frames 5 to 7 are on their way to the filmed mouth
    assert torch.equal(given[1], last)
    with pytest.raises(InputError, match="names frame 9, but film.mp4 shows no face there"):
        references(part, reference_frames="2,9")


def test_a_film_that_is_looped_gives_its_own_frames(film):
    looped = film.in_order(torch.arange(20) % FRAMES)
    model = StubLips(sound="none")
    list(LipRenderer(model, LipPaintOptions(reference_frames="13")).render(RenderJob.of_track(looped, looped.track)))
    rule = StubLips().crop
    expected = LipBoxes(film.track, rule)[1].take(list(film.pictures())[1], rule.size)
    assert torch.equal(model.references[0].pictures[0], expected)


def test_a_portrait_is_the_only_reference_of_itself():
    move = torch.tensor([0.0, 0.0, 0.0, 0.2])
    picture, track = puppet_picture(move), track_of(move[None], SIDE)
    model = StubLips(sound="none")
    motion = replace(track, points=track.points.repeat(3, 1, 1), valid=torch.ones(3, dtype=torch.bool))
    made = list(LipRenderer(model).render(RenderJob.of_track(Portrait(picture, track), motion)))
    (given,) = model.references
    assert len(made) == 3 and len(given.pictures) == len(given.lips) == 1
    rule = StubLips().crop
    assert torch.equal(given.pictures[0], LipBoxes(track, rule)[0].take(picture, rule.size))


def test_the_contact_sheet_shows_what_will_be_the_references(film):
    renderer = LipRenderer(StubLips(), LipPaintOptions(references=4, lip_references=2))
    frames, sheet = renderer.contact_sheet(film)
    assert frames.faces == (0, 3, 7, 11) and frames.lips == (0, 11)
    assert sheet.dtype == torch.uint8 and sheet.shape[2] == 3 and min(sheet.shape[:2]) >= 2 * 96


def test_a_model_without_references_is_given_none(film):
    model = StubLips(sound="none", needs_references=False)
    list(LipRenderer(model).render(RenderJob.of_track(film, spoken(film))))
    assert not model.references and model.batches


@pytest.mark.parametrize("text", ["", "1;x", "-3", "1.5", "99999999999", ",".join(["1"] * 101)])
def test_numbers_of_frames_are_checked(text):
    with pytest.raises(InputError, match="reference_frames"):
        frame_numbers(text)
