"""Several faces of one film, each with a speech of its own."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from stub_lips import StubLips, flat
from toy_puppet import BlockMesh

from portraittalk_core.engines.registry import open_engine
from portraittalk_core.errors import InputError
from portraittalk_core.face.choice import BoxChoice
from portraittalk_core.face.mesh.landmarks import track_faces
from portraittalk_core.media.audio import load_speech
from portraittalk_core.media.several_sounds import summed_sounds
from portraittalk_core.media.video_read import read_pictures
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.motion.dub_options import DubOptions
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.pipelines.speakers import Speaker, dub_speakers, shared_area
from portraittalk_core.renderers.contract import Callbacks, Film
from portraittalk_core.renderers.lip import reading
from portraittalk_core.renderers.lip.options import LipPaintOptions
from portraittalk_core.renderers.lip.renderer import LipRenderer
from portraittalk_core.renderers.sections import Sections
from portraittalk_core.types import Speech

WIDTH, HEIGHT, FRAMES, FPS = 320, 160, 8, Fraction(25)
LEFT, RIGHT = BoxChoice((30.0, 20.0, 110.0, 110.0)), BoxChoice((190.0, 40.0, 270.0, 130.0))


@pytest.fixture(autouse=True)
def _stand_in_references(monkeypatch):
    monkeypatch.setattr(reading, "references_of", lambda *_: "references")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Two blocks that BlockMesh takes for faces."""
    path = tmp_path_factory.mktemp("two") / "two.mp4"
    picture = torch.full((HEIGHT, WIDTH, 3), 30, dtype=torch.uint8)
    picture[30:100, 40:100, 0], picture[50:120, 200:260, 2] = 220, 220
    with VideoWriter(path, WIDTH, HEIGHT, FPS, crf=1) as writer:
        for _ in range(FRAMES):
            writer.write(picture)
    return path


def film_of(video, choice) -> Film:
    return Film(video, track_faces(read_pictures(video), FPS, BlockMesh(), choice))


def voice(seconds: float = FRAMES / 25) -> Speech:
    time = np.arange(int(16_000 * seconds)) / 16_000
    loud = 0.55 + 0.45 * np.sin(2 * np.pi * 5 * time)
    return Speech(torch.tensor(np.random.default_rng(0).normal(size=len(time)) * loud * 0.2, dtype=torch.float32))


def dub(speakers, out, model=None, callbacks=None, **more):
    renderer = LipRenderer(
        model or StubLips(flat((0.0, 0.0, 0.0))),
        LipPaintOptions(match_colour=0.0, sharpen=0.0, voice_gate=0.0, batch_size=3, blend="face"),
    )
    dub_speakers(speakers, out, MotionOptions(), engine=open_engine(), sound=None, renderer=renderer, crf=1,
                 callbacks=callbacks, **more)  # fmt: skip
    return torch.stack(list(read_pictures(out))).int()


def test_each_face_is_painted_into_the_pictures_of_the_one_before(video, tmp_path):
    left, right = (Speaker(film_of(video, choice), voice()) for choice in (LEFT, RIGHT))
    filmed = torch.stack(list(read_pictures(video))).int()
    both = dub([left, right], tmp_path / "both.mp4")
    one, other = dub([left], tmp_path / "left.mp4"), dub([right], tmp_path / "right.mp4")
    places = (slice(80, 90), slice(60, 80)), (slice(100, 110), slice(220, 240))  # chins
    for rows, columns in places:
        assert int((both - filmed)[:, rows, columns].abs().amax(-1).min()) > 60
    assert int((one - filmed)[:, places[1][0], places[1][1]].abs().max()) < 12
    assert int((other - filmed)[:, places[0][0], places[0][1]].abs().max()) < 12
    half = WIDTH // 2 - 20
    assert int((both[:, :, :half] - one[:, :, :half]).abs().max()) < 12
    assert int((both[:, :, -half:] - other[:, :, -half:]).abs().max()) < 12


def test_every_face_is_rendered_in_the_style(video, tmp_path):
    styles = []

    class Noting(LipRenderer):
        def render(self, job, callbacks=None):
            styles.append(job.style)
            return super().render(job, callbacks)

    speakers = [Speaker(film_of(video, choice), voice(0.2)) for choice in (LEFT, RIGHT)]
    renderer = Noting(StubLips(flat((0.0, 0.0, 0.0))), LipPaintOptions(voice_gate=0.0, blend="lower"))
    dub_speakers(speakers, tmp_path / "o.mp4", MotionOptions(), engine=open_engine(), sound=None, renderer=renderer,
                 style="a style")  # fmt: skip
    assert styles == ["a style", "a style"]


def test_the_film_goes_on_as_the_longest_speech(video, tmp_path):
    speakers = [Speaker(film_of(video, LEFT), voice(0.2)), Speaker(film_of(video, RIGHT), voice(0.6))]
    assert len(dub(speakers, tmp_path / "o.mp4", dub_options=DubOptions(film_end="loop"))) == 15


def test_one_face_twice_and_two_films_are_refused(video, tmp_path):
    film = film_of(video, LEFT)
    with pytest.raises(InputError, match=r"the face 0 and the face 1 are the same face in two.mp4; choose different"):
        dub([Speaker(film, voice(), "the face 0"), Speaker(film, voice(), "the face 1")], tmp_path / "o.mp4")
    other = replace(film_of(video, RIGHT), path=tmp_path / "b.mp4")
    with pytest.raises(InputError, match="of one film"):
        dub([Speaker(film, voice()), Speaker(other, voice())], tmp_path / "o.mp4")
    with pytest.raises(InputError, match="nobody is to speak"):
        dub([], tmp_path / "o.mp4")
    assert shared_area(film.track, film.track) == pytest.approx(1) and not list(tmp_path.iterdir())
    assert shared_area(film.track, film_of(video, RIGHT).track) == 0


class Stopped(Exception):
    pass


def test_a_stopped_run_of_two_goes_on_and_leaves_nothing_behind(video, tmp_path):
    speakers = [Speaker(film_of(video, choice), voice()) for choice in (LEFT, RIGHT)]
    whole = dub(speakers, tmp_path / "whole.mp4")

    def stop(done: int, of: int) -> None:
        if done > of * 0.7:
            raise Stopped

    kept = tmp_path / "kept"
    with pytest.raises(Stopped):
        dub(speakers, tmp_path / "o.mp4", callbacks=Callbacks(stop, sections=Sections(kept, "c" * 16)))
    assert len(list(kept.iterdir())) == 2 and not (tmp_path / "o.mp4").exists()
    again, sections = StubLips(flat((0.0, 0.0, 0.0))), Sections(kept, "c" * 16)
    made = dub(speakers, tmp_path / "o.mp4", again, Callbacks(sections=sections))
    assert torch.equal(made, whole) and not list(kept.iterdir())
    assert sections.summary.startswith("resumed: ")  # of both faces' jobs
    assert 0 < sum(len(batch.pictures) for batch in again.batches) < 2 * FRAMES


def test_sounds_are_summed_and_do_not_clip(tmp_path, write_sound):
    time = np.arange(8000) / 16_000
    low, high = (0.4 * np.sin(2 * np.pi * pitch * time) for pitch in (200, 500))
    write_sound(low, 16_000, "low.wav")
    write_sound(high[:4000], 16_000, "high.wav")
    summed, rate = summed_sounds([tmp_path / "low.wav", tmp_path / "high.wav"])
    assert rate == 48_000 and summed.shape[0] == 2 and abs(summed.shape[1] - 24_000) < 50
    heard = [load_speech(tmp_path / name).waveform.numpy() for name in ("low.wav", "high.wav")]
    expected = heard[0] + np.pad(heard[1], (0, len(heard[0]) - len(heard[1])))
    mono = summed[0].numpy()[::3][: len(expected)]
    assert np.corrcoef(mono[100:7900], expected[100:7900])[0, 1] > 0.995
    write_sound(low * 2, 16_000, "loud.wav")
    loud, _ = summed_sounds([tmp_path / "loud.wav"] * 3, 0.1)
    assert float(loud.abs().max()) == pytest.approx(1) and loud.shape[1] == 4800
    more, _ = summed_sounds([tmp_path / "low.wav", (torch.full((1, 4800), 0.25), 48_000)], 0.2)
    alone, _ = summed_sounds([tmp_path / "low.wav"], 0.2)
    assert more.shape == alone.shape == (2, 9600)
    assert torch.allclose((more - alone)[:, :4800], torch.tensor(0.25), atol=1e-6)
    assert torch.equal(more[:, 4800:], alone[:, 4800:])
