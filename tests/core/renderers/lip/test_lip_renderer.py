"""Films and portraits painted by a lip model: what changes, what stays, and what the model is given."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from stub_lips import SIDE, StubLips, flat, puppet_film, puppet_moves, spoken

from portraittalk_core.errors import InputError
from portraittalk_core.face.topology import LIPS
from portraittalk_core.renderers.contract import RenderJob
from portraittalk_core.renderers.lip import inside
from portraittalk_core.renderers.lip import renderer as module
from portraittalk_core.renderers.lip.options import LipPaintOptions
from portraittalk_core.renderers.lip.renderer import LipRenderer
from portraittalk_core.renderers.warp.build import warped_pictures
from portraittalk_core.types import Speech

FRAMES = 14


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return puppet_film(tmp_path_factory.mktemp("film") / "film.mp4", puppet_moves(FRAMES))


@pytest.fixture(scope="module")
def filmed(film):
    return torch.stack(list(film.pictures()))


@pytest.fixture(scope="module")
def voice():
    """A voice that never rests: noise whose loudness goes up and down five times a second."""
    time = np.arange(16_000) / 16_000
    loud = 0.55 + 0.45 * np.sin(2 * np.pi * 5 * time)
    noise = np.random.default_rng(0).normal(size=16_000) * loud * 0.2
    return Speech(torch.tensor(noise, dtype=torch.float32))


def render(model, film, voice, callbacks=None, track=None, **options):
    job = RenderJob.of_track(film, spoken(film) if track is None else track, voice)
    options = {"blend": "lower", **options}
    return torch.stack(list(LipRenderer(model, LipPaintOptions(**options)).render(job, callbacks)))


def test_crops_that_are_given_back_change_nothing_that_can_be_seen(film, filmed, voice):
    """Even where the networks' crop holds fewer pixels than the face: what is finer comes from the film."""
    made = render(StubLips(), film, voice)
    assert made.shape == filmed.shape and made.dtype == torch.uint8
    assert float((made.float() - filmed.float()).abs().max()) <= 2
    blurred = render(StubLips(), film, voice, sharpen=0.0, match_colour=0.0)
    assert float((blurred.float() - filmed.float()).abs().max()) > 8


def test_only_the_lower_face_is_painted_and_its_edge_is_soft(film, filmed, voice):
    made = render(StubLips(flat((0.0, 0.0, 0.0))), film, voice, sharpen=0.0, match_colour=0.0, feather=0.06)
    changed = (made.int() - filmed.int()).abs().amax(-1)
    points = film.track.points_px
    for index in (0, FRAMES // 2):
        for point in (14, 152, 61, 291):  # between the lips, chin, corners of the mouth
            x, y = points[index, point, :2].long().tolist()
            assert int(made[index, y - 1, x].max()) <= 2
        for point in (10, 33, 263, 105):  # forehead, eyes, brow
            x, y = points[index, point, :2].long().tolist()
            assert int(changed[index, y, x]) == 0
        assert int(changed[index, :, :10].max()) == 0 and int(changed[index, :20].max()) == 0
        dark = (made[index].float() / filmed[index].float().clamp(min=1)).mean(-1)
        assert int(((dark > 0.2) & (dark < 0.8)).sum()) > 40  # pixels of the soft edge


@pytest.mark.parametrize("blend", ["lower", "face", "box"])
def test_what_is_pasted_is_chosen(film, filmed, voice, blend):
    made = render(
        StubLips(flat((0.0, 1.0, 0.0))), film, voice, sharpen=0.0, match_colour=0.0, blend=blend, feather=0.02
    )
    point = {name: film.track.points_px[0, number, :2].long() for name, number in {"eye": 33, "chin": 152}.items()}
    eye, chin = (bool((made[0, y, x] != filmed[0, y, x]).any()) for x, y in point.values())
    assert chin and eye == (blend != "lower")
    box = module.LipBoxes(film.track, StubLips().crop)[0]
    beside = box.bottom - 8, box.left + 6  # below the cheek
    assert bool((made[0][beside] != filmed[0][beside]).any()) == (blend == "box")


def test_a_mouth_is_pasted_into_the_film_as_the_warp_bends_it(film, filmed, voice, monkeypatch):
    """Of a green painting there is green between the lips alone; everything else is the warp's very picture.

    Green mouths are not this film's: without being told to trust them, nothing of them is shown.
    """
    green = StubLips(flat((0.0, 1.0, 0.0)))
    track = spoken(film)
    warped = torch.stack(list(warped_pictures(RenderJob.of_track(film, track))))
    options = {"sharpen": 0.0, "match_colour": 0.0, "blend": "mouth", "voice_gate": 0.0}
    assert torch.equal(render(green, film, voice, track=track, **options), warped)
    monkeypatch.setattr(module, "trusted", lambda *_: True)
    made = render(green, film, voice, track=track, **options)
    assert bool((warped != filmed).any())
    apart = inside.gaps(track.points, SIDE, SIDE)
    assert int((apart >= 0.06).sum()) > FRAMES // 2
    for index in range(FRAMES):
        points = track.points_px[index, :, :2]
        for name in (152, 4, 33, 205):  # chin, nose, eye, cheek
            x, y = points[name].long().tolist()
            assert made[index, y, x].tolist() == warped[index, y, x].tolist()
        x, y = points[[13, 14]].mean(0).long().tolist()
        red, level, blue = made[index, y, x].tolist()
        assert level > max(red, blue) + 60 or float(apart[index]) < 0.06  # lips that are as good as closed
        lips = points[list(LIPS)]
        low, high = lips.amin(0) - 4, lips.amax(0) + 4
        changed = (made[index] != warped[index]).any(-1).nonzero()
        assert bool((changed.flip(1) >= low).all() and (changed.flip(1) <= high).all())


def test_crops_too_small_for_skin_give_the_mouth_alone():
    options = LipPaintOptions()
    assert [options.blend_of(size) for size in (64, 127, 128, 256)] == ["mouth", "mouth", "lower", "lower"]
    assert LipPaintOptions(blend="face").blend_of(64) == "face"


def test_colours_are_those_of_the_skin_around(film, filmed, voice):
    """A painting with a cast is brought back: what is left of it on the chin is a fraction."""
    cast = StubLips(lambda batch: (batch.pictures * 0.95 + torch.tensor([0.05, 0.0, -0.03])[:, None, None]).clamp(0, 1))
    off = {}
    for strength in (0.0, 1.0):
        made = render(cast, film, voice, sharpen=0.0, match_colour=strength)
        x, y = (film.track.points_px[5, 152, :2] - torch.tensor([0.0, 4.0])).long().tolist()
        off[strength] = float((made[5, y, x].float() - filmed[5, y, x].float()).abs().max())
    assert off[0.0] > 7 and off[1.0] < off[0.0] / 2


def test_a_soft_painting_is_brought_to_the_films_sharpness(film, filmed, voice):
    """Fine structure between the lips of a blurred painting, compared with the film's own."""

    def blurring(batch):
        return torch.nn.functional.avg_pool2d(batch.pictures, 3, 1, 1, count_include_pad=False)

    def fine(pictures):
        lips = film.track.points_px[:, list(LIPS), :2]
        (left, top), (right, bottom) = lips.amin((0, 1)).long().tolist(), lips.amax((0, 1)).long().tolist()
        part = pictures[:, top - 4 : bottom + 4, left - 4 : right + 4].float()
        return float((part[:, 1:] - part[:, :-1]).square().mean().sqrt())

    own = fine(filmed)
    soft, sharp = (fine(render(StubLips(blurring), film, voice, sharpen=amount)) for amount in (0.0, 1.0))
    assert soft < 0.9 * own and abs(sharp - own) < 0.5 * abs(soft - own)


def test_a_model_is_given_crops_sketches_and_references_once(film, filmed, voice):
    model = StubLips()
    render(model, film, voice, batch_size=4)
    assert len(model.references) == 1
    assert [len(batch.pictures) for batch in model.batches] == [4, 4, 4, 2]
    sketches = torch.cat([batch.sketches for batch in model.batches])
    assert sketches.shape == (FRAMES, 5, 3, 48, 48)
    middle = sketches[:, 2]
    for offset in (-2, -1, 0, 1, 2):  # each window is the sketches around it, clamped at the film's ends
        at = (torch.arange(FRAMES) + offset).clamp(0, FRAMES - 1)
        assert torch.equal(sketches[:, 2 + offset], middle[at])
    assert not torch.equal(middle[0], middle[5])


@pytest.mark.parametrize(("fps", "steps"), [(50, (-4, -2, 0, 2, 4)), (12, (-1, 0, 0, 0, 1)), (30, (-2, -1, 0, 1, 2))])
def test_windows_are_of_40_ms_at_every_rate(film, fps, steps):
    model, track = StubLips(), replace(film.track, fps=fps)
    reader = reader_of(replace(film, track=track), model)
    batches = list(reader.batches())
    sketches = torch.cat([batch.sketches for batch in batches])
    for place, step in enumerate(steps):
        at = (torch.arange(FRAMES) + step).clamp(0, FRAMES - 1)
        assert torch.equal(sketches[:, place], sketches[at, 2])


def reader_of(film, model):
    from portraittalk_core.renderers.lip.footage import footage_of
    from portraittalk_core.renderers.lip.frames import FrameReader

    black, ones = torch.zeros(SIDE, SIDE, 3, dtype=torch.uint8), torch.ones(len(film.track))
    footage = replace(footage_of(RenderJob.of_track(film, spoken(film))), pictures=lambda: itertools.repeat(black))
    return FrameReader(footage, module.LipBoxes(film.track, model.crop), ones, ones, 4, True)


def test_windows_end_where_a_film_begins_anew(film):
    looped = film.in_order(torch.arange(2 * FRAMES) % FRAMES)
    sketches = torch.cat([batch.sketches for batch in reader_of(looped, StubLips()).batches()])
    assert torch.equal(sketches[FRAMES], sketches[0]) and torch.equal(sketches[FRAMES - 1], sketches[-1])


def test_windows_end_at_cuts(tmp_path, voice):
    scenes = torch.tensor([0, 0, 0, 1, 1, 1])
    model = StubLips()
    render(model, puppet_film(tmp_path / "cut.mp4", puppet_moves(6), scenes=scenes), voice)
    sketches = torch.cat([batch.sketches for batch in model.batches])
    assert torch.equal(sketches[2, 3], sketches[2, 2]) and torch.equal(sketches[3, 1], sketches[3, 2])
    assert torch.equal(sketches[2, 0], sketches[0, 2])


def test_the_crop_follows_the_options(film, voice):
    """A wider pad shows more of the film; a square crop keeps its shape."""
    from portraittalk_core.face.lip_points import LIP_POINTS

    points = film.track.points_px[0, list(LIP_POINTS), :2]
    low, high = points.amin(0), points.amax(0)
    for pad in (0, 9.5):
        box = module.LipBoxes(film.track, StubLips().crop, pad)[0]
        expected = [int(v) for v in (*(low - pad).tolist(), *(high + pad).tolist())]
        assert [box.left, box.top, box.right, box.bottom] == expected
    square = module.LipBoxes(film.track, replace(StubLips().crop, square=True))[0]
    assert abs(square.size_px[0] - square.size_px[1]) <= 1
    wide = module.LipBoxes(film.track, StubLips().crop, 500.0)[0]
    assert (wide.left, wide.top, wide.right, wide.bottom) == (0, 0, SIDE, SIDE)


def test_a_crop_is_opencvs_resize():
    """Compared with scipy's bilinear interpolation at the positions that OpenCV documents."""
    from scipy.ndimage import map_coordinates

    from portraittalk_core.renderers.lip.crop import LipBox

    picture = torch.randint(0, 256, (70, 90, 3), generator=torch.Generator().manual_seed(0)).byte()
    box, size = LipBox(11, 7, 71, 47), 32
    rows = (np.arange(size) + 0.5) * 40 / size - 0.5 + 7
    columns = (np.arange(size) + 0.5) * 60 / size - 0.5 + 11
    grid = np.meshgrid(rows, columns, indexing="ij")
    expected = [map_coordinates(picture[..., c].double().numpy(), grid, order=1) / 255 for c in range(3)]
    np.testing.assert_allclose(box.take(picture, size).numpy(), np.stack(expected), atol=1e-5)
    placed = box.crop(size)
    torch.testing.assert_close(
        placed.points_on_crop(torch.tensor([[11.0, 7.0], [71.0, 47.0]])).float(),
        torch.tensor([[0.0, 0.0], [32.0, 32.0]]),
    )


def test_a_smooth_box_moves_less(film):
    shaking = replace(film.track, points=film.track.points.clone())
    shaking.points[::2, :, 0] += 0.02
    paths = [
        torch.tensor(
            [module.LipBoxes(shaking, replace(StubLips().crop, smooth=smooth))[at].left for at in range(FRAMES)]
        )
        for smooth in (False, True)
    ]
    assert paths[1].diff().abs().max() < paths[0].diff().abs().max()


def test_a_model_that_hears_needs_speech(film):
    with pytest.raises(InputError, match="lips hears the speech itself"):
        render(StubLips(), film, None)


def test_a_batch_that_does_not_fit_is_painted_in_halves(film, voice):
    sizes = []

    def hungry(batch):
        sizes.append(len(batch.pictures))
        if len(batch.pictures) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        assert len(batch.sketches) == len(batch.sound) == len(batch.pictures)
        return batch.pictures * batch.sound.mean((1, 2))[:, None, None, None].add(4).div(8)

    made = render(StubLips(hungry), film, voice, batch_size=7)
    assert sizes == [7, 3, 4, 2, 2] * 2
    calm = StubLips(lambda batch: batch.pictures * batch.sound.mean((1, 2))[:, None, None, None].add(4).div(8))
    assert torch.equal(made, render(calm, film, voice, batch_size=7))

    def starving(_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(InputError, match="the memory of cpu does not hold one frame of 48² pixels; take fewer"):
        render(StubLips(starving), film, voice)


def test_masks_say_what_is_painted(film, filmed, voice):
    options = LipPaintOptions(match_colour=0.0, sharpen=0.0, blend="lower")
    job = RenderJob.of_track(film, spoken(film), voice)
    masks = torch.stack(list(LipRenderer(StubLips(), options).masks(job)))
    made = torch.stack(list(LipRenderer(StubLips(flat((0.0, 0.0, 0.0))), options).render(job)))
    assert masks.shape == filmed.shape[:3]
    expected = filmed.float() * (1 - masks[..., None])  # black is painted so far
    assert float((made.float() - expected).abs().max()) < 12 and float((made.float() - expected).abs().mean()) < 0.2
