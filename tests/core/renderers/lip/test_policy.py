"""Frames that stay as they were filmed, the mouth at rest, runs that go on, memory that does not grow."""

from __future__ import annotations

import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from made_voice import syllables
from stub_lips import SIDE, StubLips, flat, puppet_film, puppet_moves, spoken

from portraittalk_core.face.geometry import rotation_matrix
from portraittalk_core.motion.dub import presence
from portraittalk_core.renderers.contract import Callbacks, RenderJob
from portraittalk_core.renderers.lip.crop import LipBoxes
from portraittalk_core.renderers.lip.footage import footage_of
from portraittalk_core.renderers.lip.frames import FrameReader
from portraittalk_core.renderers.lip.inside import (
    Trial,
    explained,
    gaps,
    inside_shares,
    mean_shifts,
    parted_share,
    tried_frames,
    trusted,
)
from portraittalk_core.renderers.lip.masks import mouth_mask
from portraittalk_core.renderers.lip.options import LipPaintOptions
from portraittalk_core.renderers.lip.policy import paint_weights, turned_aside, voice_gate
from portraittalk_core.renderers.lip.references import ReferenceFrames
from portraittalk_core.renderers.lip.renderer import LipRenderer
from portraittalk_core.renderers.sections import Sections
from portraittalk_core.types import LandmarkTrack, Speech

FRAMES, FPS = 26, Fraction(25)
BLACK = flat((0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return puppet_film(tmp_path_factory.mktemp("film") / "film.mp4", puppet_moves(FRAMES))


@pytest.fixture(scope="module")
def filmed(film):
    return torch.stack(list(film.pictures()))


def speech(seconds: float, start_s: float = 0.0, stop_s: float = 99.0) -> Speech:
    """Syllables four times a second from start to stop, and nothing before and after."""
    return Speech(syllables(seconds, start_s, stop_s))


def render(model, film, callbacks=None, voice=None, track=None, **options) -> torch.Tensor:
    job = RenderJob.of_track(film, spoken(film) if track is None else track, voice or speech(FRAMES / 25))
    options = {"sharpen": 0.0, "match_colour": 0.0, "voice_gate": 0.0, "blend": "lower", **options}
    return torch.stack(list(LipRenderer(model, LipPaintOptions(**options)).render(job, callbacks)))


def darkness(made, film) -> torch.Tensor:
    """(T,) how dark each chin has become, 0..1, beside the film's own."""
    track, out = film.track, []
    for index, picture in enumerate(film.pictures()):
        x, y = (track.points_px[index, 152, :2] - torch.tensor([0.0, 4.0])).long().tolist()
        out.append(1 - float(made[index, y, x].float().mean() / picture[y, x].float().mean()))
    return torch.tensor(out)


def test_hidden_faces_stay_as_filmed_and_painting_fades_beside_them(film, filmed):
    valid = torch.ones(FRAMES, dtype=torch.bool)
    valid[10:13] = False
    part = replace(film, track=replace(film.track, valid=valid))
    made = render(StubLips(BLACK), part)
    assert torch.equal(made[10:13], filmed[10:13])
    dark = darkness(made, part)
    steps = torch.arange(1, 4) / 4  # FADE_S of 0.12 s are three frames at 25 fps
    torch.testing.assert_close(dark[13:16], steps, atol=0.03, rtol=0)
    torch.testing.assert_close(dark[7:10], steps.flip(0), atol=0.03, rtol=0)
    assert float(dark[:6].min()) > 0.97 and float(dark[17:].min()) > 0.97


@pytest.mark.parametrize("count", [1, 2, 3])
def test_films_shorter_than_a_fade_have_weights(count):
    scenes = torch.zeros(count, dtype=torch.int64)
    assert presence(torch.ones(count, dtype=torch.bool), scenes, FPS).tolist() == [1.0] * count
    hidden = torch.arange(count) > 0
    assert presence(hidden, scenes, FPS).tolist() == [0.0, 0.25, 0.5][:count]


def test_nothing_fades_over_a_cut(film):
    valid = torch.arange(FRAMES) < 12
    scenes = (torch.arange(FRAMES) >= 12).long()
    made = render(StubLips(BLACK), replace(film, track=replace(film.track, valid=valid), scenes=scenes))
    dark = darkness(made, film)
    assert float(dark[:12].min()) > 0.97 and float(dark[12:].abs().max()) == 0


def turned_track(yaw_deg: torch.Tensor) -> LandmarkTrack:
    from portraittalk_core.face.canonical import canonical_face

    angles = torch.zeros(len(yaw_deg), 3)
    angles[:, 1] = yaw_deg
    points = canonical_face()[None] @ rotation_matrix(angles).transpose(1, 2) * 0.17
    points[..., :2] += torch.tensor([0.5, 0.45])
    ones = torch.ones(len(yaw_deg), dtype=torch.bool)
    return LandmarkTrack(points.float(), ones, FPS, SIDE, SIDE)


def test_turned_faces_are_told_by_their_yaw_and_glimpses_between_them_count(caplog):
    yaw = torch.tensor([0.0] * 6 + [30.0, 50, 70, 70, 40, 70, 65] + [20.0] * 9)
    track, scenes = turned_track(yaw), torch.zeros(len(yaw), dtype=torch.int64)
    turned = turned_aside(track, scenes, 55.0)
    assert torch.nonzero(turned).flatten().tolist() == [8, 9, 10, 11, 12]
    usable = torch.ones(len(yaw), dtype=torch.bool)
    weights = paint_weights(track, scenes, usable, 55.0, "turn.mp4")
    assert weights[7:14].tolist() == [0.25, 0, 0, 0, 0, 0, 0.25] and weights[4].item() == 1
    assert "turn.mp4 is turned aside by more than 55° in 5 frames, from 0.32 s on" in caplog.text
    usable[1] = False
    assert paint_weights(track, scenes, usable, 90.0)[:4].tolist() == [0.25, 0, 0.25, 0.5]


def test_insides_of_mouths_are_shown_where_they_can_be_seen():
    """Not on turned heads, in tiny mouths or between closed lips, which the warp moves all the same."""
    yaw = torch.tensor([0.0] * 6 + [30.0, 40, 40, 30.0] + [20.0] * 9)
    track, scenes = turned_track(yaw), torch.zeros(len(yaw), dtype=torch.int64)
    usable = torch.ones(len(yaw), dtype=torch.bool)
    shares = inside_shares(track, scenes, usable, 55.0)
    assert shares[[2, 6, 7, 8, 9, 15]].tolist() == [1, 0.25, 0, 0, 0.25, 1]
    assert not inside_shares(track, scenes, usable, 10.0)[12:].any()
    tiny = replace(track, points=0.5 + (track.points - 0.5) * 0.2)
    assert not inside_shares(tiny, scenes, usable, 55.0).any()
    points = torch.zeros(3, 478, 3)
    points[:, 308, 0] = 0.4  # the corners of the lips are 80 pixels apart, their middles 0, 3.6 and 8
    points[:, 14, 1] = torch.tensor([0.0, 0.036, 0.08])
    found = gaps(points, 200, 100)
    assert found.tolist() == pytest.approx([0, 0.045, 0.1])
    assert parted_share(found).tolist() == pytest.approx([0, 0.5, 1])


class AddingLips(StubLips):
    """What it paints, four times too much of it, is added to aligned references that are too dark."""

    def with_share(self, features: float, share: float) -> float:
        return share

    def paint(self, features: float, batch) -> torch.Tensor:
        return batch.pictures - 0.02 + features * 0.08


def test_the_trial_tells_mouths_that_are_painted_well_from_others(film):
    """A network that gives the frames back explains all of their mouths, one that paints a single colour nothing."""
    footage = footage_of(RenderJob.of_track(film, film.track))
    boxes = LipBoxes(film.track, StubLips().crop)
    chosen = ReferenceFrames((0, 5), (5,))
    frames = tried_frames(footage, torch.ones(FRAMES), chosen)
    opened = gaps(film.track.points, SIDE, SIDE) >= 0.1
    assert len(frames) == 5 and all(opened[frames]) and not {0, 5} & set(frames)
    ends = film.track.points_px[frames][:, [78, 308], :2]
    width_px = float((ends[:, 0] - ends[:, 1]).norm(dim=1).median())
    boxed = torch.stack([boxes.points01(at, film.track.points[at, [78, 308]]) for at in frames])
    in_crop = float((boxed[:, 0] - boxed[:, 1]).norm(dim=1).median()) * boxes.rule.size
    sound = lambda numbers: torch.zeros(len(numbers), 80, 16)  # noqa: E731 - as the contract calls it
    assert explained(StubLips(), "features", sound, footage, boxes, frames)[0] == Trial(
        *map(pytest.approx, (1, 1, width_px / in_crop))
    )
    assert explained(StubLips(flat((0.0, 1.0, 0.0))), "features", sound, footage, boxes, frames)[0].explained < 0
    adding = AddingLips()
    trial, features = explained(adding, 1.0, sound, footage, boxes, frames)
    assert features == pytest.approx(0.25, abs=1e-3) and trial.explained == pytest.approx(1, abs=1e-3)
    shut = replace(film, track=replace(film.track, points=film.track.points[:1].expand(FRAMES, -1, -1)))
    assert opened[0] or not tried_frames(footage_of(RenderJob.of_track(shut, shut.track)), torch.ones(FRAMES), chosen)
    assert explained(StubLips(), "features", sound, footage, boxes, []) == (None, "features")
    assert not trusted(None, 1.0, "a film") and trusted(Trial(0.9, 0.9, 1.0), 1.0, "a film")
    for trial, opened in ((Trial(0.1, 0.9, 1.0), 1.0), (Trial(0.9, 0.1, 1.0), 1.0), (Trial(0.9, 0.9, 3.0), 1.0),
                          (Trial(0.9, 0.9, 1.0), 2.0)):  # fmt: skip
        assert not trusted(trial, opened, "a film")


def test_mean_colour_of_the_others_is_what_a_frame_is_judged_with():
    """Means over pixels of the mouths, of which the third frame has twice as many."""
    true, masks = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(3, 1, 4, 4)
    masks[:2, :, 2, 1:3], masks[2, :, 2] = 1, 1
    away = torch.tensor([[0.04, 0.0, -0.08], [0.12, 0.04, 0.0], [0.0, 0.08, 0.04]])
    shift, shifts = mean_shifts(true - away[:, :, None, None], true, masks)
    assert torch.allclose(shift, (away[0] + away[1] + 2 * away[2]) / 4, atol=1e-6)
    others = torch.stack([(away[1] + 2 * away[2]) / 3, (away[0] + 2 * away[2]) / 3, (away[0] + away[1]) / 2])
    assert torch.allclose(shifts, others, atol=1e-6)
    shift, shifts = mean_shifts(true[:1] + 0.5, true[:1], masks[:1])
    assert shift.tolist() == pytest.approx([-0.1] * 3) and shifts.abs().max() < 1e-6  # at most; no others


def test_faces_too_small_to_be_painted_stay_as_filmed(film, filmed):
    tiny = replace(film.track, points=0.5 + (film.track.points - 0.5) * 0.01)
    assert torch.equal(render(StubLips(BLACK), replace(film, track=tiny), track=tiny, crop_pad=0.0), filmed)


def test_the_gate_is_open_in_speech_and_shut_before_after_and_in_music():
    gate = voice_gate(speech(2.0, 0.8, 1.4), 50, FPS, 1.0)
    assert float(gate[:12].max()) < 0.05 and float(gate[23:33].min()) > 0.95 and float(gate[42:].max()) < 0.05
    longer = voice_gate(speech(1.0), 100, FPS, 1.0)  # the speech has ended
    assert float(longer[3:22].min()) > 0.95 and float(longer[32:].max()) < 0.05
    time = np.arange(32_000) / 16_000
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220, 277.2, 329.6))
    assert float(voice_gate(Speech(torch.tensor(0.1 * chord, dtype=torch.float32)), 50, FPS, 1.0).max()) < 0.05
    assert float(voice_gate(speech(2.0, 0.8, 1.4), 50, FPS, 0.4).min()) == pytest.approx(0.6, abs=0.02)
    assert voice_gate(None, 5, FPS, 1.0).tolist() == [1.0] * 5


def test_in_silence_the_mouth_rests_and_silence_is_heard(film):
    """Sketches of an opened mouth become those of the film's most closed one; mel rows become −4."""
    model = StubLips()
    render(model, film, voice=Speech(torch.zeros(16_000)), voice_gate=1.0)
    assert float(torch.cat([batch.sound for batch in model.batches]).max()) == -4
    free = StubLips()
    sound = Speech(torch.ones(16_000) * 0.1)
    render(free, film, voice=sound, voice_gate=0.0)
    assert float(torch.cat([batch.sound for batch in free.batches]).max()) > -4
    from portraittalk_core.face.geometry import mouth_open
    from portraittalk_core.renderers.lip.crop import LipBoxes
    from portraittalk_core.renderers.lip.footage import footage_of

    job = RenderJob.of_track(film, spoken(film), None)
    footage, boxes = footage_of(job), LipBoxes(film.track, StubLips().crop)
    reader = FrameReader(footage, boxes, torch.ones(FRAMES), torch.zeros(FRAMES), 8, True)
    shapes = replace(film.track, points=torch.stack([reader.shape(index) for index in range(FRAMES)]))
    own = mouth_open(film.track)
    torch.testing.assert_close(mouth_open(shapes), own.amin().expand(FRAMES), atol=0.02, rtol=0)
    assert float(mouth_open(spoken(film)).min()) > float(own.min()) + 0.1
    eyes = [33, 133, 362, 263, 159, 386]  # which are the film's, to the last bit
    assert torch.equal(shapes.points[:, eyes], film.track.points[:, eyes])


class Stopped(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("again", [4, 7])
def test_a_stopped_run_goes_on_and_ends_alike(film, tmp_path, again):
    """Also with another number of frames at once; what was painted is not painted again."""

    def tinted(batch):
        return (batch.pictures + batch.sketches[:, 2] * 0.3).clamp(0, 1)

    whole = render(StubLips(tinted), film, batch_size=4, sharpen=1.0)

    def stop(done: int, of: int) -> None:
        if done >= of * 0.6:
            raise Stopped

    sections, first = Sections(tmp_path, "a" * 16), StubLips(tinted)
    with pytest.raises(Stopped):
        render(first, film, Callbacks(stop, sections=sections), batch_size=4, sharpen=1.0)
    assert threading.active_count() < 3 or not any("reading ahead" in t.name for t in threading.enumerate())
    second, kept = StubLips(tinted), Sections(tmp_path, "a" * 16)
    made = render(second, film, Callbacks(sections=kept), batch_size=again, sharpen=1.0)
    assert torch.equal(made, whole)
    painted = sum(len(batch.pictures) for batch in second.batches)
    assert kept.num_found >= 4 and painted == FRAMES - 4 * kept.num_found


def test_sections_of_another_crop_are_not_used(film, tmp_path):
    sections = Sections(tmp_path, "b" * 16)
    render(StubLips(), film, Callbacks(sections=sections), batch_size=8)
    wide = StubLips(crop=replace(StubLips().crop, size=64))
    made = render(wide, film, Callbacks(sections=Sections(tmp_path, "b" * 16)), batch_size=8)
    assert len(wide.batches) == 4 and len(made) == FRAMES


def test_large_pictures_are_painted_in_smaller_batches(film):
    from portraittalk_core.renderers.lip.crop import LipBoxes
    from portraittalk_core.renderers.lip.footage import footage_of

    track = replace(film.track, width=3840, height=2160)
    footage = footage_of(RenderJob.of_track(replace(film, track=track), track, None))
    ones = torch.ones(FRAMES)
    assert FrameReader(footage, LipBoxes(track, StubLips().crop), ones, ones, 64, True).batch_size == 1
    footage = footage_of(RenderJob.of_track(film, film.track, None))
    assert FrameReader(footage, LipBoxes(film.track, StubLips().crop), ones, ones, 64, True).batch_size == 64


def test_progress_counts_every_frame_and_may_stop_at_once(film):
    seen = []
    render(StubLips(), film, Callbacks(lambda done, of: seen.append((done, of))))
    assert seen[-1][0] == seen[-1][1] and [done for done, _ in seen] == sorted(done for done, _ in seen)

    def stop(*_):
        raise Stopped

    with pytest.raises(Stopped):
        render(StubLips(), film, Callbacks(stop))


def test_what_is_pasted_covers_all_of_the_inside_and_ends_on_the_lips():
    """The warp paints teeth beneath, which must not show at the rim."""
    angles = torch.linspace(0, 2 * torch.pi, 21)[:-1]
    lips = torch.stack([0.5 + 0.3 * angles.cos(), 0.6 + 0.1 * angles.sin()], 1)
    mask, at = mouth_mask(lips, 200), (torch.arange(200) + 0.5) / 200
    radius = (((at - 0.5) / 0.3).square() + ((at - 0.6) / 0.1)[:, None].square()).sqrt()
    assert (mask[radius < 0.89] == 1).all() and (mask[radius < 1] > 0.7).all() and (mask[radius > 1.26] == 0).all()
