from fractions import Fraction

import pytest
import torch

from portraittalk_core.cli.main import main
from portraittalk_core.engines.builtin.mouth_model import load_mouth
from portraittalk_core.media.audio import load_speech
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.pipelines.talk import talk
from portraittalk_core.types import Speech


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--videos", "{tmp}/none", "--out", "{tmp}/a.safetensors"], "is not a folder"),
        (["--videos", "{tmp}", "--out", "{tmp}/a.safetensors"], "holds no video"),
        (["--videos", "{tmp}", "--out", "{tmp}/a.bin"], "must end in .safetensors"),
        (["--out", "{tmp}/none/a.safetensors"], "none"),
        (["--out", "{tmp}/a.safetensors", "--hours", "-1", "--corpus", "{tmp}/c"], "hours must lie between"),
        (["--out", "{tmp}/a.safetensors", "--steps", "0", "--hours", "1", "--corpus", "{tmp}/c"], "steps must lie"),
    ],
)
def test_train_tells_what_cannot_work_before_any_work(arguments, message, tmp_path, capsys):
    assert main(["train", "mouth", *(word.replace("{tmp}", str(tmp_path)) for word in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.safetensors"))


def test_train_leaves_out_a_video_without_a_face_and_says_so(tmp_path, capsys):
    grey = torch.full((128, 128, 3), 90, dtype=torch.uint8)
    with VideoWriter(tmp_path / "grey.mp4", 128, 128, Fraction(25), sound=Speech(torch.zeros(2560))) as writer:
        for _ in range(4):
            writer.write(grey)
    assert main(["train", "mouth", "--videos", str(tmp_path), "--out", str(tmp_path / "a.safetensors")]) == 2
    told = capsys.readouterr().err
    assert "grey.mp4 is left out" in told
    assert "none of the 1 videos" in told


def test_train_makes_a_network_from_nothing_with_what_the_flags_say(tmp_path, monkeypatch):
    recipes = []
    monkeypatch.setattr(
        "portraittalk_core.training.mouth.recipe.make_mouth", lambda *given: recipes.append(given[2]) or []
    )
    made = ["train", "mouth", "--out", str(tmp_path / "a.safetensors"), "--hours", "0.5", "--steps", "7", "--seed", "3"]
    assert main(made) == 0
    (recipe,) = recipes
    assert (recipe.hours, recipe.neural_hours, recipe.training.steps, recipe.training.seed) == (0.5, 0, 7, 3)


@pytest.mark.slow
def test_train_fits_the_network_to_a_video(small, tmp_path, request, capsys):
    folder = tmp_path / "videos"
    folder.mkdir()
    sample = load_speech(request.config.rootpath / "samples" / "speech.wav")
    talk(small, Speech(sample.waveform.repeat(3)), folder / "me.mp4", MotionOptions(fps=Fraction(6)))
    out = tmp_path / "me.safetensors"
    assert main(["train", "mouth", "--videos", str(folder), "--out", str(out), "--steps", "4"]) == 0
    assert "All held-back parts" in capsys.readouterr().out
    assert load_mouth(out).width == load_mouth().width
