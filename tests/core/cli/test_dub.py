"""`portraittalk dub` with the identitynet renderer, with tiny random weights in the public files' layouts."""

from __future__ import annotations

import wave
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from adapter_files import adapter_tensors
from control_files import ldm_tensors, tiny_controlnet
from kept import keep_checkpoints
from onnx_models import paint_disc, write_face_models
from PIL import Image
from safetensors.torch import save_file
from sd15_files import make_checkpoint
from tokenizer_files import write_tokenizer

from portraittalk_core.cli import dub as cli_dub
from portraittalk_core.cli.main import main
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.pipelines import dub as pipeline
from portraittalk_core.renderers.animatenet.animate_net import new_animate_net, save_animate_net

pytestmark = pytest.mark.slow

pytest.importorskip("diffusers")
SAMPLE = Path(__file__).parents[3] / "samples" / "speech.wav"
FILM = SAMPLE.with_name("film.mp4")
NUM_FRAMES, BLANK = 6, (2, 3, 4)  # so many frames, of which these show nobody, for longer than the mesh may overlook


@pytest.fixture(scope="module")
def place(tmp_path_factory, astronaut) -> Path:
    """A folder with everything a run needs."""
    folder = tmp_path_factory.mktemp("dub")
    close = np.array(Image.fromarray(astronaut.picture.numpy()[:300, 80:380]).resize((256, 256)))
    with VideoWriter(folder / "in.mp4", 256, 256, Fraction(8), crf=4) as writer:
        for number in range(NUM_FRAMES):
            writer.write(torch.from_numpy(np.full_like(close, 90) if number in BLANK else close))
    with wave.open(str(SAMPLE)) as whole, wave.open(str(folder / "speech.wav"), "wb") as part:
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(whole.getframerate() // 2))
    Image.fromarray(paint_disc((200.0, 240.0, 130.0)).numpy()).save(folder / "a.png")
    Image.fromarray(paint_disc((330.0, 240.0, 130.0)).numpy()).save(folder / "b.png")
    make_checkpoint(folder / "sd15.safetensors")
    torch.save(adapter_tensors("faceid"), folder / "adapter.bin")
    save_file(ldm_tensors(tiny_controlnet()), folder / "control.safetensors")
    save_animate_net(new_animate_net(tiny_controlnet()), folder / "animate.safetensors")
    write_face_models(folder / "insightface")
    write_tokenizer(folder / "tokenizer")
    return folder


@pytest.fixture(scope="module", autouse=True)
def kept():
    """The checkpoint is read once."""
    with pytest.MonkeyPatch.context() as patched:
        keep_checkpoints(patched)
        yield


def dub(place: Path, out: Path, *more: str, painted: bool = True) -> int:
    given = ["--video", place / "in.mp4", "--speech", place / "speech.wav", "--out", out, "--crf", "0"]
    if painted:
        given += ["--renderer", "identitynet", "--checkpoint", place / "sd15.safetensors", "--tokenizer"]
        given += [place / "tokenizer", "--width", "64", "--height", "64", "--steps", "2", "--denoise", "0.9"]
        given += ["--device", "cpu", "--batch-size", "4"]
    else:
        given += ["--renderer", "warp"]
    return main(["dub", *map(str, [*given, *more])])


def face(place: Path, name: str) -> list[str]:
    adapter = ["--identity-adapter", str(place / "adapter.bin"), "--face-models", str(place / "insightface")]
    return [*adapter, "--faces", str(place / name)]


def frames(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]).astype(int)


@pytest.fixture(scope="module")
def warped(place, kept, tmp_path_factory) -> np.ndarray:
    out = tmp_path_factory.mktemp("warped") / "a.mp4"
    assert dub(place, out, painted=False) == 0
    return frames(out)


@pytest.fixture(scope="module")
def painted(place, kept, tmp_path_factory) -> np.ndarray:
    out = tmp_path_factory.mktemp("painted") / "a.mp4"
    assert dub(place, out, *face(place, "a.png")) == 0
    return frames(out)


@pytest.mark.parametrize(("film_end", "seconds"), [("cut", 0.75), ("hold", 2.0)])
def test_no_more_of_the_speech_is_read_than_the_film_says(tmp_path, monkeypatch, film_end, seconds):
    heard = []
    film = SimpleNamespace(track=SimpleNamespace(seconds=0.75), num_faceless=0)
    made = SimpleNamespace(path="a.mp4", seconds=0.75, num_frames=6, fps=Fraction(8))
    monkeypatch.setattr(pipeline, "read_film", lambda *_, **__: film)
    monkeypatch.setattr(pipeline, "dub", lambda film, speech, *_, **__: heard.append(speech) or made)
    with wave.open(str(SAMPLE)) as whole, wave.open(str(tmp_path / "long.wav"), "wb") as part:
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(2 * whole.getframerate()))
    words = ["--video", FILM, "--speech", tmp_path / "long.wav", "--out", tmp_path / "a.mp4"]
    assert main(["dub", *map(str, words), "--film-end", film_end]) == 0
    assert heard[0].seconds == pytest.approx(seconds)


def test_only_the_face_is_painted(painted, warped):
    assert painted.shape == warped.shape == (NUM_FRAMES, 256, 256, 3)
    away = np.abs(painted - warped)
    assert away[[0, 5], 100:200, 80:170].mean() > 3  # where the astronaut's face is
    assert away[:, :, :4].max() <= 2 and away[:, :, -4:].max() <= 2


def test_frames_without_a_face_stay_as_they_were_filmed(place, painted, tmp_path, capsys):
    assert np.abs(painted[[*BLANK]] - frames(place / "in.mp4")[[*BLANK]]).max() <= 2
    assert dub(place, tmp_path / "a.mp4", "--denoise", "0") == 0
    assert f"No face was seen in 3 of {NUM_FRAMES} frames" in capsys.readouterr().out


def test_denoise_zero_is_the_warp(place, warped, tmp_path):
    assert dub(place, tmp_path / "a.mp4", "--denoise", "0") == 0
    made = np.abs(frames(tmp_path / "a.mp4") - warped)
    assert made[:, :, :4].max() <= 2 and made.mean() < 3  # the face went through a crop of 64 pixels


@pytest.mark.slow
@pytest.mark.parametrize("changes", [["b.png"], ["a.png", "--identity-strength", "0"], ["a.png", "--seed", "5"]])
def test_face_strength_and_seed_change_the_frames(place, tmp_path, painted, changes):
    assert dub(place, tmp_path / "a.mp4", *face(place, changes[0]), *changes[1:]) == 0
    assert np.abs(frames(tmp_path / "a.mp4") - painted)[0].mean() > 0.05


def test_control_and_animatenet_change_the_frames(place, tmp_path, painted):
    control = ["--controlnet", str(place / "control.safetensors"), "--control-style", "landmarks"]
    whole = [*control, "--animatenet", str(place / "animate.safetensors"), "--mouth-weight", "2"]
    whole += ["--control-every", "2", "--batch-size", "3"]
    assert dub(place, tmp_path / "a.mp4", *face(place, "a.png"), *whole) == 0
    made = frames(tmp_path / "a.mp4")
    assert made.shape == painted.shape and np.abs(made - painted)[0].mean() > 0.05


def test_without_references_the_videos_own_face_is_taken(place, tmp_path, capsys):
    given = face(place, "a.png")[:4]
    assert dub(place, tmp_path / "a.mp4", *given) == 2  # the stub of a detector sees discs only
    assert "in.mp4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--head-placement", "follow"], "--head-placement follow is for portraits"),
        (["--height", "128"], "painted as a square; --width 64 and --height 128 differ"),
        (["--checkpoint", "nowhere.safetensors"], "there is no weight file"),
        (["--only-face"], "unrecognized arguments: --only-face"),
    ],
)
def test_dub_rejects(place, tmp_path, capsys, more, words):
    assert dub(place, tmp_path / "a.mp4", *more) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_same_command_goes_on_where_it_was_stopped(place, tmp_path, capsys, monkeypatch):
    assert dub(place, tmp_path / "whole.mp4", "--batch-size", "1") == 0
    with monkeypatch.context() as patched:

        @contextmanager
        def bar(name):
            def on_progress(done: int, _total: int) -> None:
                if name == "identitynet" and done >= 5:  # of 6 frames times 2 steps
                    raise KeyboardInterrupt

            yield on_progress

        patched.setattr(cli_dub, "progress_bar", bar)
        assert dub(place, tmp_path / "o.mp4", "--batch-size", "1") == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.mp4.unfinished", "whole.mp4"]
    capsys.readouterr()
    assert dub(place, tmp_path / "o.mp4", "--batch-size", "1") == 0
    assert "sections were finished already" in capsys.readouterr().out
    assert np.array_equal(frames(tmp_path / "o.mp4"), frames(tmp_path / "whole.mp4"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.mp4", "whole.mp4"]
