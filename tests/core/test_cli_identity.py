"""The identitynet renderer on the command line, with tiny random weights in the public files' layouts."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from adapter_files import adapter_tensors
from control_files import ldm_tensors, tiny_controlnet
from onnx_models import paint_disc, write_face_models
from PIL import Image
from safetensors.torch import save_file
from sd15_files import make_checkpoint
from tokenizer_files import write_tokenizer

from portraittalk_core.cli import main

pytest.importorskip("diffusers")
SAMPLE = Path(__file__).parents[2] / "samples" / "speech.wav"


@pytest.fixture(scope="module")
def place(tmp_path_factory, astronaut) -> Path:
    """A folder with everything a run needs."""
    folder = tmp_path_factory.mktemp("identity")
    Image.fromarray(astronaut.picture.numpy()).save(folder / "portrait.png")
    for name, middle in (("a.png", 200.0), ("b.png", 330.0)):
        Image.fromarray(paint_disc((middle, 240.0, 130.0)).numpy()).save(folder / name)
    with wave.open(str(SAMPLE)) as whole, wave.open(str(folder / "speech.wav"), "wb") as part:
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(whole.getframerate() // 2))
    make_checkpoint(folder / "sd15.safetensors")
    torch.save(adapter_tensors("faceid"), folder / "adapter.bin")
    save_file(ldm_tensors(tiny_controlnet()), folder / "control.safetensors")
    torch.save(adapter_tensors("plus"), folder / "adapter_plus.bin")
    write_face_models(folder / "insightface")
    write_tokenizer(folder / "tokenizer")
    Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(folder / "empty.png")
    return folder


def talk(place: Path, out: Path, *more: str) -> int:
    given = ["--portrait", place / "portrait.png", "--speech", place / "speech.wav", "--out", out, "--fps", "8"]
    given += ["--renderer", "identitynet", "--checkpoint", place / "sd15.safetensors", "--tokenizer"]
    given += [place / "tokenizer", "--width", "64", "--height", "64", "--steps", "2", "--device", "cpu", *more]
    return main(["talk", *map(str, given)])


def faces(place: Path, *names: str) -> list[str]:
    adapter = ["--identity-adapter", str(place / "adapter.bin"), "--face-models", str(place / "insightface")]
    return [*adapter, "--faces", *(str(place / name) for name in names)]


def frames(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]).astype(int)


@pytest.fixture(scope="module")
def painted(place, tmp_path_factory) -> np.ndarray:
    out = tmp_path_factory.mktemp("out") / "a.mp4"
    assert talk(place, out, *faces(place, "a.png")) == 0
    return frames(out)


def test_talk_paints_as_many_frames_as_the_speech_lasts(painted):
    assert painted.shape == (4, 64, 64, 3)
    assert painted.std() > 1


def test_talk_is_the_same_twice_and_whatever_the_batch(place, tmp_path, painted):
    assert talk(place, tmp_path / "b.mp4", *faces(place, "a.png"), "--batch-size", "3") == 0
    assert np.abs(frames(tmp_path / "b.mp4") - painted).max() <= 4  # threads add up in another order


@pytest.mark.parametrize(
    "changes", [["b.png"], ["a.png", "--identity-strength", "0"], ["a.png", "--prompt", "zz"], ["a.png", "--seed", "5"]]
)
def test_face_strength_text_and_seed_change_the_frames(place, tmp_path, painted, changes):
    assert talk(place, tmp_path / "b.mp4", *faces(place, changes[0]), *changes[1:]) == 0
    assert np.abs(frames(tmp_path / "b.mp4") - painted).mean() > 0.2


def test_denoise_zero_needs_no_painting(place, tmp_path):
    assert talk(place, tmp_path / "a.mp4", "--denoise", "0", "--crf", "0") == 0
    warped = frames(tmp_path / "a.mp4")
    picture = np.asarray(Image.open(place / "portrait.png").resize((64, 64), Image.BICUBIC)).astype(int)
    assert np.abs(warped[0] - picture).mean() < 4


BAD = {
    "no checkpoint": (["--checkpoint", "nowhere.safetensors"], "there is no weight file"),
    "a width that does not fit": (["--width", "100"], "width must be a multiple of 8, not 100"),
    "an unknown sampler": (["--sampler", "magic"], "--sampler magic is not known; choose one of euler"),
    "an unknown schedule": (["--schedule", "magic"], "--schedule magic is not known"),
    "a strength out of range": (["--identity-strength", "9"], "the identity strength must lie between -1 and 3"),
    "denoise out of range": (["--denoise", "2"], "--denoise must lie between 0 and 1"),
    "an unknown device": (["--device", "abacus"], "--device abacus cannot be used here"),
    "an overlap of a whole window": (["--window", "8", "--overlap", "8"], "an overlap of 8 does not fit windows of 8"),
    "a ControlNet that is none": (["--controlnet", "{sd15}"], "is no ControlNet"),
    "a motion module that is none": (["--motion-module", "{sd15}"], "sd15.safetensors"),
    "a broken LoRA": (["--lora", "nowhere.safetensors"], "there is no weight file"),
}


@pytest.mark.parametrize("name", BAD)
def test_talk_rejects(place, tmp_path, capsys, name):
    more, words = BAD[name]
    given = [word.replace("{sd15}", str(place / "sd15.safetensors")) for word in more]
    assert talk(place, tmp_path / "a.mp4", *given) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_controlnet_changes_the_frames_by_its_strength(place, tmp_path, painted):
    given = [*faces(place, "a.png"), "--controlnet", str(place / "control.safetensors"), "--control-style", "landmarks"]
    assert talk(place, tmp_path / "b.mp4", *given, "--control-strength", "2") == 0
    assert np.abs(frames(tmp_path / "b.mp4") - painted).mean() > 0.2
    assert talk(place, tmp_path / "c.mp4", *given, "--control-strength", "0") == 0
    assert np.abs(frames(tmp_path / "c.mp4") - painted).max() <= 12  # landmarks are found on the cut picture here


def test_talk_rejects_an_adapter_without_face_models(place, tmp_path, capsys):
    assert talk(place, tmp_path / "a.mp4", "--identity-adapter", str(place / "adapter.bin")) == 2
    assert "--identity-adapter needs --face-models" in capsys.readouterr().err


def test_talk_rejects_plus_without_clip(place, tmp_path, capsys):
    given = faces(place, "a.png")
    given[1] = str(place / "adapter_plus.bin")
    assert talk(place, tmp_path / "a.mp4", *given) == 2
    assert "needs CLIP vision's hidden states" in capsys.readouterr().err


def test_talk_rejects_an_sdxl_adapter_by_name(place, tmp_path, capsys):
    wide = {str(2 * i + 1): 640 for i in range(70)}
    torch.save(adapter_tensors("faceid", wide, 2048), tmp_path / "xl.bin")
    given = faces(place, "a.png")
    given[1] = str(tmp_path / "xl.bin")
    assert talk(place, tmp_path / "a.mp4", *given) == 2
    assert "xl.bin is an adapter for SDXL" in capsys.readouterr().err


def test_one_faceless_reference_is_passed_over_and_none_left_is_an_error(place, tmp_path, capsys):
    assert talk(place, tmp_path / "a.mp4", *faces(place, "a.png", "empty.png")) == 0
    assert "empty.png" in capsys.readouterr().err
    assert talk(place, tmp_path / "b.mp4", *faces(place, "empty.png")) == 2
    assert "no face" in capsys.readouterr().err.lower()


def test_lora_changes_the_frames_by_its_strength(place, tmp_path, painted):
    unit = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_v"
    lora = {f"{unit}.lora_down.weight": torch.ones(2, 32) / 4, f"{unit}.lora_up.weight": torch.ones(32, 2)}
    save_file(lora, tmp_path / "lora.safetensors")
    made = []
    for strength in ("0", "2"):
        given = [*faces(place, "a.png"), "--lora", f"{tmp_path / 'lora.safetensors'}:{strength}"]
        assert talk(place, tmp_path / f"{strength}.mp4", *given) == 0
        made.append(frames(tmp_path / f"{strength}.mp4"))
    assert np.abs(made[0] - painted).max() <= 4
    assert np.abs(made[1] - painted).mean() > 0.2
