"""What the ADFD Score node asks of the evaluator, on videos and on landmark tracks."""

import itertools
import json
import math
import sys
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from toy_puppet import BlockMesh

from portraittalk_core.errors import InputError, MediaError
from portraittalk_core.evaluation.adfd_report import ADFD_METRICS, AdfdReport
from portraittalk_core.evaluation.clip import EvaluationClip
from portraittalk_core.evaluation.evaluate import evaluate
from portraittalk_core.evaluation.options import EvaluationOptions
from portraittalk_core.evaluation.source import PictureSource
from portraittalk_core.face.mesh.landmarks import open_mesh
from portraittalk_core.media.video_read import read_pictures
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.renderers.warp.renderer import PortraitRenderer
from portraittalk_core.types import LandmarkTrack

OPENING = [0.0, 0.2, 0.6, 1.0, 0.7, 0.5, 0.4, 0.1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("score")


@pytest.fixture(scope="module")
def mesh():
    with open_mesh() as opened:
        yield opened


@pytest.fixture
def track(make_plan):
    return plan_landmarks(make_plan(opening=OPENING, angles_deg=[[0.0, 0.5 * i, 0.3 * i] for i in range(8)]))


@pytest.fixture
def video(astronaut, track, folder):
    out = folder / "made.mp4"
    if not out.exists():
        with VideoWriter(out, 512, 512, Fraction(25), crf=10) as writer:
            for picture in PortraitRenderer(astronaut).render(track):
                writer.write(picture)
    return out


def evaluated(generated, target, mesh=None, on_progress=None, **options):
    clips = [
        EvaluationClip.of_track(value, "the track") if isinstance(value, LandmarkTrack) else value
        for value in (generated, target)
    ]
    asked = EvaluationOptions(num_worst=0, metrics=ADFD_METRICS, **options)
    return evaluate(*clips, asked, mesh=mesh, on_progress=on_progress)


def numbers(generated, target, mesh=None, **options) -> dict:
    return AdfdReport.of(evaluated(generated, target, mesh, **options)).numbers


@pytest.mark.slow
def test_a_video_and_itself_are_perfect(video, mesh):
    result = evaluated(video, video, mesh)
    report = AdfdReport.of(result)
    found = report.numbers
    assert (found["adfd"], found["adfd_spatial"], found["adfd_motion"]) == (1.0, 1.0, 1.0)
    assert math.isinf(found["psnr"])
    assert found["ssim"] == 1.0
    assert found["num_frames"] == found["num_frames_with_face"] == found["num_identical_frames"] == 8
    assert json.loads(report.to_json())["psnr"] == "inf"
    assert set(result.values) <= set(ADFD_METRICS)  # the target's own numbers and others were not asked for


def test_the_json_keeps_the_names_it_has_always_had(track):
    assert list(json.loads(AdfdReport.of(evaluated(track, track)).to_json())) == [
        *("adfd", "adfd_spatial", "adfd_motion", "mouth_landmark_distance", "face_landmark_distance"),
        *("mouth_landmark_distance_px", "face_landmark_distance_px", "psnr", "ssim", "num_frames"),
        *("num_frames_with_face", "num_identical_frames", "num_frames_left_over", "width", "height", "fps"),
        *("landmark_source", "note"),
    ]


def test_tracks_and_their_reversal_score_low(track):
    back = LandmarkTrack(track.points.flip(0), track.valid, track.fps, track.width, track.height)
    assert numbers(track, track)["adfd"] == 1.0
    found = numbers(back, track)
    assert found["adfd"] < 0.6
    assert found["mouth_landmark_distance"] > 1
    assert found["psnr"] is None and found["landmark_source"] == "given"


def test_frames_left_over_and_without_a_face_are_counted(track):
    seen = track.valid.clone()
    seen[2] = False
    part = LandmarkTrack(track.points, seen, track.fps, 512, 512).slice(0, 6)
    report = AdfdReport.of(evaluated(part, track))
    found = report.numbers
    assert (found["num_frames"], found["num_frames_with_face"], found["num_frames_left_over"]) == (6, 5, 2)
    assert report.place.isnan().tolist() == [False, False, True, False, False, False]
    assert report.motion.isnan().tolist() == [False, True, False, False, False]


def test_tracks_match_the_closed_form(track):
    points_px = track.points.double() * 512
    points_px[..., 0] += 3 * torch.arange(8, dtype=torch.float64)[:, None]  # 0, 3, … 21 pixels to the right
    moved = LandmarkTrack.from_px(points_px.float(), 512, 512, track.fps)
    found = numbers(moved, track)
    assert found["adfd_spatial"] == pytest.approx(1 - 10.5 / math.hypot(512, 512), abs=1e-6)
    assert found["face_landmark_distance_px"] == pytest.approx(0, abs=1e-3)  # centred


def test_frames_without_a_face_are_left_out(track):
    wrong = track.points.clone()
    wrong[3] += 0.2
    seen = track.valid.clone()
    seen[3] = False
    assert numbers(LandmarkTrack(wrong, track.valid, track.fps, 512, 512), track)["adfd"] < 0.99
    assert numbers(LandmarkTrack(wrong, seen, track.fps, 512, 512), track)["adfd"] == 1.0


def test_too_few_frames_have_no_number(track):
    found = numbers(track.slice(0, 1), track)
    assert found["adfd"] is None
    assert "fewer than 2 frames" in found["note"]


def test_numbers_are_free_of_resolution(track):
    large = LandmarkTrack(track.points, track.valid, track.fps, 2048, 2048)
    other = LandmarkTrack(track.points * 1.01, track.valid, track.fps, 512, 512)
    small, big = numbers(other, track), numbers(other, large)
    assert big["adfd"] == pytest.approx(small["adfd"], abs=1e-6)
    assert big["face_landmark_distance"] == pytest.approx(small["face_landmark_distance"], rel=1e-4)
    assert big["face_landmark_distance_px"] == pytest.approx(4 * small["face_landmark_distance_px"], rel=1e-4)


def test_tracks_of_other_rates_are_compared_by_time(track):
    doubled = LandmarkTrack(track.points.repeat_interleave(2, 0), track.valid.repeat_interleave(2), 50, 512, 512)
    assert numbers(doubled, track)["adfd"] == 1.0  # frame k of 50 fps shows what frame k // 2 of 25 fps does
    assert numbers(doubled, track)["num_frames"] == 16
    assert numbers(track, doubled)["num_frames"] == 8
    faster = LandmarkTrack(track.points, track.valid, 50, 512, 512)  # the same motion in half the time
    assert numbers(faster, track)["adfd"] < 0.9


def test_what_cannot_be_compared_is_refused(track, video):
    with pytest.raises(InputError, match="different shapes"):
        numbers(LandmarkTrack(track.points, track.valid, track.fps, 512, 300), track)
    with pytest.raises(InputError, match="can only be compared with another track"):
        numbers(track, video)


@pytest.mark.slow
def test_a_video_and_its_reversal_score_clearly_less(video, folder, mesh):
    out = folder / "reversed.mp4"
    with VideoWriter(out, 512, 512, Fraction(25), crf=10) as writer:
        for picture in list(read_pictures(video))[::-1]:
            writer.write(picture)
    found = numbers(out, video, mesh)
    assert found["adfd"] < 0.6
    assert 20 < found["psnr"] < 60
    assert found["ssim"] < 0.999
    assert found["num_identical_frames"] == 0


def test_max_frames_stops_and_progress_ends_at_its_total(video, mesh):
    calls = []
    found = evaluated(video, video, mesh, lambda *call: calls.append(call), max_frames=3).counts
    assert (found["num_frames"], found["num_frames_left_over"]) == (3, 5)
    assert calls == [(done, 19) for done in range(1, 20)]  # 8 of each are tracked, for the offset, and 3 are compared


@pytest.mark.slow
def test_fewer_pictures_than_promised_are_accepted(video, mesh):
    source = PictureSource.of_file(video)
    short = replace(source, read=lambda fps: itertools.islice(source.read(fps), 5))
    assert numbers(EvaluationClip(short), EvaluationClip(source), mesh)["num_frames"] == 5
    with pytest.raises(MediaError, match="no picture"):
        numbers(EvaluationClip(replace(source, read=lambda _: iter(()))), EvaluationClip(source), mesh)


def test_videos_of_different_shapes_are_refused_before_work(video):
    source = PictureSource.of_file(video)
    wide = replace(source, name="wide.mp4", width=800, read=lambda _: pytest.fail("it was read"))
    with pytest.raises(InputError, match=r"wide\.mp4.*800×512"):
        numbers(EvaluationClip(wide), EvaluationClip(source))


def test_a_video_without_a_face_says_so(video, folder, mesh):
    out = folder / "grey.mp4"
    with VideoWriter(out, 128, 128, Fraction(25)) as writer:
        for _ in range(3):
            writer.write(torch.full((128, 128, 3), 90, dtype=torch.uint8))
    assert "no face was found in any frame of grey.mp4" in evaluated(out, video, mesh).error


@pytest.mark.slow
def test_other_sizes_and_rates_are_compared(astronaut, track, video, folder, mesh):
    out = folder / "small.mp4"
    with VideoWriter(out, 256, 256, Fraction(50), crf=10) as writer:
        for picture in PortraitRenderer(astronaut).render(track):
            planes = picture.permute(2, 0, 1)[None].float()
            small = torch.nn.functional.interpolate(planes, size=(256, 256), mode="area")[0]
            for _ in range(2):
                writer.write(small.permute(1, 2, 0).round().to(torch.uint8).contiguous())
    found = numbers(out, video, mesh)
    assert "256×256 were scaled to 512×512" in found["note"]
    assert "25 fps was sampled at 50 fps" in found["note"]
    assert found["num_frames"] == 16
    assert found["adfd_spatial"] > 0.98
    assert found["psnr"] > 24


def test_without_kornia_the_note_tells_of_it(monkeypatch):
    picture = torch.full((64, 64, 3), 9, dtype=torch.uint8)
    picture[20:50, 20:50, 0] = 220  # a face to BlockMesh
    frames = [picture, picture + 1, picture + 2]
    clips = [PictureSource.of_frames("clip", 2, (64, 64), Fraction(25), frames[k:].__getitem__) for k in (0, 1)]
    monkeypatch.setitem(sys.modules, "kornia.metrics", None)
    found = numbers(*map(EvaluationClip, clips), BlockMesh())
    assert (found["psnr"], found["ssim"], found["num_identical_frames"]) == (None, None, 0)
    assert found["adfd"] == 1.0
    assert "PSNR, SSIM: not available: needs kornia (pip install kornia)" in found["note"]
