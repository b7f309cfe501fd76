"""What a person is told for input that cannot be used: one line that names it, exit code 2, and no file left behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile
from skimage.data import astronaut

from portraittalk_core.cli import main as cli
from portraittalk_core.cli import talk as cli_talk
from portraittalk_core.media.records import save_record
from portraittalk_core.media.video_read import probe_video
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.types import HeadPose, LandmarkTrack

ROOT = Path(cli.__file__).parents[2]
FACE = astronaut()
RATE = 16_000


def voice(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """A buzzing vowel that swells and fades: (N,) or (N, channels) int16."""
    t = np.arange(round(seconds * rate)) / rate
    sound = np.sin(2 * np.pi * 3 * t) * sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 8))
    samples = (8000 * sound).astype(np.int16)
    return samples if channels == 1 else np.repeat(samples[:, None], channels, 1)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a good portrait, a good half second of speech and a folder for results."""
    Image.fromarray(FACE).save(tmp_path / "portrait.png")
    wavfile.write(tmp_path / "speech.wav", RATE, voice(0.5))
    (tmp_path / "out").mkdir()
    return tmp_path


def talk(folder: Path, *more: str, portrait: str = "portrait.png", speech: str = "speech.wav") -> int:
    files = ["--portrait", folder / portrait, "--speech", folder / speech, "--out", folder / "out" / "o.mp4"]
    return cli.main(["talk", *map(str, files), *more])


def complaint(folder: Path, capsys) -> str:
    """The one thing said, after checking that it is no traceback and that nothing was written."""
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err and not captured.out
    assert captured.err.startswith("portraittalk: ") and captured.err.count("portraittalk: ") == 1
    assert not list((folder / "out").iterdir())
    return captured.err


def write_portrait(path: Path) -> None:
    """Make the bad portrait that the file's name tells of."""
    grey = np.full((256, 256, 3), 128, np.uint8)
    if path.stem == "empty":
        path.write_bytes(b"")
    elif path.stem == "text":
        path.write_text("this is no picture")
    elif path.stem == "truncated":
        Image.fromarray(FACE).save(path)
        path.write_bytes(path.read_bytes()[:20_000])
    elif path.stem == "small":
        Image.fromarray(FACE[100:200, 100:200]).save(path)
    elif path.stem == "large":
        Image.new("L", (9000, 250)).save(path)
    elif path.stem == "faceless":
        Image.fromarray(grey).save(path)
    elif path.stem == "tiny-face":
        # the astronaut's eyes are about 44 pixels apart: at a fifth, 9
        shrunk = np.asarray(Image.fromarray(FACE).resize((102, 102), Image.Resampling.LANCZOS))
        grey[20:122, 20:122] = shrunk
        Image.fromarray(grey).save(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent.png", "does not exist"),
        ("empty.png", "0 bytes"),
        ("text.png", "not a picture"),
        ("truncated.png", "damaged"),
        ("small.png", "100×100"),
        ("large.png", "9000×250"),
        ("faceless.png", "no face was found"),
        ("tiny-face.png", "too small"),
    ],
)
def test_talk_rejects_portrait(name, said, folder, capsys):
    write_portrait(folder / name)
    assert talk(folder, portrait=name) == 2
    told = complaint(folder, capsys)
    assert name in told and said in told


@pytest.mark.parametrize("index", ["3", "-1"])
def test_talk_rejects_a_face_index_out_of_range(index, folder, capsys):
    assert talk(folder, "--face-index", index) == 2
    assert f"is {index}" in complaint(folder, capsys)


def write_speech(path: Path) -> None:
    """Make the speech file that the name tells of, bad or merely unusual."""
    if path.stem == "empty":
        path.write_bytes(b"")
    elif path.stem == "text":
        path.write_text("this is no sound")
    elif path.stem == "20ms":
        wavfile.write(path, RATE, voice(0.02))
    elif path.stem == "header-only":
        wavfile.write(path, RATE, voice(0.0))
    elif path.stem == "nan":
        samples = voice(0.5).astype(np.float32) / 32768
        samples[100:110] = np.nan
        wavfile.write(path, RATE, samples)
    elif path.stem == "silent-video":
        with VideoWriter(path, 128, 128, Fraction(25)) as writer:
            writer.write(torch.zeros(128, 128, 3, dtype=torch.uint8))
    elif path.stem == "silence":
        wavfile.write(path, RATE, np.zeros(RATE // 2, np.int16))
    elif path.stem == "cut":
        wavfile.write(path, RATE, voice(1.0))
        path.write_bytes(path.read_bytes()[: 44 + RATE])  # half of it
    else:
        rate, channels = {"8k": (8_000, 1), "96k": (96_000, 1), "surround": (48_000, 6)}.get(path.stem, (0, 0))
        if rate:
            wavfile.write(path, rate, voice(0.5, rate, channels))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent.wav", "does not exist"),
        ("empty.wav", "0 bytes"),
        ("text.wav", "not a sound"),
        ("20ms.wav", "0.020 s"),
        ("header-only.wav", "0.1 s"),
        ("nan.wav", "10 values of 8000"),
        ("silent-video.mp4", "without sound"),
    ],
)
def test_talk_rejects_speech(name, said, folder, capsys):
    write_speech(folder / name)
    assert talk(folder, speech=name) == 2
    told = complaint(folder, capsys)
    assert name in told and said in told


@pytest.mark.slow
@pytest.mark.parametrize("name", ["8k.wav", "96k.wav", "surround.wav", "silence.wav", "cut.wav"])
def test_talk_accepts_unusual_speech_and_keeps_its_length(name, folder, capsys):
    write_speech(folder / name)
    assert talk(folder, speech=name) == 0
    made = probe_video(folder / "out" / "o.mp4")
    assert made.num_frames == 13 and made.has_sound  # ceil(0.5 s · 25)
    warned = "silence.wav is silent" in capsys.readouterr().err
    assert warned == (name == "silence.wav")


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--no-ai-mark"]], ids=["by default", "switched off"])
def test_talk_says_in_the_metadata_that_its_video_is_made(words, folder):
    wavfile.write(folder / "short.wav", RATE, voice(0.12))
    assert talk(folder, *words, speech="short.wav") == 0
    with av.open(str(folder / "out" / "o.mp4")) as container:
        said = container.metadata.get("comment", "")
    assert ("AI-generated" in said and "compositeWithTrainedAlgorithmicMedia" in said) == (not words)


def test_talk_leaves_nothing_when_stopped_half_way(folder, capsys, monkeypatch):
    @contextmanager
    def stopped_at_frame_5(_name):
        def on_progress(done: int, _total: int) -> None:
            if done == 5:
                raise KeyboardInterrupt

        yield on_progress

    monkeypatch.setattr(cli_talk, "progress_bar", stopped_at_frame_5)
    assert talk(folder) == 130
    assert "stopped; nothing was written" in complaint(folder, capsys)


def command(folder: Path) -> list[str]:
    files = (
        "--portrait",
        folder / "portrait.png",
        "--speech",
        folder / "speech.wav",
        "--out",
        folder / "out" / "o.mp4",
    )
    return [sys.executable, "-m", "portraittalk_core", "talk", *map(str, files)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_half_way_leaves_nothing(number, folder):
    wavfile.write(folder / "speech.wav", RATE, voice(120))
    with subprocess.Popen(command(folder), cwd=ROOT, stderr=subprocess.PIPE, text=True) as running:
        until = time.monotonic() + 300
        while not any(part.stat().st_size for part in (folder / "out").iterdir()) and time.monotonic() < until:
            time.sleep(0.05)
        assert running.poll() is None, "the video was done before it could be stopped"
        running.send_signal(number)
        told = running.communicate(timeout=300)[1]
    assert running.returncode == 130
    assert told.splitlines()[-1] == "portraittalk: stopped; nothing was written"  # a slow run shows progress before
    assert not list((folder / "out").iterdir())


@pytest.mark.slow
def test_a_disk_that_takes_no_more_is_told_and_nothing_left(folder):
    wavfile.write(folder / "speech.wav", RATE, voice(4))

    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        command(folder), cwd=ROOT, capture_output=True, text=True, preexec_fn=no_large_files, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr and "o.mp4" in done.stderr and "Traceback" not in done.stderr
    assert not list((folder / "out").iterdir())


@pytest.mark.parametrize("arguments", [("talk", "--speech", "speech.wav"), ("render", "--track", "t.safetensors")])
def test_output_folder_that_is_missing_is_told_before_inputs_are_read(arguments, folder, capsys):
    out = folder / "nowhere" / "o.mp4"
    assert cli.main([arguments[0], "--portrait", "absent.png", *arguments[1:], "--out", str(out)]) == 2
    assert "nowhere does not exist" in complaint(folder, capsys)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_talk_rejects_a_read_only_folder(folder, capsys):
    (folder / "out").chmod(0o555)
    assert talk(folder) == 2
    assert "not writable" in complaint(folder, capsys)


def track_of(width: int, height: int) -> LandmarkTrack:
    return LandmarkTrack(torch.rand(3, 478, 3), torch.ones(3, dtype=torch.bool), Fraction(25), width, height)


@pytest.mark.parametrize("kind", ["absent", "corrupt", "cut", "other-record", "wide"])
def test_render_rejects_track(kind, folder, capsys):
    path = folder / f"{kind}.safetensors"
    if kind == "corrupt":
        path.write_bytes(b"\x08" + os.urandom(300))
    elif kind == "cut":
        save_record(track_of(512, 512), path)
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "other-record":
        save_record(HeadPose(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2)), path)
    elif kind == "wide":
        save_record(track_of(640, 360), path)
    words = ["--portrait", folder / "portrait.png", "--track", path, "--out", folder / "out" / "o.mp4"]
    words += ["--transfer", "absolute"] if kind == "wide" else []  # else its motion is carried over
    assert cli.main(["render", *map(str, words)]) == 2
    told = complaint(folder, capsys)
    assert path.name in told
    assert kind != "wide" or ("640×360" in told and "512×512" in told and "relative" in told)


def write_clip(path: Path, pictures: list[np.ndarray]) -> Path:
    with VideoWriter(path, 256, 256, Fraction(25)) as writer:
        for picture in pictures:
            writer.write(torch.from_numpy(picture.copy()))
    return path


CLOSE = np.asarray(Image.fromarray(FACE[:300, 80:380]).resize((256, 256)))
BLANK = np.full((256, 256, 3), 90, np.uint8)


def track(folder: Path, clip: Path, *more: str) -> int:
    return cli.main(["track", "--video", str(clip), "--out", str(folder / "out" / "t.safetensors"), *more])


def test_track_rejects_a_video_without_a_face(folder, capsys):
    assert track(folder, write_clip(folder / "blank.mp4", [BLANK] * 3)) == 2
    assert "no face was found in any of the 3 frames of blank.mp4" in complaint(folder, capsys)


def test_track_stops_at_a_missing_face_if_asked_to(folder, capsys):
    clip = write_clip(folder / "gap.mp4", [CLOSE, CLOSE, BLANK, CLOSE])
    assert track(folder, clip, "--on-missing", "error") == 2
    assert "first is frame 2" in complaint(folder, capsys)
    assert track(folder, clip) == 0
    assert "No face was seen in 1 of 4 frames" in capsys.readouterr().out


def test_track_rejects_sound_without_pictures(folder, capsys):
    assert track(folder, folder / "speech.wav") == 2
    assert "no video track" in complaint(folder, capsys)


def test_mesh_model_that_is_missing_is_named(folder, capsys):
    assert talk(folder, "--mesh-backend", "tasks", "--mesh-model", str(folder / "absent.task")) == 2
    assert "absent.task" in complaint(folder, capsys)


@pytest.mark.slow
def test_render_takes_a_track_to_another_rate_by_time(folder, capsys):
    still = np.zeros((10, 478, 3), np.float32)
    from portraittalk_core.face.mesh.landmarks import find_portrait

    still[:] = find_portrait(torch.from_numpy(FACE.copy())).landmarks.points.numpy()
    save_record(LandmarkTrack(torch.from_numpy(still), torch.ones(10, dtype=torch.bool), Fraction(20), 512, 512),
                folder / "t.safetensors")  # fmt: skip
    words = ["--portrait", folder / "portrait.png", "--track", folder / "t.safetensors", "--fps", "30"]
    assert cli.main(["render", *map(str, words), "--out", str(folder / "out" / "o.mp4")]) == 0
    made = probe_video(folder / "out" / "o.mp4")
    assert (made.num_frames, made.fps) == (15, 30)
    assert "10 frames at 20 fps became 15 at 30" in capsys.readouterr().out


def dub(folder: Path, video: Path, *more: str) -> int:
    files = ["--video", video, "--speech", folder / "speech.wav", "--out", folder / "out" / "o.mp4"]
    return cli.main(["dub", *map(str, files), *more])


def test_dub_passes_over_frames_without_a_face_and_counts_them(folder, capsys):
    assert dub(folder, write_clip(folder / "gap.mp4", [CLOSE, CLOSE, BLANK, CLOSE])) == 0
    captured = capsys.readouterr()
    assert "No face was seen in 1 of 4 frames" in captured.out
    assert "the film lasts 0.16 s, the speech 0.50 s: it is cut off where the film ends" in captured.err
    assert "--film-end with hold, loop or ping-pong" in " ".join(captured.err.split())
    assert probe_video(folder / "out" / "o.mp4").num_frames == 4


@pytest.mark.parametrize(
    ("video", "said"), [("blank.mp4", "no face was found in any of the 3"), ("no.mp4", "not exist")]
)
def test_dub_rejects_a_video(folder, capsys, video, said):
    if video == "blank.mp4":
        write_clip(folder / video, [BLANK] * 3)
    assert dub(folder, folder / video) == 2
    assert said in complaint(folder, capsys)
