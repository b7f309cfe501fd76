from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from portraittalk_core.engines.registry import open_engine
from portraittalk_core.errors import InputError, NoFaceError
from portraittalk_core.face.geometry import mouth_open
from portraittalk_core.face.mesh.landmarks import open_mesh, track_faces
from portraittalk_core.media.video_read import read_pictures
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.motion.dub import dub_track, resting_frame
from portraittalk_core.motion.dub_options import DubOptions
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.pipelines.dub import covered_stretches, dub, read_film, render_film
from portraittalk_core.renderers import RenderJob
from portraittalk_core.renderers.identitynet.build import IdentityNetRenderer
from portraittalk_core.renderers.identitynet.painter import Painted
from portraittalk_core.renderers.warp.build import warped_pictures
from portraittalk_core.types import Speech

BLANK = torch.full((256, 256, 3), 90, dtype=torch.uint8)


@pytest.fixture(scope="module")
def close(astronaut):
    from PIL import Image

    return torch.from_numpy(np.array(Image.fromarray(astronaut.picture.numpy()[:300, 80:380]).resize((256, 256))))


def filmed(path, pictures):
    with VideoWriter(path, 256, 256, Fraction(10), crf=4) as writer:
        for picture in pictures:
            writer.write(picture)
    return path


@pytest.fixture(scope="module")
def speech() -> Speech:
    """A buzzing vowel of 0.6 s, then silence."""
    t = torch.arange(9600) / 16000
    return Speech(0.3 * (2 * torch.pi * 3 * t).sin().abs() * sum((2 * torch.pi * 120 * k * t).sin() for k in (1, 2, 5)))


@pytest.fixture(scope="module")
def dubbed(close, speech, tmp_path_factory):
    """Eight frames, of which the third and fourth are blank."""
    folder = tmp_path_factory.mktemp("dub")
    video = filmed(folder / "in.mp4", [close, close, BLANK, BLANK, close, close, close, close])
    film = read_film(video)
    spoken = dub_track(film.track, speech, MotionOptions(), open_engine(), scenes=film.scenes)
    return film, spoken, dub(film, speech, folder / "out.mp4", MotionOptions(), engine=open_engine(), crf=4)


def test_the_video_keeps_size_rate_and_length(dubbed):
    _, _, made = dubbed
    with av.open(str(made.path)) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate, stream.frames) == (256, 256, 10, 8)
        assert abs(float(file.streams.audio[0].duration * file.streams.audio[0].time_base) - 0.8) < 0.1


def test_the_mouth_follows_the_speech_and_the_eyes_do_not(dubbed):
    film, spoken, made = dubbed
    with open_mesh() as mesh:
        found = track_faces(read_pictures(made.path), Fraction(10), mesh)
    assert found.valid.tolist() == film.track.valid.tolist() == [True] * 2 + [False] * 2 + [True] * 4
    seen = film.track.valid
    wanted, got = mouth_open(spoken)[seen], mouth_open(found)[seen]
    assert np.corrcoef(wanted, got)[0, 1] > 0.6 and (wanted - got).abs().mean() < 0.08
    assert got.max() - got.min() > 0.03  # the film's own mouth stands still
    eyes = [33, 133, 362, 263]
    away = (found.points_px - film.track.points_px)[seen][:, eyes, :2].norm(dim=2)
    assert away.max() < 3  # pixels of 256; the mesh itself is not quieter


def test_faceless_frames_pass_untouched_and_are_counted(dubbed):
    film, spoken, _ = dubbed
    assert film.num_faceless == 2
    pictures = (film.pictures(), warped_pictures(RenderJob.of_track(film, spoken)))
    before, after = (list(some) for some in pictures)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)][2:4] == [True, True]


def test_what_is_far_from_the_face_stays(dubbed):
    film, spoken, _ = dubbed
    for before, after in zip(film.pictures(), warped_pictures(RenderJob.of_track(film, spoken)), strict=True):
        assert torch.equal(before[:8], after[:8])


def test_a_film_that_has_become_shorter_is_told(dubbed, close, tmp_path):
    film, spoken, _ = dubbed
    cut = replace(film, path=filmed(tmp_path / "cut.mp4", [close] * 3))
    with pytest.raises(InputError, match="cut.mp4 has become shorter while it was read: frame 3 is missing"):
        render_film(cut, spoken, tmp_path / "o.mp4")
    assert not (tmp_path / "o.mp4").exists()


def test_motion_of_another_length_is_refused(dubbed, tmp_path):
    film, spoken, _ = dubbed
    with pytest.raises(InputError, match="5 frames of motion and 8 of in.mp4"):
        render_film(film, spoken.slice(0, 5), tmp_path / "o.mp4")


def test_a_video_without_a_face_is_told(tmp_path):
    with pytest.raises(NoFaceError, match="any of the 3 frames of blank.mp4"):
        read_film(filmed(tmp_path / "blank.mp4", [BLANK] * 3))


class Reddener:
    """A painter that makes everything red."""

    batch, overlap, steps = 3, 0, 1

    def paint(self, frames, on_step, first, fixed):
        red = frames.clone()
        red[..., 0] = 1.0
        return Painted(red, None)


class Backend:
    """Opens the reddener, and keeps what it was opened for."""

    needs_motion = False

    def open(self, canvas):
        self.canvas = canvas
        return Reddener()


def test_only_the_face_is_painted_and_a_lost_one_is_left(dubbed, tmp_path):
    film, spoken, _ = dubbed
    backend = Backend()
    made = render_film(film, spoken, tmp_path / "o.mp4", renderer=IdentityNetRenderer(backend, 64, 64), crf=4)
    assert made.num_frames == 8
    assert any(torch.equal(backend.canvas.portrait.picture, picture) for picture in film.pictures())
    middle = film.track.points_px[0, 1, :2].round().long()
    for index, (new, old) in enumerate(zip(read_pictures(made.path), film.pictures(), strict=True)):
        red = float(new[middle[1], middle[0], 0]) - float(old[middle[1], middle[0], 0])
        assert torch.allclose(new[:8].float(), old[:8].float(), atol=16)
        assert red > 4 or not film.track.valid[index]


def test_short_sights_between_covered_frames_do_not_count():
    visible = torch.tensor([True] * 4 + [False, True, True, False] + [True] * 9 + [False, False])
    expected = [False] * 3 + [True] * 6 + [False] * 7 + [True] * 3
    assert covered_stretches(visible, torch.zeros(19, dtype=torch.int64), 25.0).tolist() == expected
    cut = torch.tensor([0] * 6 + [1] * 13)  # over which nothing spreads
    kept = covered_stretches(visible, cut, 25.0).tolist()
    assert kept == [False] * 3 + [True] * 3 + [True] * 3 + [False] * 7 + [True] * 3


def test_a_covered_mouth_stays_as_filmed_and_is_not_the_face_at_rest(close, speech, tmp_path, caplog):
    hidden = close.clone()
    hidden[115:153, 79:166] = torch.tensor([190, 140, 120], dtype=torch.uint8)  # from above the lips to the chin
    pictures = [close] * 3 + [hidden] * 2 + [close] * 5
    film = read_film(filmed(tmp_path / "in.mp4", pictures))
    assert film.covered[3:5].all() and not film.covered[[0, 1, 6, 7, 8, 9]].any()
    assert not film.track.valid[3:5].any() and film.num_faceless == 0
    assert "the mouth in in.mp4 is covered in" in caplog.text
    assert not bool(film.covered[film.track.points.eq(resting_frame(film.track).points).flatten(1).all(1)].any())
    made = dub_track(film.track, speech, MotionOptions(), open_engine(), scenes=film.scenes)
    after = list(warped_pictures(RenderJob.of_track(film, made)))
    for index, before in enumerate(film.pictures()):
        assert torch.equal(before, after[index]) == bool(film.covered[index])


@pytest.mark.slow
def test_a_film_goes_on_where_the_speech_is_longer(close, speech, tmp_path, caplog):
    film = read_film(filmed(tmp_path / "in.mp4", [close] * 4))
    for film_end, frames in (("cut", 4), ("hold", 6), ("loop", 6), ("ping-pong", 6)):
        out = tmp_path / f"{film_end}.mp4"
        caplog.clear()
        made = dub(film, speech, out, MotionOptions(), engine=open_engine(), dub_options=DubOptions(film_end=film_end))
        assert made.num_frames == frames
        assert ("it is cut off where the film ends" in caplog.text) == (film_end == "cut")


def test_another_person_behind_a_cut_is_left_alone_and_told(close, speech, tmp_path, caplog):
    from PIL import Image

    wide = np.asarray(Image.fromarray(close.numpy()).resize((330, 256)))[:, 37:293]
    other = torch.from_numpy(255 - wide[..., ::-1].copy() // 4)  # of other colours too, so that a cut is seen
    other = (other.float() * 0.2 + torch.from_numpy(wide.copy()).float() * 0.7).byte()
    video = filmed(tmp_path / "in.mp4", [close] * 4 + [other] * 4)
    film = read_film(video)
    assert film.scenes.tolist() == [0] * 4 + [1] * 4
    assert film.track.valid.tolist() == [True] * 4 + [False] * 4 and film.num_other_person == 4
    assert "from 0.40 s on another face than at the beginning" in caplog.text and "--scenes all" in caplog.text
    assert read_film(video, scenes="all").track.valid.all()


def test_a_film_knows_how_sharp_each_of_its_mouths_is(close, tmp_path):
    from scipy.ndimage import gaussian_filter

    soft = torch.from_numpy(gaussian_filter(close.numpy().astype(float), (2, 2, 0)).astype(np.uint8))
    film = read_film(filmed(tmp_path / "in.mp4", [close, soft, BLANK, close]))
    sharp, blurred, none, again = film.sharpness.tolist()
    assert blurred < 0.3 * sharp
    assert none == 0
    assert again == pytest.approx(sharp, rel=0.2)
    assert film.in_order(torch.tensor([3, 1, 1])).sharpness.tolist() == [again, blurred, blurred]
