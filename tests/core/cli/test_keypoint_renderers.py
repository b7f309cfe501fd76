"""The renderers liveportrait and facevid2vid of `talk` on random files: Audio2Exp, precisions, rates, odd portraits."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_hubert import write_tiny_hubert

from portraittalk_core.cli.main import main
from portraittalk_core.errors import InputError
from portraittalk_core.media.video_read import probe_video, read_pictures
from portraittalk_core.renderers.implicit.audio2exp.files import save_audio2exp
from portraittalk_core.renderers.implicit.audio2exp.network import Audio2Exp, Audio2ExpSize
from portraittalk_core.renderers.implicit.files import write_random_files
from portraittalk_core.renderers.registry import open_renderer

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).parents[3] / "samples" / "speech.wav"
LAYOUTS = {"lp": "liveportrait-21", "fv": "face-vid2vid-15"}


@pytest.fixture(scope="module")
def place(tmp_path_factory, astronaut) -> Path:
    """A folder with portraits, speech, and the files of both families with random weights."""
    folder = tmp_path_factory.mktemp("keypoints")
    picture = astronaut.picture.numpy()
    Image.fromarray(picture[:300, 80:380]).resize((256, 256)).save(folder / "me.png")
    Image.fromarray(np.ascontiguousarray(picture[:240, 130:300])).save(folder / "tight.png")  # the crop leaves it
    Image.fromarray(np.concatenate([picture[:256, 100:356]] * 2, 1)).save(folder / "two.png")
    with wave.open(str(SAMPLE)) as whole:
        for name, seconds in (("half.wav", 0.5), ("short.wav", 0.15)):
            whole.setpos(whole.getframerate())
            with wave.open(str(folder / name), "wb") as part:
                part.setparams(whole.getparams())
                part.writeframes(whole.readframes(int(seconds * whole.getframerate())))
    for name, layout in LAYOUTS.items():
        write_random_files(folder / name, layout)
        network = Audio2Exp(Audio2ExpSize(layout=layout, features=64, widths=(12, 10, 8, 6)))
        draw = torch.Generator().manual_seed(0)
        network.out_fc.weight.data = 0.05 * torch.randn(network.out_fc.weight.shape, generator=draw)
        save_audio2exp(folder / f"{name}-audio2exp.safetensors", network)
    write_tiny_hubert(folder / "hubert.bin")
    return folder


def talk(place: Path, out: Path, family: str, *words: object, picture: str = "me.png", speech: str = "half.wav") -> int:
    renderer = {"lp": "liveportrait", "fv": "facevid2vid"}[family]
    given = ["--source", place / picture, "--speech", place / speech, "--renderer", renderer]
    given += ["--keypoints-folder", place / family, "--out", out, *words]
    return main(["talk", *map(str, given)])


def pictures(path: Path) -> torch.Tensor:
    return torch.stack(list(read_pictures(path))).float()


@pytest.mark.parametrize("family", LAYOUTS)
def test_audio2exp_moves_the_face_by_alpha(place, tmp_path, family):
    words = ["--audio2exp", place / f"{family}-audio2exp.safetensors", "--hubert", place / "hubert.bin", "--crf", "0"]
    made = {}
    for alpha in ("0", "0.7", "1.4"):
        assert (
            talk(
                place,
                tmp_path / f"{alpha}.mp4",
                family,
                *words,
                "--alpha",
                alpha,
                "--paste",
                "crop",
                speech="short.wav",
            )
            == 0
        )
        made[alpha] = pictures(tmp_path / f"{alpha}.mp4")
    moved = [float((made[alpha] - made["0"]).abs().mean()) for alpha in ("0.7", "1.4")]
    assert 0 < moved[0] < moved[1]


def test_audio2exp_edits_the_keypoints_of_a_driving_video(place, tmp_path):
    film, words = tmp_path / "film.mp4", ["--paste", "crop", "--crf", "0", "--film-end", "loop"]
    given = ["talk", "--source", place / "me.png", "--speech", place / "half.wav", "--head-motion", "2", "--out", film]
    assert main(list(map(str, given))) == 0
    words += ["--audio2exp", place / "lp-audio2exp.safetensors", "--hubert", place / "hubert.bin", "--driving", film]
    made = {}
    for alpha in ("0", "1"):
        assert talk(place, tmp_path / f"{alpha}.mp4", "lp", *words, "--alpha", alpha) == 0
        made[alpha] = pictures(tmp_path / f"{alpha}.mp4")
    assert len(made["0"]) == 13 and float((made["0"] - made["1"]).abs().mean()) > 0
    assert float((made["0"][1:] - made["0"][:-1]).abs().mean()) > 0  # the head and the eyes are the video's


def test_audio2exp_of_the_other_family_is_refused_before_any_frame(place, tmp_path, capsys):
    words = ["--audio2exp", place / "fv-audio2exp.safetensors", "--hubert", place / "hubert.bin"]
    assert talk(place, tmp_path / "o.mp4", "lp", *words) == 2
    assert "moves keypoints of face-vid2vid-15, but these networks have liveportrait-21" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_half_precision_gives_nearly_the_same_pictures(place, tmp_path):
    for name in ("fp32", "bf16"):
        words = ["--precision", name, "--device", "cpu", "--paste", "crop", "--crf", "0"]
        assert talk(place, tmp_path / f"{name}.mp4", "lp", *words, speech="short.wav") == 0
    exact, rounded = (pictures(tmp_path / f"{name}.mp4") for name in ("fp32", "bf16"))
    assert 0 < float((exact - rounded).abs().mean()) < 4


@pytest.mark.parametrize("fps", [12, 60])
def test_rates_are_those_that_are_asked_for(place, tmp_path, fps):
    assert talk(place, tmp_path / "o.mp4", "lp", "--fps", fps, speech="short.wav") == 0
    probe = probe_video(tmp_path / "o.mp4")
    assert probe.fps == fps and probe.num_frames == -(-15 * fps // 100)


@pytest.mark.parametrize("family", LAYOUTS)
def test_speech_shorter_than_a_window_of_hubert_is_spoken(place, tmp_path, family):
    words = ["--audio2exp", place / f"{family}-audio2exp.safetensors", "--hubert", place / "hubert.bin"]
    assert talk(place, tmp_path / "o.mp4", family, *words, speech="short.wav") == 0
    assert probe_video(tmp_path / "o.mp4").num_frames == 4


@pytest.mark.parametrize(("picture", "family"), [("tight.png", "lp"), ("tight.png", "fv"), ("two.png", "lp")])
def test_a_crop_that_leaves_the_picture_and_two_faces(place, tmp_path, family, picture):
    assert talk(place, tmp_path / "o.mp4", family, "--crf", "0", picture=picture, speech="short.wav") == 0
    made, given = pictures(tmp_path / "o.mp4"), np.asarray(Image.open(place / picture))
    assert made.shape[1:] == given.shape
    if picture == "two.png":  # of two faces of a size one moves
        changed = (made[0] - torch.from_numpy(given.copy()).float()).abs().mean((0, 2))
        halves = changed.split(256)
        assert min(float(half.mean()) for half in halves) < 2 < max(float(half.max()) for half in halves)


def test_python_opens_them_by_name(place):
    renderer = open_renderer("liveportrait", keypoints_folder=place / "lp", alpha=0.5, device="cpu")
    assert renderer.keypoint_layout == "liveportrait-21" and renderer.alpha == 0.5
    with pytest.raises(InputError, match="batch_size must lie between 1 and 256, but is 0"):
        open_renderer("liveportrait", keypoints_folder=place / "lp", batch_size=0)
    with pytest.raises(InputError, match="has no option 'steps'"):
        open_renderer("facevid2vid", keypoints_folder=place / "fv", steps=4)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda folder: (folder / "warping_module.safetensors").unlink(), "warping_module is missing"),
        (lambda folder: cut(folder / "spade_generator.safetensors"), "spade_generator"),
        (lambda folder: cut(folder / "appearance_feature_extractor.safetensors"), "appearance_feature_extractor"),
        (lambda folder: cut(folder / "motion_extractor.safetensors"), "motion_extractor"),
        (lambda folder: cut(folder / "stitching_retargeting_module.safetensors"), "stitching_retargeting_module"),
    ],
)
def test_a_missing_or_truncated_file_of_the_five_is_named(place, tmp_path, capsys, damage, text):
    write_random_files(tmp_path / "lp", "liveportrait-21")
    damage(tmp_path / "lp")
    words = ["talk", "--source", place / "me.png", "--speech", place / "short.wav", "--out", tmp_path / "o.mp4"]
    words += ["--renderer", "liveportrait", "--keypoints-folder", tmp_path / "lp"]
    assert main(list(map(str, words))) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "o.mp4").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
