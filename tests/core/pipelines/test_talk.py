import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from portraittalk_core.engines.contract import whole_track
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.errors import InputError, OutputError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.geometry import interocular_px, mouth_open
from portraittalk_core.face.mesh.landmarks import open_mesh, track_faces
from portraittalk_core.media.audio import load_speech
from portraittalk_core.media.video_read import read_pictures
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.pipelines.render import driven_portrait, fit_track, render_track
from portraittalk_core.pipelines.talk import talk
from portraittalk_core.renderers import Callbacks
from portraittalk_core.types import LandmarkTrack, Portrait, Speech

SAMPLE = Path(__file__).parents[3] / "samples" / "speech.wav"


@pytest.fixture(scope="module")
def speech() -> Speech:
    return Speech(load_speech(SAMPLE).waveform[: 3 * 16000], "three seconds")


@pytest.fixture(scope="module")
def video(astronaut, speech, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("talk") / "talk.mp4"
    seen = []
    result = talk(
        astronaut, speech, out, sound=SAMPLE, callbacks=Callbacks(lambda done, total: seen.append((done, total)))
    )
    assert result.num_frames == 75
    assert seen[0] == (0, 75)
    assert seen[-1] == (75, 75)
    return out


def test_talk_lasts_as_long_as_the_speech(video):
    with av.open(str(video)) as file:
        assert sum(1 for _ in file.decode(video=0)) == 75
        sound = file.streams.audio[0]
        assert abs(float(sound.duration * sound.time_base) - 3.0) <= 1 / 25


@pytest.mark.slow
def test_talk_landmarks_found_again_follow_the_driving_ones(video, astronaut, speech):
    driving = whole_track(open_engine(), speech, astronaut.landmarks)
    with open_mesh() as mesh:
        found = track_faces(read_pictures(video), Fraction(25), mesh)
    assert found.valid.all()
    opening = np.corrcoef(mouth_open(driving), mouth_open(found))[0, 1]
    assert opening >= 0.9
    error = (found.points_px - driving.points_px)[..., :2].norm(dim=2).mean(1) / interocular_px(driving.points_px)
    assert error.mean() <= 0.025


def test_talk_leaves_the_far_picture_alone(video, astronaut):
    points = astronaut.landmarks.points_px[0, :, :2]
    low, high = points.amin(0), points.amax(0)
    x0, y0 = (low - (high - low)).clamp(min=0).long().tolist()  # hair moves with the head
    x1, y1 = (high + (high - low)).long().tolist()
    first, *_, last = read_pictures(video)
    difference = (first.float() - last.float()).abs().mean(-1)
    difference[y0:y1, x0:x1] = 0
    assert difference.mean() < 1.0  # of 255: what the encoder does to a still picture
    assert difference.amax() < 40


def test_talk_is_deterministic_by_seed(astronaut, speech):
    first, again, other = (
        whole_track(open_engine(), speech, astronaut.landmarks, MotionOptions(seed=s)) for s in (1, 1, 2)
    )
    assert torch.equal(first.points, again.points)
    assert not torch.equal(first.points, other.points)
    assert np.corrcoef(mouth_open(first), mouth_open(other))[0, 1] > 0.999  # the seed does not touch the mouth


def test_interrupted_talk_leaves_no_file(astronaut, speech, tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        talk(astronaut, speech, tmp_path / "t.mp4", callbacks=Callbacks(stop))
    assert list(tmp_path.iterdir()) == []
    assert torch.get_num_threads() >= 1


def test_talk_tells_a_bad_path_before_the_work(astronaut, speech, tmp_path):
    with pytest.raises(OutputError, match="missing"):
        talk(
            astronaut,
            speech,
            tmp_path / "missing" / "t.mp4",
            callbacks=Callbacks(lambda *_: pytest.fail("work was begun")),
        )


def test_render_track_follows_another_faces_motion(astronaut, make_plan, tmp_path):
    driver = plan_landmarks(make_plan(opening=[0.0, 0.4, 0.9, 0.4, 0.0]))
    smaller = LandmarkTrack.from_px(0.6 * driver.points_px + torch.tensor([150.0, 200, 0]), 512, 512, driver.fps)
    fitted = fit_track(astronaut, smaller)
    r = np.corrcoef(mouth_open(driver), mouth_open(fitted))[0, 1]
    assert r > 0.999
    assert fit_track(astronaut, driver) is driver
    assert fit_track(astronaut, smaller, "absolute") is smaller
    shown = []
    result = render_track(astronaut, smaller, tmp_path / "r.mp4", callbacks=Callbacks(on_picture=shown.append))
    assert result.num_frames == len(shown) == 5


def test_render_track_rejects_another_shape(astronaut, tmp_path):
    rest = astronaut.landmarks
    wide = LandmarkTrack(rest.points, rest.valid, rest.fps, 640, 360)
    with pytest.raises(InputError, match="640×360.*relative or auto carries its motion over"):
        render_track(astronaut, wide, tmp_path / "r.mp4", transfer="absolute")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("width", "height"), [(640, 360), (360, 640), (1920, 800), (512, 600)])
@pytest.mark.parametrize("transfer", ["auto", "relative"])
def test_a_track_of_another_shape_is_carried_over(astronaut, make_plan, width, height, transfer):
    """The same face, in pixels, on another picture: its motion is the one it has on the portrait's own picture."""
    driver = plan_landmarks(
        make_plan(opening=[0.0, 0.4, 0.9, 0.5, 0.2], angles_deg=[[0, 3.0 * i, 0] for i in range(5)])
    )
    placed = 0.5 * driver.points_px + torch.tensor([0.2 * width, 0.1 * height, 0])
    other = LandmarkTrack.from_px(placed, width, height, driver.fps)
    carried = fit_track(astronaut, other, transfer)
    assert (carried.width, carried.height) == (512, 512)
    expected = fit_track(astronaut, driver, "relative")
    torch.testing.assert_close(carried.points_px, expected.points_px, rtol=0, atol=0.05)  # px
    assert (expected.points_px - driver.points_px)[..., :2].norm(dim=2).max() < 3  # which is the driver's own, nearly


@pytest.mark.parametrize("transfer", ["auto", "relative"])
def test_a_track_of_another_shape_is_rendered(astronaut, tmp_path, transfer):
    rest = astronaut.landmarks
    wide = LandmarkTrack(rest.points, rest.valid, rest.fps, 640, 360)
    assert render_track(astronaut, wide, tmp_path / "r.mp4", transfer=transfer).num_frames == 1


def test_of_a_track_of_another_shape_the_largest_face_is_driven(astronaut):
    picture = torch.cat([astronaut.picture, torch.full_like(astronaut.picture, 90)], 1)
    left = astronaut.landmarks.points_px + torch.tensor([512.0, 0, 0])  # where that picture shows nothing
    found = driven_portrait(picture, LandmarkTrack.from_px(left, 1024, 900, Fraction(25))).landmarks.points_px[0]
    assert (found[topo.NOSE_TIP] - astronaut.landmarks.points_px[0, topo.NOSE_TIP]).norm() < 6


@pytest.mark.slow
def test_driven_portrait_is_the_face_that_the_track_was_made_on(astronaut):
    twice = torch.cat([astronaut.picture, astronaut.picture], 1)
    right = LandmarkTrack.from_px(astronaut.landmarks.points_px + torch.tensor([512.0, 0, 0]), 1024, 512, Fraction(25))
    found = driven_portrait(twice, right).landmarks.points_px[0]
    assert (found[topo.NOSE_TIP] - right.points_px[0, topo.NOSE_TIP]).norm() < 6
    assert isinstance(driven_portrait(twice, right), Portrait)


def test_talk_accepts_eight_kilohertz_and_odd_sizes(astronaut, tmp_path):
    path = tmp_path / "low.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((8000 * np.sin(np.arange(4000))).astype("<i2").tobytes())
    picture = astronaut.picture[:401, :333].contiguous()
    rest = LandmarkTrack.from_px(astronaut.landmarks.points_px, 333, 401, Fraction(25))
    result = talk(Portrait(picture, rest), load_speech(path), tmp_path / "odd.mp4", sound=path)
    assert result.num_frames == 13
    with av.open(str(tmp_path / "odd.mp4")) as file:
        assert (file.streams.video[0].width, file.streams.video[0].height) == (334, 402)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "frames"), [("file", 30), ("waveform", 30), ("speech", 30), ("file", 90)])
def test_a_track_sets_the_length_and_a_longer_sound_is_told(kind, frames, astronaut, speech, tmp_path, caplog):
    """3 s of sound."""
    with wave.open(str(SAMPLE)) as whole, wave.open(str(tmp_path / "s.wav"), "wb") as part:
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(3 * whole.getframerate()))
    sound = {"file": tmp_path / "s.wav", "waveform": (speech.waveform[None], 16000), "speech": speech}[kind]
    points = astronaut.landmarks.points.expand(frames, -1, -1).contiguous()
    track = LandmarkTrack(points, torch.ones(frames, dtype=torch.bool), Fraction(25), 512, 512)
    assert render_track(astronaut, track, tmp_path / "o.mp4", sound=sound).num_frames == frames
    with av.open(str(tmp_path / "o.mp4")) as file:
        heard = file.streams.audio[0]
        assert abs(float(heard.duration * heard.time_base) - frames / 25) <= 2 / 25
    cut = "the landmarks last 1.20 s, the sound 3.00 s: the video ends with the landmarks" in caplog.text
    assert cut == (frames == 30)
