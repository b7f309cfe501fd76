"""A picture or a video as --source of talk, dub and batch, and a driving video, with every renderer that draws both."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from portraittalk_core.cli import source
from portraittalk_core.cli.main import main
from portraittalk_core.cli.source import OWN_NAMES
from portraittalk_core.errors import InputError, MediaError
from portraittalk_core.media.audio import load_speech
from portraittalk_core.media.kind import is_video
from portraittalk_core.media.video_read import probe_video, read_pictures
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.pipelines.talk import driven_track
from portraittalk_core.renderers.contract import Film
from portraittalk_core.renderers.implicit.files import write_random_files
from portraittalk_core.renderers.registry import open_renderer
from portraittalk_core.types import LandmarkTrack

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).parents[3] / "samples" / "speech.wav"
FRAMES, FPS, SIDE = 6, 8, 256


@pytest.fixture(scope="module")
def place(tmp_path_factory, astronaut) -> Path:
    """A folder with a picture, a film whose third and fourth frames show nobody, half a second of speech, networks."""
    folder = tmp_path_factory.mktemp("source")
    close = np.array(Image.fromarray(astronaut.picture.numpy()[:300, 80:380]).resize((SIDE, SIDE)))
    Image.fromarray(close).save(folder / "me.png")
    with VideoWriter(folder / "film.mp4", SIDE, SIDE, Fraction(FPS), crf=4) as writer:
        for number in range(FRAMES):
            writer.write(torch.from_numpy(np.full_like(close, 90) if number in (2, 3) else close))
    with wave.open(str(SAMPLE)) as whole:
        for name, seconds in (("half.wav", 0.5), ("long.wav", 1.25)):
            whole.rewind()
            with wave.open(str(folder / name), "wb") as part:
                part.setparams(whole.getparams())
                part.writeframes(whole.readframes(int(seconds * whole.getframerate())))
    for name, layout in (("lp", "liveportrait-21"), ("fv", "face-vid2vid-15")):
        write_random_files(folder / name, layout)
    return folder


def run(command: str, place: Path, out: Path, *words: object) -> int:
    return main([command, "--speech", str(place / "half.wav"), "--out", str(out), *map(str, words)])


def shape(path: Path) -> tuple[int, int, int, Fraction]:
    probe = probe_video(path)
    return probe.width, probe.height, len(list(read_pictures(path))), probe.fps


# --- what a file is


def test_pictures_and_videos_are_told_apart_by_content(place, tmp_path):
    (tmp_path / "named.mp4").write_bytes((place / "me.png").read_bytes())
    (tmp_path / "named.png").write_bytes((place / "film.mp4").read_bytes())
    frames = [Image.fromarray(np.full((128, 128, 3), level, np.uint8)) for level in (0, 200)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "still.gif")
    assert not is_video(tmp_path / "named.mp4") and is_video(tmp_path / "named.png")
    assert is_video(tmp_path / "moving.gif") and not is_video(tmp_path / "still.gif")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(MediaError, match="text.png is neither a picture nor a video"):
        is_video(tmp_path / "text.png")
    with pytest.raises(MediaError):
        is_video(tmp_path / "absent.png")


# --- one way for both


@pytest.mark.parametrize(("command", "renderer"), [("talk", "liveportrait"), ("dub", "facevid2vid")])
def test_either_command_takes_either_source(place, tmp_path, command, renderer):
    folder = {"liveportrait": "lp", "facevid2vid": "fv"}[renderer]
    more = ["--renderer", renderer, "--keypoints-folder", place / folder, "--alpha", 0.7]
    assert run(command, place, tmp_path / "p.mp4", "--source", place / "me.png", *more) == 0
    assert shape(tmp_path / "p.mp4") == (SIDE, SIDE, 13, 25)
    assert run(command, place, tmp_path / "f.mp4", "--source", place / "film.mp4", *more) == 0
    assert shape(tmp_path / "f.mp4") == (SIDE, SIDE, FRAMES, FPS)


def test_source_is_another_word_for_the_old_names(place, tmp_path, monkeypatch):
    made = []
    for kind, name in OWN_NAMES.items():
        monkeypatch.setitem(source._MAKERS, kind, lambda args, name=name: made.append((name, getattr(args, name))))
    picture, film = place / "me.png", place / "film.mp4"
    for command, flag, path in (
        ("talk", "--portrait", picture),
        ("talk", "--source", picture),
        ("dub", "--source", picture),
        ("dub", "--video", film),
        ("dub", "--source", film),
        ("talk", "--source", film),
    ):
        assert run(command, place, tmp_path / "o.mp4", flag, path) == 0
    assert made == [("portrait", picture)] * 3 + [("video", film)] * 3


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--source", "film.mp4", "--head-motion", "1"], "--head-motion cannot be used with the video film.mp4"),
        (["--source", "film.mp4", "--driving", "film.mp4"], "--driving cannot be used with the video"),
        (["--source", "film.mp4", "--renderer", "vexpress"], "needs --vexpress-folder FOLDER"),
        (["--source", "half.wav"], "neither a picture nor a video"),
        (["--source", "me.png", "--portrait", "me.png"], "not allowed with argument"),
        ([], "one of the arguments --portrait --source is required"),
        (["--source", "me.png", "--alpha", "0.5"], "--alpha cannot be used with warp"),
        (
            ["--source", "me.png", "--renderer", "liveportrait"],
            "--renderer liveportrait needs --keypoints-folder FOLDER",
        ),
        (
            ["--source", "me.png", "--renderer", "liveportrait", "--keypoints-folder", "no"],
            "--keypoints-folder no is not",
        ),
        (["--source", "me.png", "--renderer", "liveportrait", "--keypoints-folder", "fv"], "LivePortrait's"),
        (["--source", "me.png", "--renderer", "facevid2vid", "--keypoints-folder", "lp"], "he_estimator"),
        (["--source", "me.png", "--renderer", "liveportrait", "--keypoints-folder", "lp", "--alpha", "nan"], "--alpha"),
        (
            ["--source", "me.png", "--renderer", "facevid2vid", "--keypoints-folder", "fv", "--bridge", "lips"],
            "--bridge",
        ),
        (
            ["--source", "me.png", "--renderer", "liveportrait", "--keypoints-folder", "lp", "--audio2exp", "half.wav"],
            "--audio2exp needs --hubert",
        ),
        (
            ["--source", "me.png", "--renderer", "liveportrait", "--keypoints-folder", "lp", "--hubert", "half.wav"],
            "--hubert is for --audio2exp",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_do(place, tmp_path, capsys, monkeypatch, words, text):
    monkeypatch.chdir(place)
    assert run("talk", place, tmp_path / "o.mp4", *words) == 2
    assert text in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("points", "text"),
    [
        ("[[1, 0.5], [0.2, 1]]", "order of time"),
        ("[[0, NaN]]", "finite"),
        ("[[0, 3]]", "between 0 and 2"),
        ("{}", "must be a list"),
        ("nonsense", "not JSON"),
    ],
)
def test_bad_points_of_alpha_are_refused(place, tmp_path, points, text):
    (tmp_path / "alpha.json").write_text(points)
    with pytest.raises(InputError, match=text):
        open_renderer("liveportrait", keypoints_folder=place / "lp", alpha_points=tmp_path / "alpha.json")


def test_alpha_over_time_moves_only_where_it_is_not_0(place, tmp_path):
    """Frames of alpha 0 are those of alpha 0 throughout; later ones are not."""
    (tmp_path / "alpha.json").write_text("[[0.2, 0], [0.4, 1]]")
    words = ["--source", place / "me.png", "--renderer", "liveportrait", "--keypoints-folder", place / "lp"]
    words += ["--paste", "crop", "--crf", "0"]
    made = {}
    for name, more in {"shut": ["--alpha", "0"], "curve": ["--alpha-points", tmp_path / "alpha.json"]}.items():
        assert run("talk", place, tmp_path / f"{name}.mp4", *words, *more) == 0
        made[name] = torch.stack(list(read_pictures(tmp_path / f"{name}.mp4"))).float()
    differs = (made["shut"] - made["curve"]).abs().amax((1, 2, 3))
    assert float(differs[:5].max()) == 0 and float(differs[10:].max()) > 2
    assert made["shut"].shape[1:3] == (128, 128)  # the tiny networks' pictures


# --- a film that ends before the speech, and one that drives


@pytest.mark.parametrize(("film_end", "frames"), [("cut", FRAMES), ("ping-pong", 10)])
def test_film_ends_are_reached_through_talk(place, tmp_path, film_end, frames):
    words = ["talk", "--source", place / "film.mp4", "--speech", place / "long.wav", "--out", tmp_path / "o.mp4"]
    words += ["--film-end", film_end, "--renderer", "facevid2vid", "--keypoints-folder", place / "fv"]
    assert main(list(map(str, words))) == 0
    assert shape(tmp_path / "o.mp4")[2] == frames


def test_a_driving_video_moves_the_head_with_the_speechs_mouth(astronaut):
    rest = astronaut.landmarks
    turns = torch.tensor([0.0, 5, 10, 15, 10, 5])
    frames = []
    for degrees in turns:
        angle = torch.deg2rad(degrees)
        matrix = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
        points = rest.points[0].clone()
        middle = points[:, :2].mean(0)
        points[:, :2] = (points[:, :2] - middle) @ matrix.T + middle
        frames.append(points)
    valid = torch.tensor([True, True, False, False, True, True])
    film = Film(Path("nod.mp4"), LandmarkTrack(torch.stack(frames), valid, 12, 512, 512))
    speech = load_speech(SAMPLE)
    options = MotionOptions(fps=Fraction(24))
    whole = driven_track(film, astronaut, speech, options, "ping-pong")
    assert len(whole) == speech.num_frames(24) and whole.fps == 24 and bool(whole.valid.all())
    assert len(driven_track(film, astronaut, speech, options, "cut")) == 12  # half a second of it
    eyes = whole.points_px[:, [133, 362], :2]
    slope = torch.rad2deg(torch.atan2(*(eyes[:, 1] - eyes[:, 0]).flip(1).unbind(1)))
    assert float((slope - slope[0]).max()) == pytest.approx(13.75, abs=0.5)  # a quarter of a frame beside its 15
    # there and back again: as long as its six frames at 12 fps last, and backwards
    assert torch.allclose(slope[1:11], slope[12:22].flip(0), atol=0.5)


def test_a_driving_video_through_the_command_line(place, tmp_path):
    words = ["--source", place / "me.png", "--driving", place / "film.mp4", "--film-end", "loop"]
    assert run("talk", place, tmp_path / "o.mp4", *words, "--renderer", "liveportrait", "--keypoints-folder",
               place / "lp") == 0  # fmt: skip
    assert shape(tmp_path / "o.mp4") == (SIDE, SIDE, 13, 25)


# --- batches


def test_a_batch_dubs_videos_and_drives_portraits(place, tmp_path):
    rows = [
        "job,out,source,speech,renderer,keypoints_folder,driving,film_end,alpha",
        f"talk,a,{place}/film.mp4,{place}/long.wav,liveportrait,{place}/lp,,ping-pong,0.5",
        f"talk,b,{place}/me.png,{place}/half.wav,warp,,{place}/film.mp4,hold,",
        f"talk,c,{place}/film.mp4,{place}/half.wav,warp,,{place}/film.mp4,,",
        f"talk,d,{place}/film.mp4,{place}/half.wav,vexpress,,,,",
    ]
    (tmp_path / "m.csv").write_text("\n".join(rows))
    assert main(["batch", str(tmp_path / "m.csv"), "--out", str(tmp_path / "made")]) == 3
    assert shape(tmp_path / "made" / "a.mp4")[2] == 10
    assert shape(tmp_path / "made" / "b.mp4")[2:] == (13, 25)
    table = (tmp_path / "made" / "batch.csv").read_text()
    assert "driving cannot be used with the video film.mp4" in table
    assert "vexpress needs `vexpress_folder` FOLDER" in table


def test_a_batch_line_with_two_sources_or_none_is_told(place, tmp_path):
    from portraittalk_core.batch.manifest import read_manifest

    rows = ["job,out,portrait,source,speech", f"talk,a,{place}/me.png,{place}/me.png,{place}/half.wav",
            f"talk,b,,,{place}/half.wav", f"talk,c,,{place}/me.png,{place}/half.wav"]  # fmt: skip
    (tmp_path / "m.csv").write_text("\n".join(rows))
    both, none, good = read_manifest(tmp_path / "m.csv")
    assert "both a portrait and a source" in both.problem and "names no portrait" in none.problem
    assert good.problem is None
    (tmp_path / "n.csv").write_text("job,out,speech\ntalk,a,a.wav")
    with pytest.raises(InputError, match="lacks the column portrait"):
        list(read_manifest(tmp_path / "n.csv"))
