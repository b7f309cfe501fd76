"""The vexpress renderer on the command line, with tiny random weights in the public files' layouts."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from kept import keep_portraits, once
from PIL import Image
from sd15_files import make_checkpoint
from style_files import style_attention
from tiny_vae import write_taesd
from tiny_vexpress import CONTEXT, WIDTHS, write_vexpress, write_wav2vec, write_whisper

from portraittalk_core.cli import talk as cli_talk
from portraittalk_core.cli.main import main
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.renderers.vexpress import build
from portraittalk_core.style.projection import save_style_attention
from portraittalk_core.types import STYLE_STATISTICS

pytest.importorskip("diffusers")

pytestmark = pytest.mark.slow  # together they take ten seconds and more

SAMPLE = Path(__file__).parents[3] / "samples" / "speech.wav"


@pytest.fixture(scope="module")
def place(tmp_path_factory, astronaut) -> Path:
    """A folder with everything a run needs."""
    folder = tmp_path_factory.mktemp("vexpress")
    Image.fromarray(astronaut.picture.numpy()).save(folder / "portrait.png")
    with wave.open(str(SAMPLE)) as whole, wave.open(str(folder / "speech.wav"), "wb") as part:
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(whole.getframerate() // 2))
    make_checkpoint(folder / "sd15.safetensors", text=False)
    make_checkpoint(folder / "no_vae.safetensors", text=False, vae=False)
    write_vexpress(folder / "weights")
    write_wav2vec(folder / "wav2vec.safetensors")
    write_wav2vec(folder / "wide.safetensors", width=128)
    write_whisper(folder / "whisper.safetensors", width=64)
    (folder / "empty").mkdir()
    write_taesd(folder / "vae")
    write_taesd(folder / "half", encoder=False)
    for name, widths, space in (
        ("style", WIDTHS, "manner"),
        ("narrow", (32, 64, 64, 32), "manner"),
        ("other", WIDTHS, "x"),
    ):
        net = style_attention(len(STYLE_STATISTICS), CONTEXT, True, widths, space)
        save_style_attention(net, folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module", autouse=True)
def kept():
    """Networks of the same files are read once: what they show may not depend on what they have shown."""
    with pytest.MonkeyPatch.context() as patched:
        keep_portraits(patched)
        patched.setattr(build, "load_models", once(build.load_models))
        yield build.load_models


def talk(place: Path, out: Path, *more: object) -> int:
    given = ["--portrait", place / "portrait.png", "--speech", place / "speech.wav", "--out", out, "--fps", "8"]
    given += ["--renderer", "vexpress", "--vexpress-folder", place / "weights", "--device", "cpu", "--checkpoint"]
    given += [place / "sd15.safetensors", "--speech-encoder", place / "wav2vec.safetensors", "--vexpress-window", "3"]
    return main(
        ["talk", *map(str, [*given, "--overlap", 1, "--crf", 0, "--width", 64, "--height", 64, "--steps", 2, *more])]
    )


def frames(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        assert file.streams.audio
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]).astype(int)


@pytest.fixture(scope="module")
def painted(place, kept, tmp_path_factory) -> np.ndarray:
    out = tmp_path_factory.mktemp("out") / "a.mp4"
    assert talk(place, out) == 0
    return frames(out)


def test_talk_paints_as_many_frames_as_the_speech_lasts(painted):
    assert painted.shape == (4, 64, 64, 3) and painted.std() > 1


def test_talk_is_the_same_twice(place, tmp_path, painted, kept):
    kept.forget()  # from the files
    assert talk(place, tmp_path / "b.mp4") == 0
    again = np.abs(frames(tmp_path / "b.mp4") - painted)
    assert again.max() <= 4 and again.mean() < 5e-4  # threads add up in another order


def test_half_precision_paints_nearly_the_same(place, tmp_path):
    """Two frames in one step: a processor takes four times as long in fp16."""
    made = {}
    for precision in ("fp32", "bf16", "fp16"):
        assert talk(place, tmp_path / "b.mp4", "--precision", precision, "--fps", 4, "--steps", 1) == 0
        made[precision] = frames(tmp_path / "b.mp4")
    assert len(made["fp32"]) == 2
    for precision in ("bf16", "fp16"):
        assert 0 < np.abs(made[precision] - made["fp32"]).mean() < 8, precision


CHANGES = [("--seed", 5), ("--cfg", 1), ("--steps", 3), ("--audio-weight", 0), ("--reference-weight", 0)]
CHANGES += [("--vae", "{vae/taesd_decoder.safetensors}"), ("--sampler", "dpmpp_2m"), ("--head-motion", 2)]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change[0])
def test_every_option_changes_the_frames(place, tmp_path, painted, change):
    given = [str(place / word[1:-1]) if str(word).startswith("{") else word for word in change]
    assert talk(place, tmp_path / "b.mp4", *given) == 0
    assert np.abs(frames(tmp_path / "b.mp4") - painted).mean() > 0.005  # the same again: 0.0005 at most


def test_a_style_attention_shows_the_style(place, tmp_path):
    shown = {}
    for name, more in {
        "motion alone": ["--style", "lively"],
        "off": ["--style", "lively", "--style-strength", 0, "--style-attention", place / "style.safetensors"],
        "lively": ["--style", "lively", "--style-attention", place / "style.safetensors"],
        "calm": ["--style", "calm", "--style-attention", place / "style.safetensors"],
    }.items():
        out = tmp_path / f"{name}.mp4"
        assert talk(place, out, "--head-motion", 0, *more) == 0
        shown[name] = frames(out)
    assert np.abs(shown["lively"] - shown["motion alone"]).mean() > 1
    assert np.abs(shown["lively"] - shown["calm"]).mean() > 0.05
    assert np.abs(shown["off"] - shown["motion alone"]).mean() < 1  # the head keeps still: only the style acts


BAD = {
    "a style attention without a style": (["--style-attention", "{style.safetensors}"], "needs --style"),
    "a style attention of another space": (
        ["--style", "calm", "--style-attention", "{other.safetensors}"],
        "lives in the space manner",
    ),
    "a style attention of another width": (
        ["--style", "calm", "--style-attention", "{narrow.safetensors}"],
        "32 wide at site",
    ),
    "half of a TAESD": (["--vae", "{half/taesd_decoder.safetensors}"], "put taesd_encoder.safetensors beside it"),
    "no VAE file": (["--vae", "nowhere.pt"], "--vae nowhere.pt is not there"),
    "no folder": (["--vexpress-folder", "nowhere"], "nowhere is not there; give V-Express's five files from hugging"),
    "an empty folder": (["--vexpress-folder", "{empty}"], "get denoising_unet.bin, reference_net.bin, motion_module.b"),
    "no checkpoint": (["--checkpoint", "nowhere.ckpt"], "nowhere.ckpt is not there; give any full SD1.5 checkpoint"),
    "no encoder": (["--speech-encoder", "nowhere.bin"], "nowhere.bin is not there; give facebook/wav2vec2-base-960h"),
    "a checkpoint without VAE": (["--checkpoint", "{no_vae.safetensors}"], "no_vae.safetensors holds no VAE"),
    "a wider encoder": (["--speech-encoder", "{wide.safetensors}"], "needs a speech encoder with 64 channels"),
    "Whisper": (["--speech-encoder", "{whisper.safetensors}"], "V-Express hears by wav2vec 2.0 base, not by whisper-"),
    "a width that does not fit": (["--width", "100"], "width must be a multiple of 8, not 100"),
    "an unknown sampler": (["--sampler", "magic"], "sampler"),
    "a schedule": (["--schedule", "karras"], "--schedule cannot be used with vexpress; leave it out"),
    "IdentityNet's": (["--lora", "x", "--only-face"], "--lora, --only-face cannot be used with vexpress"),
    "a weight out of range": (["--audio-weight", "9"], "--audio-weight must lie between 0 and 5"),
    "too long a window": (["--vexpress-window", "40"], "window of 40"),
    "an unknown device": (["--device", "abacus"], "--device abacus cannot be used here"),
}


@pytest.mark.parametrize("name", BAD)
def test_talk_rejects(place, tmp_path, capsys, name):
    more, words = BAD[name]
    given = [str(place / word[1:-1]) if word.startswith("{") else word for word in more]
    assert talk(place, tmp_path / "a.mp4", *given) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--vexpress-folder", "--checkpoint", "--speech-encoder"])
def test_a_file_that_is_not_named_is_asked_for(tmp_path, capsys, flag, place):
    files = {
        "--vexpress-folder": "weights",
        "--checkpoint": "sd15.safetensors",
        "--speech-encoder": "wav2vec.safetensors",
    }
    del files[flag]
    given = [word for name, file in files.items() for word in (name, str(place / file))]
    words = ["talk", "--portrait", place / "portrait.png", "--speech", place / "speech.wav", "--renderer", "vexpress"]
    assert main([str(word) for word in [*words, "--out", tmp_path / "a.mp4", *given]]) == 2
    assert f"--renderer vexpress needs {flag}" in capsys.readouterr().err


def test_a_stopped_run_leaves_nothing(place, tmp_path, monkeypatch):
    from contextlib import contextmanager

    @contextmanager
    def stopping(_name):
        def on_progress(done, total):
            if 2 * done >= total:
                raise KeyboardInterrupt

        yield on_progress

    monkeypatch.setattr(cli_talk, "progress_bar", stopping)
    assert talk(place, tmp_path / "a.mp4") == 130
    assert list(tmp_path.iterdir()) == []


def test_dub_paints_the_face_of_a_film_and_shows_a_style(place, tmp_path, astronaut):
    close = np.array(Image.fromarray(astronaut.picture.numpy()[:300, 80:380]).resize((256, 256)))
    with VideoWriter(place / "film.mp4", 256, 256, Fraction(8), crf=4) as writer:
        for _ in range(3):
            writer.write(torch.from_numpy(close))
    words = ["dub", "--video", place / "film.mp4", "--speech", place / "speech.wav", "--crf", 0, "--renderer"]
    words += ["vexpress", "--vexpress-folder", place / "weights", "--checkpoint", place / "sd15.safetensors"]
    words += ["--speech-encoder", place / "wav2vec.safetensors", "--vexpress-window", 3, "--overlap", 1]
    words += ["--device", "cpu", "--width", 64, "--height", 64, "--steps", 1]
    shown = {}
    for name, more in {
        "plain": [],
        "lively": ["--style", "lively", "--style-attention", place / "style.safetensors"],
    }.items():
        out = tmp_path / f"{name}.mp4"
        assert main([str(word) for word in [*words, *more, "--out", out]]) == 0
        shown[name] = frames(out)
    assert shown["plain"].shape == (3, 256, 256, 3)
    assert np.abs(shown["plain"][0, :20, :40] - close[:20, :40]).mean() < 4  # a corner of the film
    assert np.abs(shown["plain"][0, 90:170, 90:170] - close[90:170, 90:170]).mean() > 10  # its face
    assert np.abs(shown["lively"] - shown["plain"]).mean() > 0.1
