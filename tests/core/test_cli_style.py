from pathlib import Path

import pytest
import torch
from PIL import Image

from portraittalk_core.cli import main
from portraittalk_core.media.records import load_record, save_record
from portraittalk_core.pipelines.style import named_style
from portraittalk_core.style.manner import measure_manner
from portraittalk_core.style.prior import BlendedStyle, StylePrior
from portraittalk_core.types import MANNER, LandmarkTrack

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="module")
def portrait(tmp_path_factory) -> Path:
    from skimage.data import astronaut

    path = tmp_path_factory.mktemp("portrait") / "astronaut.png"
    Image.fromarray(astronaut()).save(path)
    return path


def landmarks(portrait, out, *options) -> LandmarkTrack:
    words = ["landmarks", "--portrait", portrait, "--speech", SAMPLES / "speech.wav", "--out", out, *options]
    assert main([str(word) for word in words]) == 0
    return load_record(LandmarkTrack, out)


def test_a_named_style_moves_otherwise_and_none_as_before(portrait, tmp_path):
    plain = landmarks(portrait, tmp_path / "plain.safetensors")
    off = landmarks(portrait, tmp_path / "off.safetensors", "--style", "lively", "--style-strength", 0)
    assert torch.equal(plain.points, off.points)
    made = {
        name: dict(
            zip(
                MANNER,
                measure_manner(landmarks(portrait, tmp_path / f"{name}.safetensors", "--style", name)).mean(0),
                strict=True,
            )
        )
        for name in ("calm", "lively")
    }
    assert made["lively"]["opening"] > 1.2 * made["calm"]["opening"]
    assert made["lively"]["head_deg"] > 1.5 * made["calm"]["head_deg"]


def test_a_style_file_is_used_with_its_strength(portrait, tmp_path):
    file = save_record(named_style("emphatic"), tmp_path / "emphatic.safetensors")
    by_file = landmarks(portrait, tmp_path / "a.safetensors", "--style", file, "--style-strength", 0.5)
    by_name = landmarks(portrait, tmp_path / "b.safetensors", "--style", "emphatic", "--style-strength", 0.5)
    assert torch.equal(by_file.points, by_name.points)


def test_a_video_becomes_a_style_file_and_a_picture(portrait, tmp_path, capsys):
    video, out, plot = tmp_path / "talk.mp4", tmp_path / "style.safetensors", tmp_path / "style.png"
    words = ["talk", "--portrait", portrait, "--speech", SAMPLES / "speech.wav", "--out", video, "--head-motion", 2]
    assert main([str(word) for word in words]) == 0
    assert main(["style", "--video", str(video), "--out", str(out), "--plot", str(plot)]) == 0
    made = load_record(StylePrior, out)
    assert made.space == "manner" and made.source == "talk.mp4" and 0.05 < float(made.mean[0]) < 0.5
    assert Image.open(plot).width == 1200 and "11 numbers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--style", "cheerful"], "the style must be one of calm"),
        (["--style", "absent.safetensors"], "absent.safetensors"),
        (["--style", "calm", "--style-strength", "3"], "--style-strength"),
    ],
)
def test_what_cannot_be_used_is_told(portrait, tmp_path, capsys, words, message):
    out = tmp_path / "out.safetensors"
    given = ["landmarks", "--portrait", portrait, "--speech", SAMPLES / "speech.wav", "--out", out, *words]
    assert main([str(word) for word in given]) == 2
    assert message in capsys.readouterr().err and not out.exists()


def test_a_blend_over_time_and_a_missing_reference_are_told(portrait, tmp_path, capsys):
    blend = save_record(
        BlendedStyle(named_style("calm"), named_style("lively"), ((0.0, 0.0), (1.0, 1.0))),
        tmp_path / "blend.safetensors",
    )
    out = tmp_path / "out.safetensors"
    given = ["landmarks", "--portrait", portrait, "--speech", SAMPLES / "speech.wav", "--out", out, "--style", blend]
    assert main([str(word) for word in given]) == 2
    assert "changes over time" in capsys.readouterr().err
    assert main(["style", "--out", str(out)]) == 2
    assert "give --video" in capsys.readouterr().err
