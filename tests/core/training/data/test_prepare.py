import json
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_puppet import BlockMesh, DyingMesh

from portraittalk_core.errors import InputError, OutputError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import face_box_px
from portraittalk_core.media.image import load_picture
from portraittalk_core.media.records import load_record
from portraittalk_core.training.data import prepare
from portraittalk_core.training.data.options import PrepareOptions
from portraittalk_core.training.data.prepare import prepare_videos, without_cuts
from portraittalk_core.training.data.squares import crop_square, track_on_crop
from portraittalk_core.training.data.video_clips import read_videos
from portraittalk_core.types import LandmarkTrack

WIDTH, HEIGHT, FACE_W, FACE_H = 240, 180, 60, 80
QUICK = PrepareOptions(size=128, min_seconds=0.3, needs_sound=False)
RED, BLUE = (220, 20, 20), (20, 20, 220)


def picture(*blocks):
    """Blocks are (colour, x, y) or (colour, x, y, width, height)."""
    made = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    for colour, x, y, *size in blocks:
        w, h = size or (FACE_W, FACE_H)
        made[y : y + h, x : x + w] = colour
    return made


def write(path, pictures, sound=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "1", "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        audio = file.add_stream("aac", rate=16000, layout="mono") if sound else None
        for one in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(one, "rgb24")))
        file.mux(stream.encode(None))
        if audio:
            wave = np.sin(np.arange(640 * len(pictures)) * 0.2).astype(np.float32)[None] * 0.3
            frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
            file.mux(audio.encode(frame))
            file.mux(audio.encode(None))
    return path


def walking(count=12, step=4):
    return [picture((RED, 60 + step * i, 50)) for i in range(count)]


def face_track(boxes, width=WIDTH, height=HEIGHT, valid=None):
    face = canonical_face()
    low, high = face[:, :2].amin(0), face[:, :2].amax(0)
    points = []
    for x, y, w, h in boxes:
        flat = (face[:, :2] - low) / (high - low) * torch.tensor([w, h]) + torch.tensor([x, y])
        points.append(torch.cat([flat, face[:, 2:]], 1))
    flags = None if valid is None else torch.tensor(valid)
    return LandmarkTrack.from_px(torch.stack(points), width, height, Fraction(25), flags)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with one good video among bad ones, prepared."""
    root = tmp_path_factory.mktemp("prepare")
    videos = root / "videos"
    write(videos / "anna" / "good.mp4", walking(), sound=True)
    write(videos / "empty.mp4", [picture() for _ in range(10)])
    write(videos / "two.mp4", [picture((RED, 20, 50), (BLUE, 150, 50))] * 10)
    write(videos / "short.mp4", walking(4))
    write(videos / "small.mp4", [picture((RED, 90, 60, 30, 40))] * 10)
    (videos / "broken.mp4").write_bytes(b"no video at all" * 100)
    (videos / "notes.txt").write_text("not a video")
    told = []
    report = prepare_videos(videos, root / "out", QUICK, 1, lambda *now: told.append(now), BlockMesh)
    return videos, root / "out", report, told


def test_prepare_keeps_what_is_good_and_says_why_it_leaves_out_the_rest(prepared):
    _, out, report, told = prepared
    assert [video.name for video in report.kept] == ["anna/good.mp4"]
    assert {video.name: video.dropped for video in report.dropped} == {
        "broken.mp4": "unreadable",
        "empty.mp4": "no face",
        "short.mp4": "too short",
        "small.mp4": "face too small",
        "two.mp4": "several speakers",
    }
    assert told[-1] == (600, 600)
    assert len(told) > 20  # every frame tells, not every video
    shares = [done for done, _ in told]
    assert shares == sorted(shares) and any(10 < share < 90 for share in shares)
    content = json.loads((out / "report.json").read_text())
    assert len(content) == 6
    text = (out / "report.txt").read_text()
    assert text.startswith("1 of 6 videos can be used")
    assert "several speakers" in text and "two.mp4: 2 faces" in text


def test_prepare_writes_the_face_and_landmarks_that_lie_on_it(prepared):
    folder = prepared[1] / "anna" / "good.mp4"
    track = load_record(LandmarkTrack, folder / "landmarks.safetensors")
    assert (track.width, track.height, len(track)) == (128, 128, 12)
    for number in (0, 11):
        shown = load_picture(folder / "frames" / f"{number:06d}.png")
        assert shown.shape == (128, 128, 3)
        rows, columns = ((shown[..., 0] > 140) & (shown[..., 1] < 100)).nonzero().unbind(1)
        seen = [float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
        assert face_box_px(track.points_px)[number].tolist() == pytest.approx(seen, abs=2.5)
    marker = json.loads((folder / "done.json").read_text())
    scale = 128 / marker["side_px"]
    for number in (0, 11):  # the blocks stand at 60 + 4 n, 50 of the video
        left, top = face_box_px(track.points_px)[number, :2].tolist()
        assert left / scale + marker["left_px"] == pytest.approx(60 + 4 * number, abs=3)
        assert top / scale + marker["top_px"] == pytest.approx(50, abs=3)
    kept = load_file(folder / "speech.safetensors")
    assert len(kept["waveform"]) / 16000 == pytest.approx(12 / 25, abs=0.07)  # an AAC frame is 0.064 s
    assert kept["log_mel"].shape == (len(kept["waveform"]) // 160 + 1, 80)


def test_prepare_leaves_nothing_of_a_video_that_it_cannot_write(tmp_path, monkeypatch):
    def full(picture, path):
        path.write_bytes(b"half")
        raise OutputError(f"no space left for {path}")

    monkeypatch.setattr(prepare, "save_picture", full)
    write(tmp_path / "videos" / "a.mp4", walking(10))
    with pytest.raises(OutputError, match="no space left"):
        prepare_videos(tmp_path / "videos", tmp_path / "out", QUICK, 1, None, BlockMesh)
    assert not (tmp_path / "out" / "a.mp4").exists()


def test_linked_folders_of_videos_are_prepared_and_read(tmp_path):
    write(tmp_path / "elsewhere" / "a.mp4", walking(10))
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    (videos / "anna").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (videos / "anna" / "round").symlink_to(videos, target_is_directory=True)  # a circle
    report = prepare_videos(videos, out, QUICK, 1, None, BlockMesh)
    assert [video.name for video in report.kept] == ["anna/a.mp4"]
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "mine").symlink_to(out, target_is_directory=True)
    assert [clip.name for clip in read_videos(tmp_path / "clips", num_frames=4).videos] == ["mine/anna/a.mp4"]


@pytest.mark.slow
def test_prepare_goes_on_where_it_was_stopped(prepared, tmp_path):
    videos, out, _, _ = prepared
    before = (out / "anna" / "good.mp4" / "frames" / "000000.png").stat().st_mtime_ns
    report = prepare_videos(videos, out, QUICK, 1, None, _Forbidden)
    assert report.num_old == 6
    assert (out / "anna" / "good.mp4" / "frames" / "000000.png").stat().st_mtime_ns == before

    class Stop(Exception):
        pass

    def stop(done, total):
        if done == 100:
            raise Stop

    with pytest.raises(Stop):
        prepare_videos(videos, tmp_path, QUICK, 1, stop, BlockMesh)
    done = len(list(tmp_path.rglob("done.json")))
    assert done == 1
    assert prepare_videos(videos, tmp_path, QUICK, 1, None, BlockMesh).num_old == done
    other = PrepareOptions(size=192, min_seconds=0.3, needs_sound=False)
    assert prepare_videos(videos, tmp_path, other, 1, None, BlockMesh).num_old == 0


class _Forbidden(BlockMesh):
    def __init__(self):
        raise AssertionError("nothing was left to do")


@pytest.mark.slow  # processes that start torch
def test_prepare_survives_a_process_that_dies(tmp_path):
    videos = tmp_path / "videos"
    write(videos / "a.mp4", walking(10))
    write(videos / "b.mp4", [np.full((HEIGHT, WIDTH, 3), (0, 255, 0), np.uint8)] * 10)
    told = []
    report = prepare_videos(videos, tmp_path / "out", QUICK, 2, lambda *now: told.append(now), DyingMesh)
    assert [video.name for video in report.kept] == ["a.mp4"]
    assert [(video.name, video.dropped) for video in report.dropped] == [("b.mp4", "crashed")]
    assert told[-1] == (200, 200)


def test_prepared_corpus_has_lists_and_the_sound_beside_its_videos(tmp_path):
    videos, out = tmp_path / "mead", tmp_path / "clips"
    heard, silent = (f"M003/video/front/angry/level_1/00{n}.mp4" for n in (1, 2))
    for name in (heard, silent):
        write(videos / name, walking(8))
    write(videos / "sound.mp4", walking(8), sound=True)
    (videos / "M003/audio/angry/level_1").mkdir(parents=True)
    (videos / "sound.mp4").rename(videos / "M003/audio/angry/level_1/001.m4a")
    options = PrepareOptions(size=128, min_seconds=0.3, layout="mead")
    report = prepare_videos(videos, out, options, 1, None, BlockMesh)
    assert [(video.name, video.dropped) for video in report.videos] == [(heard, ""), (silent, "no sound")]
    assert (out / heard / "speech.safetensors").is_file()
    assert (out / "train.txt").read_text() == f"{heard}\n"
    assert (out / "held_out.txt").read_text() == ""


def test_folders_are_read_without_unfinished_files(tmp_path):
    from portraittalk_core.training.data.layouts import video_names
    from portraittalk_core.training.mouth.speaker import video_files

    for name in ("a.mp4", ".b.0123abcd.part.mp4", ".c.mp4"):
        (tmp_path / name).touch()
    assert video_names(tmp_path, tmp_path / "out") == ["a.mp4"]
    assert video_files(tmp_path) == [tmp_path / "a.mp4"]


def test_prepare_rejects_no_folder_and_no_video(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        prepare_videos(tmp_path / "none", tmp_path / "out")
    with pytest.raises(InputError, match="holds no video"):
        prepare_videos(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="multiple of 64"):
        PrepareOptions(size=200)


def test_crop_square_holds_the_moving_face_and_stays_inside():
    track = face_track([(60, 50, 40, 60), (100, 50, 40, 60)])
    (x, y), side = crop_square(track, 1.5)
    assert side == 120  # 1.5 times the 80 pixels it moves in
    assert (x, y) == (40, 20)  # around (100, 80)
    edge, side = crop_square(face_track([(0, 0, 40, 60)]), 2.0)
    assert (edge, side) == ((0, 0), 120)
    assert crop_square(face_track([(60, 50, 40, 60), (190, 50, 40, 60)]), 2.0)[1] == HEIGHT
    cut = track_on_crop(track, (40, 20), 120, 240)
    assert face_box_px(cut.points_px)[0].tolist() == pytest.approx([40, 60, 120, 180], abs=1e-3)


def test_without_cuts_no_clip_runs_across_a_jump():
    track = face_track([(10, 10, 40, 60), (14, 10, 40, 60), (150, 60, 40, 60), (152, 60, 40, 60)])
    assert without_cuts(track).valid.tolist() == [True, True, False, True]


def test_read_videos_gives_clips_of_the_prepared_frames(prepared):
    data = read_videos(prepared[1], 5)
    assert len(data) == 12 - 5 + 1
    batch = data.at([(0, 3)], 128)
    shown = load_picture(prepared[1] / "anna" / "good.mp4" / "frames" / "000003.png")
    assert torch.equal(((batch.frames[0, 0] + 1) * 127.5).round().byte().permute(1, 2, 0), shown)
    with pytest.raises(InputError, match="20 frames one after another"):
        read_videos(prepared[1], 20)
    with pytest.raises(InputError, match="no prepared video"):
        read_videos(prepared[0], 5)
