"""Several faces of one picture, each with a speech of its own."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from toy_puppet import BlockMesh

from portraittalk_core.engines.registry import open_engine
from portraittalk_core.errors import InputError
from portraittalk_core.face.choice import BoxChoice
from portraittalk_core.face.mesh.landmarks import find_portrait
from portraittalk_core.media.video_read import read_pictures
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.pipelines.talk import talk
from portraittalk_core.pipelines.together import (
    SEAM,
    PictureSpeaker,
    parts_of_picture,
    render_together,
    talk_speakers,
)
from portraittalk_core.renderers.contract import Callbacks, RenderJob
from portraittalk_core.renderers.sections import Sections
from portraittalk_core.types import Speech

WIDTH, HEIGHT, HALF = 400, 180, 200
OPTIONS = MotionOptions(fps=Fraction(10))


@pytest.fixture(scope="module")
def portraits():
    """Two blocks that BlockMesh takes for faces, and a third picture."""
    picture = torch.full((HEIGHT, WIDTH, 3), 60, dtype=torch.uint8)
    picture[40:120, 60:140, 0], picture[40:120, 260:340, 2] = 220, 220
    boxes = BoxChoice((50.0, 30.0, 150.0, 130.0)), BoxChoice((250.0, 30.0, 350.0, 130.0))
    return [find_portrait(picture, box, mesh=BlockMesh()) for box in boxes]


def voice(seconds: float) -> Speech:
    time = np.arange(int(16_000 * seconds)) / 16_000
    loud = 0.55 + 0.45 * np.sin(2 * np.pi * 3 * time)
    return Speech(torch.tensor(np.random.default_rng(0).normal(size=len(time)) * loud * 0.2, dtype=torch.float32))


def read(path) -> torch.Tensor:
    return torch.stack(list(read_pictures(path))).int()


@pytest.mark.slow
def test_each_half_is_what_its_face_says_alone_and_the_shorter_one_listens(portraits, tmp_path):
    speeches = voice(1.2), voice(0.5)
    speakers = list(map(PictureSpeaker, portraits, speeches))
    result = talk_speakers(speakers, tmp_path / "both.mp4", OPTIONS, engine=open_engine(), crf=1)
    assert result.num_frames == 12
    padded = replace(speeches[1], waveform=torch.nn.functional.pad(speeches[1].waveform, (0, 11_200)))
    talk(portraits[0], speeches[0], tmp_path / "left.mp4", OPTIONS, crf=1)
    talk(portraits[1], padded, tmp_path / "right.mp4", replace(OPTIONS, seed=1), crf=1)
    both, left, right = (read(tmp_path / f"{name}.mp4") for name in ("both", "left", "right"))
    assert int((both[:, :, : HALF - 25] - left[:, :, : HALF - 25]).abs().max()) < 12
    assert int((both[:, :, HALF + 25 :] - right[:, :, HALF + 25 :]).abs().max()) < 12
    moved = [(made[1:] - made[:1]).abs().amax((0, 1, 3)) for made in (left, right)]
    assert int(moved[0][:HALF].max()) > 40 < int(moved[1][HALF:].max())  # else the comparison says nothing


def test_a_pixel_is_of_the_nearest_face(portraits):
    """Of equal faces at one height, the line between them; beside it a logistic function of the distance."""
    parts = parts_of_picture(portraits)
    assert torch.allclose(parts.sum(0), torch.ones(HEIGHT, WIDTH), atol=1e-5)
    left, right = (portrait.landmarks.points_px[0] for portrait in portraits)
    low, high = left[:, :2].amin(0), left[:, :2].amax(0)
    half, middle = ((high - low) / 2).tolist(), (left[:, 0].mean() + right[:, 0].mean()) / 2
    row, narrow = int((low[1] + high[1]) / 2), min(half)
    for away in (-9, -2, 0, 3, 12):
        at = int(middle) + away
        off = at + 0.5 - float(low[0] + right[:, 0].amax()) / 2
        expected = 1 / (1 + math.exp(2 * off / half[0] * narrow / (SEAM * 2 * narrow)))
        assert float(parts[0, row, at]) == pytest.approx(expected, abs=0.02), away
    assert float(parts[0, row, int(left[:, 0].mean())]) > 0.99999


class Flat:
    """A renderer that fills the picture with a colour: 50 for a job on the left face, 200 for the right."""

    def __init__(self, size=(WIDTH, HEIGHT)) -> None:
        self.size, self.keys = size, []

    def output_size(self, _):
        return self.size

    def render(self, job, callbacks=None):
        self.keys.append(callbacks.sections and callbacks.sections.key)
        value = 50 if float(job.source.landmarks.points[0, :, 0].mean()) < 0.5 else 200
        for done in range(job.num_frames):
            if callbacks.on_progress:
                callbacks.on_progress(done + 1, job.num_frames)
            yield torch.full((HEIGHT, WIDTH, 3), value, dtype=torch.uint8)


def test_jobs_have_sections_of_their_own_and_report_together(portraits, tmp_path):
    jobs = [RenderJob.of_track(portrait, portrait.landmarks) for portrait in portraits]
    renderer, reports = Flat(), []
    callbacks = Callbacks(lambda done, of: reports.append((done, of)), sections=Sections(tmp_path / "kept", "k" * 16))
    render_together(renderer, jobs, tmp_path / "o.mp4", callbacks=callbacks, crf=1)
    (made,) = read(tmp_path / "o.mp4")
    assert int((made[:, : HALF - 25] - 50).abs().max()) < 6 > int((made[:, HALF + 25 :] - 200).abs().max())
    assert renderer.keys == ["k" * 16 + "-0", "k" * 16 + "-1"] and reports == [(1, 2), (2, 2)]


@pytest.mark.parametrize("case", ["same face", "nobody", "another picture", "all anew", "another size"])
def test_what_cannot_be_done_is_told(portraits, tmp_path, case):
    speakers, renderer = [PictureSpeaker(face, voice(0.2), f"face {n}") for n, face in enumerate(portraits)], Flat()
    if case == "same face":
        speakers[1], words = replace(speakers[0], name="face 7"), "face 0 and face 7 are the same face in portrait"
    elif case == "nobody":
        speakers, words = [], "nobody is to speak"
    elif case == "another picture":
        other = replace(portraits[1], picture=portraits[1].picture + 1)
        speakers[1], words = PictureSpeaker(other, voice(0.2)), "of one picture"
    elif case == "all anew":
        renderer.repaints_all, words = True, "paints all of a picture anew"
    else:
        renderer, words = Flat((512, 512)), "paints all of a picture anew"
    with pytest.raises(InputError, match=words):
        talk_speakers(speakers, tmp_path / "o.mp4", OPTIONS, engine=open_engine(), renderer=renderer)
    assert not list(tmp_path.iterdir())
