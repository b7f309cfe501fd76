import itertools
import json
import math
import sys
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from toy_puppet import BlockMesh

from portraittalk_core.errors import InputError, MediaError, NoFaceError
from portraittalk_core.evaluation.score import score_tracks, score_videos
from portraittalk_core.evaluation.source import PictureSource
from portraittalk_core.media.video import VideoWriter, read_pictures
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.renderers.warp.renderer import PortraitRenderer
from portraittalk_core.types import LandmarkTrack

OPENING = [0.0, 0.2, 0.6, 1.0, 0.7, 0.5, 0.4, 0.1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("score")


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


def test_score_of_a_video_and_itself_is_perfect(video):
    report = score_videos(video, video)
    assert (report.adfd, report.adfd_spatial, report.adfd_motion) == (1.0, 1.0, 1.0)
    assert math.isinf(report.psnr)
    assert report.ssim == 1.0
    assert report.num_frames == report.num_frames_with_face == report.num_identical_frames == 8
    assert json.loads(report.to_json())["psnr"] == "inf"


def test_score_of_tracks_and_their_reversal_is_low(track):
    back = LandmarkTrack(track.points.flip(0), track.valid, track.fps, track.width, track.height)
    assert score_tracks(track, track).adfd == 1.0
    reversed_score = score_tracks(back, track)
    assert reversed_score.adfd < 0.6
    assert reversed_score.mouth_landmark_distance > 1
    assert reversed_score.psnr is None


def test_score_counts_frames_left_over_and_without_a_face(track):
    seen = track.valid.clone()
    seen[2] = False
    part = LandmarkTrack(track.points, seen, track.fps, 512, 512).slice(0, 6)
    report = score_tracks(part, track)
    assert (report.num_frames, report.num_frames_with_face, report.num_frames_left_over) == (6, 5, 2)
    assert report.over_time.spatial_per_frame.isnan().tolist() == [False, False, True, False, False, False]
    assert report.over_time.motion_per_frame.isnan().tolist() == [False, True, False, False, False]


def test_score_of_tracks_matches_the_closed_form(track):
    points_px = track.points.double() * 512
    points_px[..., 0] += 3 * torch.arange(8, dtype=torch.float64)[:, None]  # 0, 3, … 21 pixels to the right
    moved = LandmarkTrack.from_px(points_px.float(), 512, 512, track.fps)
    report = score_tracks(moved, track)
    assert report.adfd_spatial == pytest.approx(1 - 10.5 / math.hypot(512, 512), abs=1e-6)
    assert report.face_landmark_distance_px == pytest.approx(0, abs=1e-3)  # centred


def test_score_leaves_frames_without_a_face_out(track):
    wrong = track.points.clone()
    wrong[3] += 0.2
    seen = track.valid.clone()
    seen[3] = False
    assert score_tracks(LandmarkTrack(wrong, track.valid, track.fps, 512, 512), track).adfd < 0.99
    assert score_tracks(LandmarkTrack(wrong, seen, track.fps, 512, 512), track).adfd == 1.0


def test_score_of_too_few_frames_is_none(track):
    report = score_tracks(track.slice(0, 1), track)
    assert report.adfd is None
    assert "fewer than 2 frames" in report.note


def test_score_is_free_of_resolution(track):
    large = LandmarkTrack(track.points, track.valid, track.fps, 2048, 2048)
    other = LandmarkTrack(track.points * 1.01, track.valid, track.fps, 512, 512)
    small_score, large_score = score_tracks(other, track), score_tracks(other, large)
    assert large_score.adfd == pytest.approx(small_score.adfd, abs=1e-6)
    assert large_score.face_landmark_distance == pytest.approx(small_score.face_landmark_distance, rel=1e-4)
    assert large_score.face_landmark_distance_px == pytest.approx(4 * small_score.face_landmark_distance_px, rel=1e-4)


def test_score_rejects_what_cannot_be_compared(track):
    with pytest.raises(InputError, match="fps"):
        score_tracks(LandmarkTrack(track.points, track.valid, Fraction(30), 512, 512), track)
    with pytest.raises(InputError, match="different shapes"):
        score_tracks(LandmarkTrack(track.points, track.valid, track.fps, 512, 300), track)


def test_score_of_a_video_and_its_reversal_is_clearly_less(video, folder):
    out = folder / "reversed.mp4"
    with VideoWriter(out, 512, 512, Fraction(25), crf=10) as writer:
        for picture in list(read_pictures(video))[::-1]:
            writer.write(picture)
    report = score_videos(out, video)
    assert report.adfd < 0.6
    assert 20 < report.psnr < 60
    assert report.ssim < 0.999
    assert report.num_identical_frames == 0


def test_score_stops_at_max_frames_and_tells_its_progress(video):
    calls = []
    report = score_videos(video, video, max_frames=3, on_progress=lambda done, total: calls.append((done, total)))
    assert (report.num_frames, report.num_frames_left_over) == (3, 5)
    assert calls == [(done, 9) for done in range(1, 10)]


def test_score_accepts_fewer_pictures_than_promised(video):
    source = PictureSource.of_file(video)
    short = replace(source, read=lambda fps: itertools.islice(source.read(fps), 5))
    assert score_videos(short, source).num_frames == 5
    with pytest.raises(MediaError, match="no picture"):
        score_videos(replace(source, read=lambda _: iter(())), source)


def test_score_of_videos_of_different_shapes_is_refused_before_work(video):
    source = PictureSource.of_file(video)
    wide = replace(source, name="wide.mp4", width=800, read=lambda _: pytest.fail("it was read"))
    with pytest.raises(InputError, match=r"wide\.mp4.*800×512"):
        score_videos(wide, source)


def test_score_of_a_video_without_a_face_says_so(video, folder):
    out = folder / "grey.mp4"
    with VideoWriter(out, 128, 128, Fraction(25)) as writer:
        for _ in range(3):
            writer.write(torch.full((128, 128, 3), 90, dtype=torch.uint8))
    with pytest.raises(NoFaceError, match=r"grey\.mp4"):
        score_videos(out, video)


def test_score_compares_other_sizes_and_rates(astronaut, track, video, folder):
    out = folder / "small.mp4"
    with VideoWriter(out, 256, 256, Fraction(50), crf=10) as writer:
        for picture in PortraitRenderer(astronaut).render(track):
            planes = picture.permute(2, 0, 1)[None].float()
            small = torch.nn.functional.interpolate(planes, size=(256, 256), mode="area")[0]
            for _ in range(2):
                writer.write(small.permute(1, 2, 0).round().to(torch.uint8).contiguous())
    report = score_videos(out, video)
    assert "256×256 were scaled to 512×512" in report.note
    assert "25 fps was sampled at 50 fps" in report.note
    assert report.num_frames == 16
    assert report.adfd_spatial > 0.98
    assert report.psnr > 24


def test_score_without_kornia_tells_of_it(monkeypatch):
    picture = torch.full((64, 64, 3), 9, dtype=torch.uint8)
    picture[20:50, 20:50, 0] = 220  # a face to BlockMesh
    source = PictureSource("s", 64, 64, Fraction(25), 0.08, lambda _fps: iter([picture, picture + 1]))
    monkeypatch.setitem(sys.modules, "kornia.metrics", None)
    report = score_videos(source, replace(source, name="t"), mesh=BlockMesh())
    assert (report.psnr, report.ssim, report.num_identical_frames) == (None, None, 2)
    assert "PSNR and SSIM not available: needs kornia (pip install kornia)" in report.note
