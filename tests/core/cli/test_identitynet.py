"""The identitynet renderer on the command line, with tiny random weights in the public files' layouts."""

from __future__ import annotations

import wave
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from adapter_files import adapter_tensors
from control_files import ldm_tensors, tiny_controlnet
from kept import keep_checkpoints, keep_portraits
from motion_files import motion_tensors
from onnx_models import paint_disc, write_face_models
from PIL import Image
from safetensors.torch import save_file
from sd15_files import make_checkpoint
from tiny_vae import write_taesd
from tokenizer_files import write_tokenizer

from portraittalk_core.cli import talk as cli_talk
from portraittalk_core.cli.main import build_parser, main
from portraittalk_core.cli.renderers import renderer_options
from portraittalk_core.diffusion.checkpoint import load_sd15
from portraittalk_core.media.records import load_record, save_record
from portraittalk_core.renderers import RenderJob, open_renderer
from portraittalk_core.renderers.animatenet.animate_net import new_animate_net, save_animate_net
from portraittalk_core.renderers.identitynet import diffusers_backend
from portraittalk_core.types import LandmarkTrack

pytest.importorskip("diffusers")

pytestmark = pytest.mark.slow  # together they take ten seconds and more

ONE_BY_ONE = ["--batch-size", "1"]  # a section for each frame
SAMPLE = Path(__file__).parents[3] / "samples" / "speech.wav"


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
    save_file(ldm_tensors(tiny_controlnet(context=1024)), folder / "sd2.safetensors")
    three = {name: part for name, part in motion_tensors("v1").items() if "_blocks.3." not in name}
    save_file(three, folder / "xl.safetensors")
    save_file(motion_tensors("v1"), folder / "motion.safetensors")
    net = new_animate_net(tiny_controlnet(), features=True)
    for name, weight in net.named_parameters():
        if "to_v_" in name:
            weight.data.normal_(std=0.5, generator=torch.Generator().manual_seed(9))
    save_animate_net(net, folder / "animate.safetensors")
    torch.save(adapter_tensors("plus"), folder / "adapter_plus.bin")
    write_face_models(folder / "insightface")
    write_tokenizer(folder / "tokenizer")
    write_taesd(folder / "vae", encoder=False)
    Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(folder / "empty.png")
    return folder


@pytest.fixture(scope="module", autouse=True)
def kept():
    """The portrait's face is searched once, the checkpoint read once."""
    with pytest.MonkeyPatch.context() as patched:
        keep_portraits(patched)
        keep_checkpoints(patched)
        yield


def talk(place: Path, out: Path, *more: str) -> int:
    given = ["--portrait", place / "portrait.png", "--speech", place / "speech.wav", "--out", out, "--fps", "8"]
    given += ["--renderer", "identitynet", "--checkpoint", place / "sd15.safetensors", "--tokenizer"]
    given += [place / "tokenizer", "--width", "64", "--height", "64", "--steps", "2", "--device", "cpu"]
    given += ["--batch-size", "4", *more]  # all frames at once cost less than one by one
    return main(["talk", *map(str, given)])


def faces(place: Path, *names: str) -> list[str]:
    adapter = ["--identity-adapter", str(place / "adapter.bin"), "--face-models", str(place / "insightface")]
    return [*adapter, "--faces", *(str(place / name) for name in names)]


def frames(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]).astype(int)


@pytest.fixture(scope="module")
def painted(place, kept, tmp_path_factory) -> np.ndarray:
    out = tmp_path_factory.mktemp("out") / "a.mp4"
    assert talk(place, out, *faces(place, "a.png")) == 0
    return frames(out)


def test_talk_paints_as_many_frames_as_the_speech_lasts(painted):
    assert painted.shape == (4, 64, 64, 3)
    assert painted.std() > 1


def test_talk_is_the_same_twice_and_whatever_the_batch(place, tmp_path, painted):
    assert talk(place, tmp_path / "b.mp4", *faces(place, "a.png"), "--batch-size", "3") == 0
    difference = np.abs(frames(tmp_path / "b.mp4") - painted)  # a batch of another size adds up in another order
    assert difference.mean() < 0.1 and difference.max() <= 8, (difference.mean(), difference.max())


@pytest.mark.parametrize(
    "changes", [["b.png"], ["a.png", "--identity-strength", "0"], ["a.png", "--prompt", "zz"], ["a.png", "--seed", "5"]]
)
def test_face_strength_text_and_seed_change_the_frames(place, tmp_path, painted, changes):
    assert talk(place, tmp_path / "b.mp4", *faces(place, changes[0]), *changes[1:]) == 0
    assert np.abs(frames(tmp_path / "b.mp4") - painted).mean() > 0.2


def test_another_vae_decodes_what_was_painted(place, tmp_path, painted):
    """TAESD's decoder without its encoder: the checkpoint's encodes."""
    vae = ["--vae", str(place / "vae" / "taesd_decoder.safetensors")]
    assert talk(place, tmp_path / "b.mp4", *faces(place, "a.png"), *vae) == 0
    others = frames(tmp_path / "b.mp4")
    assert others.shape == painted.shape and np.abs(others - painted).mean() > 1


def test_denoise_zero_needs_no_painting(place, tmp_path):
    assert talk(place, tmp_path / "a.mp4", "--denoise", "0", "--crf", "0") == 0
    warped = frames(tmp_path / "a.mp4")
    picture = np.asarray(Image.open(place / "portrait.png").resize((64, 64), Image.BICUBIC)).astype(int)
    assert np.abs(warped[0] - picture).mean() < 4


BAD = {
    "no checkpoint": (["--checkpoint", "nowhere.safetensors"], "there is no weight file"),
    "no VAE file": (["--vae", "nowhere.pt"], "there is no weight file nowhere.pt; put it there"),
    "a VAE that is none": (["--vae", "{control}"], "control.safetensors holds no VAE"),
    "a width that does not fit": (["--width", "100"], "width must be a multiple of 8, not 100"),
    "an unknown sampler": (["--sampler", "magic"], "--sampler magic is not known; choose one of euler"),
    "an unknown schedule": (["--schedule", "magic"], "--schedule magic is not known"),
    "a strength out of range": (["--identity-strength", "9"], "--identity-strength must lie between -1 and 3"),
    "denoise out of range": (["--denoise", "2"], "--denoise must lie between 0 and 1"),
    "an unknown device": (["--device", "abacus"], "--device abacus cannot be used here"),
    "an overlap of a whole window": (["--window", "8", "--overlap", "8"], "an overlap of 8 does not fit windows of 8"),
    "a ControlNet that is none": (["--controlnet", "{sd15}"], "is no ControlNet"),
    "a motion module that is none": (["--motion-module", "{sd15}"], "sd15.safetensors"),
    "a motion module for SDXL": (["--motion-module", "{xl}"], "is a motion module for SDXL"),
    "a ControlNet for SD2": (["--controlnet", "{sd2}"], "is a ControlNet for Stable Diffusion 2"),
    "a motion module for other blocks": (["--motion-module", "{motion}"], "the UNet has 320, 640, 1280, 1280"),
    "an AnimateNet without ControlNet": (["--animatenet", "{animate}"], "--animatenet acts inside of a ControlNet"),
    "an AnimateNet and no strength": (
        ["--animatenet", "{animate}", "--controlnet", "{control}", "--control-strength", "0"],
        "--animatenet acts inside of a ControlNet",
    ),
    "an AnimateNet that is none": (
        ["--animatenet", "{control}", "--controlnet", "{control}"],
        "is no AnimateNet but a ControlNet",
    ),
    "features of nothing": (["--features", "1"], "--features needs --animatenet"),
    "tokens out of range": (["--landmark-tokens", "4"], "--landmark-tokens must lie between -1 and 3"),
    "a control that ends before it begins": (["--control-start", "0.5", "--control-end", "0.5"], "is not behind"),
    "too rare a control": (["--control-every", "9"], "--control-every must lie between 1 and 8"),
    "a mouth weight out of range": (["--mouth-weight", "5"], "--mouth-weight must lie between 0 and 4"),
    "a face that is no square": (["--only-face", "--height", "128"], "--only-face paints a square"),
    "a schedule that lcm lacks": (["--sampler", "lcm", "--schedule", "karras"], "lcm has no --schedule karras"),
    "a broken LoRA": (["--lora", "nowhere.safetensors"], "there is no weight file"),
}


@pytest.mark.parametrize("name", BAD)
def test_talk_rejects(place, tmp_path, capsys, name):
    more, words = BAD[name]
    files = {"sd15", "motion", "control", "animate", "xl", "sd2"}
    given = [str(place / f"{word[1:-1]}.safetensors") if word[1:-1] in files else word for word in more]
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
    wide = {str(2 * i + 1): 8 for i in range(70)}
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


def control(place: Path, *more: str) -> list[str]:
    return ["--controlnet", str(place / "control.safetensors"), "--control-style", "landmarks", *more]


@pytest.fixture(scope="module")
def controlled(place, kept, tmp_path_factory) -> np.ndarray:
    out = tmp_path_factory.mktemp("controlled") / "a.mp4"
    assert talk(place, out, *control(place, "--control-strength", "2", "--steps", "3")) == 0
    return frames(out)


@pytest.mark.parametrize(
    "more",
    [
        ["--animatenet", "{}"],
        ["--animatenet", "{}", "--landmark-tokens", "0", "--placement-tokens", "0", "--features", "2"],
        ["--control-start", "0.9"],
        ["--control-end", "0.7"],
        ["--control-every", "3"],
        ["--mouth-weight", "4"],
    ],
    ids=" ".join,
)
def test_options_of_control_change_the_frames(place, tmp_path, controlled, more):
    given = [word.replace("{}", str(place / "animate.safetensors")) for word in more]
    made = control(place, "--control-strength", "2", "--steps", "3", *given)
    assert talk(place, tmp_path / "b.mp4", *made) == 0
    assert np.abs(frames(tmp_path / "b.mp4") - controlled).mean() > 0.05


def test_an_animatenet_whose_strengths_are_zero_changes_nothing(place, tmp_path, controlled):
    off = ["--animatenet", str(place / "animate.safetensors"), "--landmark-tokens", "0", "--placement-tokens", "0"]
    assert talk(place, tmp_path / "b.mp4", *control(place, "--control-strength", "2", "--steps", "3", *off)) == 0
    assert np.abs(frames(tmp_path / "b.mp4") - controlled).max() <= 4


def test_head_placement_follows_a_track_that_moves_slowly(place, tmp_path, controlled):
    """The engine's head moves by far less than 0.02 of the picture a frame: following it is the track itself."""
    given = control(place, "--control-strength", "2", "--steps", "3", "--head-placement", "follow")
    assert talk(place, tmp_path / "b.mp4", *given) == 0
    assert np.abs(frames(tmp_path / "b.mp4") - controlled).mean() < 2


def test_only_face_keeps_the_portraits_size_and_what_is_far_from_the_face(place, tmp_path):
    assert talk(place, tmp_path / "w.mp4", "--only-face", "--denoise", "0", "--crf", "0") == 0
    assert talk(place, tmp_path / "a.mp4", "--only-face", "--denoise", "0.9", "--crf", "0", *control(place)) == 0
    warped, made = frames(tmp_path / "w.mp4"), frames(tmp_path / "a.mp4")
    assert made.shape == warped.shape == (4, 512, 512, 3)
    away = np.abs(made - warped)
    # the astronaut's face lies within 150..320 by 50..240
    assert away[:, 420:].max() <= 2 and away[:, :, 400:].max() <= 2 and away[:, :, :60].max() <= 2
    assert away[:, 100:180, 190:260].mean() > 3


def test_only_face_takes_a_portrait_of_any_size(place, tmp_path):
    whole = Image.open(place / "portrait.png").convert("RGB")
    wide = Image.new("RGB", (703, 541), (90, 90, 90))
    wide.paste(whole, (100, 29))
    wide.save(place / "wide.png")
    more = ["--portrait", str(place / "wide.png"), "--only-face"]  # argparse takes the last
    assert talk(place, tmp_path / "a.mp4", *more) == 0
    shape = frames(tmp_path / "a.mp4").shape
    assert shape[0] == 4 and abs(shape[1] - 541) <= 1 and abs(shape[2] - 703) <= 1


CHOSEN = ("--renderer", "identitynet", "--checkpoint", "c.safetensors")


def parsed(*words: str):
    parser = build_parser()
    args = parser.parse_args(["talk", "--portrait", "p.png", "--speech", "s.wav", "--out", "o.mp4", *CHOSEN, *words])
    _, options = renderer_options(args)
    return options.steps, options.cfg, options.sampler, options.schedule


def test_a_preset_sets_only_what_is_not_given():
    assert parsed() == (20, 3.5, "euler", "normal")
    assert parsed("--preset", "fast") == (4, 1.0, "lcm", "sgm_uniform")
    assert parsed("--preset", "fast", "--steps", "8", "--cfg", "1.5") == (8, 1.5, "lcm", "sgm_uniform")
    assert parsed("--preset", "quality", "--sampler", "euler")[1:] == (3.5, "euler", "karras")


def test_fast_paints(place, tmp_path):
    assert talk(place, tmp_path / "a.mp4", "--preset", "fast") == 0
    assert frames(tmp_path / "a.mp4").std() > 1


def stop_at(monkeypatch, step: int) -> None:
    @contextmanager
    def bar(_name):
        def on_progress(done: int, _total: int) -> None:
            if done >= step:
                raise KeyboardInterrupt

        yield on_progress

    monkeypatch.setattr(cli_talk, "progress_bar", bar)


@pytest.mark.parametrize("more", [ONE_BY_ONE, [*ONE_BY_ONE, "--only-face"]], ids=["whole", "only-face"])
def test_the_same_command_goes_on_where_it_was_stopped(place, tmp_path, capsys, monkeypatch, more):
    assert talk(place, tmp_path / "whole.mp4", *more) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["whole.mp4"]
    with monkeypatch.context() as patched:
        stop_at(patched, 5)  # of 4 frames times 2 steps
        assert talk(place, tmp_path / "o.mp4", *more) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.mp4.unfinished", "whole.mp4"]
    capsys.readouterr()
    assert talk(place, tmp_path / "o.mp4", *more) == 0
    assert "resumed: 2 of 4 sections were finished already" in capsys.readouterr().out
    assert np.array_equal(frames(tmp_path / "o.mp4"), frames(tmp_path / "whole.mp4"))
    assert not (tmp_path / "o.mp4.unfinished").exists()


def test_other_options_or_no_resume_begin_anew(place, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patched:
        stop_at(patched, 5)
        assert talk(place, tmp_path / "o.mp4", *ONE_BY_ONE) == 130
        assert talk(place, tmp_path / "p.mp4", *ONE_BY_ONE, "--no-resume") == 130
    assert not (tmp_path / "p.mp4.unfinished").exists()
    assert talk(place, tmp_path / "o.mp4", "--seed", "3") == 0
    assert "resumed" not in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["o.mp4"]


def test_render_paints_an_edited_track(place, tmp_path):
    """The track of `landmarks`, its mouth held shut in the second half, painted by `render`."""
    words = ["--portrait", place / "portrait.png", "--speech", place / "speech.wav", "--fps", "8"]
    assert main([str(word) for word in ["landmarks", *words, "--out", tmp_path / "t.safetensors"]]) == 0
    track = load_record(LandmarkTrack, tmp_path / "t.safetensors")
    points = track.points.clone()
    points[2:] = track.points[:1]
    save_record(replace(track, points=points), tmp_path / "edited.safetensors")
    words = ["render", "--portrait", place / "portrait.png", "--track", tmp_path / "edited.safetensors", "--out"]
    words += [tmp_path / "o.mp4", "--renderer", "identitynet", "--checkpoint", place / "sd15.safetensors"]
    words += ["--tokenizer", place / "tokenizer", "--width", "64", "--height", "64", "--steps", "2", "--device", "cpu"]
    assert main([str(word) for word in [*words, "--crf", "0", "--denoise", "0.3"]]) == 0
    painted = frames(tmp_path / "o.mp4")
    assert painted.shape == (4, 64, 64, 3) and np.abs(painted[2] - painted[3]).max() <= 4
    assert main([str(word) for word in [*words, "--crf", "0", "--denoise", "0"]]) == 0
    assert np.abs(frames(tmp_path / "o.mp4") - painted).mean() > 0.2  # it was painted, not only warped


def test_two_jobs_of_one_renderer_read_the_checkpoint_once(place, astronaut, monkeypatch):
    reads = []

    def counted(path, *where):
        reads.append(path)
        return load_sd15(path, *where)

    monkeypatch.setattr(diffusers_backend, "load_sd15", counted)
    files = {"checkpoint": place / "sd15.safetensors", "tokenizer": place / "tokenizer"}
    renderer = open_renderer("identitynet", **files, width=64, height=64, steps=1, device="cpu")
    first, second = (list(renderer.render(RenderJob.of_track(astronaut, astronaut.landmarks))) for _ in range(2))
    assert len(reads) == 1 and torch.equal(first[0], second[0])
