from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from portraittalk_core.engines.registry import open_engine
from portraittalk_core.errors import NoFaceError
from portraittalk_core.face.crop import CropOptions, plan_face_crop
from portraittalk_core.face.geometry import mouth_open
from portraittalk_core.face.mesh.landmarks import open_mesh, track_faces
from portraittalk_core.media.video import VideoWriter, read_pictures
from portraittalk_core.pipelines.dub import dubbed_pictures, plan_dub, resting_portrait, write_dub
from portraittalk_core.renderers.identitynet.painter import Painted
from portraittalk_core.types import MotionOptions, Speech

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
    dub = plan_dub(video, speech, MotionOptions(), open_engine())
    return dub, write_dub(dub, folder / "out.mp4", sound=speech, crf=4)


def test_the_video_keeps_size_rate_and_length(dubbed):
    _, made = dubbed
    with av.open(str(made.path)) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate, stream.frames) == (256, 256, 10, 8)
        assert abs(float(file.streams.audio[0].duration * file.streams.audio[0].time_base) - 0.8) < 0.1


def test_the_mouth_follows_the_speech_and_the_eyes_do_not(dubbed):
    dub, made = dubbed
    with open_mesh() as mesh:
        found = track_faces(read_pictures(made.path), Fraction(10), mesh)
    assert found.valid.tolist() == dub.filmed.valid.tolist() == [True] * 2 + [False] * 2 + [True] * 4
    seen = dub.filmed.valid
    wanted, got = mouth_open(dub.spoken)[seen], mouth_open(found)[seen]
    assert np.corrcoef(wanted, got)[0, 1] > 0.6 and (wanted - got).abs().mean() < 0.08
    assert got.max() - got.min() > 0.03  # the film's own mouth stands still
    eyes = [33, 133, 362, 263]
    away = (found.points_px - dub.filmed.points_px)[seen][:, eyes, :2].norm(dim=2)
    assert away.max() < 3  # pixels of 256; the mesh itself is not quieter


def test_faceless_frames_pass_untouched_and_are_counted(dubbed):
    dub, _ = dubbed
    assert dub.num_faceless == 2
    before, after = (list(pictures) for pictures in (read_pictures(dub.video), dubbed_pictures(dub)))
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)][2:4] == [True, True]


def test_what_is_far_from_the_face_stays(dubbed):
    dub, _ = dubbed
    for before, after in zip(read_pictures(dub.video), dubbed_pictures(dub), strict=True):
        assert torch.equal(before[:8], after[:8])


def test_the_resting_portrait_is_a_frame_of_the_video(dubbed):
    portrait = resting_portrait(dubbed[0])
    assert any(torch.equal(portrait.picture, picture) for picture in read_pictures(dubbed[0].video))


def test_a_video_without_a_face_is_told(tmp_path, speech):
    with pytest.raises(NoFaceError, match="any of the 3 frames of blank.mp4"):
        plan_dub(filmed(tmp_path / "blank.mp4", [BLANK] * 3), speech, MotionOptions(), open_engine())


class Reddener:
    """A painter that makes everything red."""

    batch, overlap, steps = 3, 0, 1

    def paint(self, frames, on_step, first, fixed):
        red = frames.clone()
        red[:, 0] = 1.0
        return Painted(red, None)


def test_only_the_face_is_painted_and_a_lost_one_is_left(dubbed, tmp_path):
    dub, _ = dubbed
    plan = plan_face_crop(dub.spoken, CropOptions(size=64))
    made = write_dub(dub, tmp_path / "o.mp4", crf=4, painted=(Reddener(), plan))
    assert made.num_frames == 8
    middle = dub.filmed.points_px[0, 1, :2].round().long()
    for index, (new, old) in enumerate(zip(read_pictures(made.path), read_pictures(dub.video), strict=True)):
        red = float(new[middle[1], middle[0], 0]) - float(old[middle[1], middle[0], 0])
        assert torch.allclose(new[:8].float(), old[:8].float(), atol=16)
        assert red > 4 or not dub.filmed.valid[index]
