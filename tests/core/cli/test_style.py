from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_vexpress import write_wav2vec, write_whisper

from portraittalk_core.cli import style as cli_style
from portraittalk_core.cli.main import main
from portraittalk_core.errors import OutputError
from portraittalk_core.media import image as media_image
from portraittalk_core.media.audio import load_speech
from portraittalk_core.media.records import load_record, save_record
from portraittalk_core.plots import style as plots_style
from portraittalk_core.speech.encoders import load_speech_encoder
from portraittalk_core.style.extractor import StyleExtractor, load_extractor, new_extractor_net, save_extractor
from portraittalk_core.style.extractor_files import ExtractorSizes
from portraittalk_core.style.features import StyleFeatures, audio_features
from portraittalk_core.style.options import StyleUse
from portraittalk_core.style.prior import BlendedStyle, StylePrior, load_style
from portraittalk_core.style.reference import named_style
from portraittalk_core.style.statistics import measure_statistics
from portraittalk_core.types import STYLE_STATISTICS, LandmarkTrack

SAMPLES = Path(__file__).parents[3] / "samples"


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


@pytest.mark.slow
def test_a_named_style_moves_otherwise_none_as_before_and_a_blend_between(portrait, tmp_path):
    plain = landmarks(portrait, tmp_path / "plain.safetensors")
    off = landmarks(portrait, tmp_path / "off.safetensors", "--style", "lively", "--style-strength", 0)
    assert torch.equal(plain.points, off.points)
    tracks = {
        name: landmarks(portrait, tmp_path / f"{name}.safetensors", "--style", name) for name in ("calm", "lively")
    }
    made = {
        name: dict(zip(STYLE_STATISTICS, measure_statistics(track).mean(0), strict=True))
        for name, track in tracks.items()
    }
    assert made["lively"]["opening"] > 1.2 * made["calm"]["opening"]
    assert made["lively"]["head_deg"] > 1.5 * made["calm"]["head_deg"]
    (tmp_path / "points.json").write_text("[[0.2, 0], [1.2, 1]]")
    blend = tmp_path / "blend.safetensors"
    words = ["style", "--blend", "calm", "lively", "--over-time", tmp_path / "points.json", "--out", blend]
    assert main([str(word) for word in words]) == 0
    assert isinstance(load_style(blend), BlendedStyle)
    mixed = landmarks(portrait, tmp_path / "mixed.safetensors", "--style", blend).points
    calm, lively = (tracks[name].points for name in ("calm", "lively"))
    share = ((torch.arange(len(calm)) / 25 - 0.2) / 1.0).clamp(0, 1)[:, None, None]
    torch.testing.assert_close(mixed, (1 - share) * calm + share * lively, rtol=0, atol=1e-5)


def test_a_style_file_is_used_with_its_strength(portrait, tmp_path):
    file = save_record(named_style("emphatic"), tmp_path / "emphatic.safetensors")
    by_file = landmarks(portrait, tmp_path / "a.safetensors", "--style", file, "--style-strength", 0.5)
    by_name = landmarks(portrait, tmp_path / "b.safetensors", "--style", "emphatic", "--style-strength", 0.5)
    assert torch.equal(by_file.points, by_name.points)


@pytest.mark.slow
def test_a_video_becomes_a_style_file_and_a_picture(portrait, tmp_path, capsys):
    video, out, plot = tmp_path / "talk.mp4", tmp_path / "style.safetensors", tmp_path / "style.png"
    words = ["talk", "--portrait", portrait, "--speech", SAMPLES / "speech.wav", "--out", video, "--head-motion", 2]
    assert main([str(word) for word in words]) == 0
    assert main(["style", "--video", str(video), "--out", str(out), "--plot", str(plot)]) == 0
    made = load_record(StylePrior, out)
    assert made.space == load_extractor().space and made.source == "talk.mp4" and len(made) == 128
    assert made.style_statistics.space == "manner" and 0.05 < float(made.style_statistics.mean[0]) < 0.5
    assert Image.open(plot).width == 1200 and "128 numbers" in capsys.readouterr().out
    assert main(["style", "--video", str(video), "--extractor", "none", "--out", str(out)]) == 0
    measured = load_record(StylePrior, out)
    assert measured.space == "manner" and torch.equal(measured.mean, made.style_statistics.mean)


@pytest.mark.parametrize("fails", ["plot_style", "save_picture"])
def test_a_plot_that_fails_leaves_no_style_beside_it(fails, tmp_path, monkeypatch, capsys):
    def raises(*_args):
        raise OutputError("the disk is full")

    monkeypatch.setattr(cli_style, "_of_reference", lambda _args: named_style("calm"))
    module = {"plot_style": plots_style, "save_picture": media_image}[fails]
    monkeypatch.setattr(module, fails, raises)
    out, plot = tmp_path / "s.safetensors", tmp_path / "s.png"
    assert main(["style", "--video", "v.mp4", "--out", str(out), "--plot", str(plot)]) == 2
    assert "the disk is full" in capsys.readouterr().err and not list(tmp_path.iterdir())
    monkeypatch.undo()
    monkeypatch.setattr(cli_style, "_of_reference", lambda _args: named_style("calm"))
    assert main(["style", "--video", "v.mp4", "--out", str(out), "--plot", str(plot)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"s.safetensors", "s.png"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--style", "cheerful"], "the style must be one of calm"),
        (["--style", "clips/anna"], "anna does not exist"),
        (["--style", "absent.safetensors"], "absent.safetensors"),
        (["--style", "calm", "--style-strength", "3"], "--style-strength"),
    ],
)
def test_what_cannot_be_used_is_told(portrait, tmp_path, capsys, words, message):
    out = tmp_path / "out.safetensors"
    given = ["landmarks", "--portrait", portrait, "--speech", SAMPLES / "speech.wav", "--out", out, *words]
    assert main([str(word) for word in given]) == 2
    assert message in capsys.readouterr().err and not out.exists()


def test_a_blend_with_a_fixed_share_lies_between(tmp_path):
    file = save_record(named_style("lively", StyleUse(0.5, 0.2, 3)), tmp_path / "lively.safetensors")
    out = tmp_path / "between.safetensors"
    assert main(["style", "--blend", str(file), "calm", "--share", "0.25", "--out", str(out)]) == 0
    made, lively, calm = load_style(out), named_style("lively"), named_style("calm")
    torch.testing.assert_close(made.mean, 0.75 * lively.mean + 0.25 * calm.mean)
    assert made.strength == pytest.approx(0.75 * 0.5 + 0.25) and made.seed == 3  # the file's own


BLEND_ERRORS = {
    "no reference": ([], "give --video"),
    "a share of nothing": (["--share", "0.5"], "--share needs --blend"),
    "points of nothing": (["--over-time", "{points}"], "--over-time needs --blend"),
    "a reference too": (["--blend", "calm", "lively", "--video", "v.mp4"], "--video cannot be used with --blend"),
    "two shares": (
        ["--blend", "calm", "lively", "--share", "0.5", "--over-time", "{points}"],
        "cannot be used together",
    ),
    "a share out of range": (["--blend", "calm", "lively", "--share", "2"], "--share must lie between 0 and 1"),
    "no such style": (["--blend", "calm", "cheerful"], "the style must be one of calm"),
    "no points": (["--blend", "calm", "lively", "--over-time", "{empty}"], "blend points is empty"),
    "no pairs": (["--blend", "calm", "lively", "--over-time", "{odd}"], "blend point 2 must be a pair"),
    "a share beyond 1": (["--blend", "calm", "lively", "--over-time", "{beyond}"], "must lie between 0 and 1"),
    "a blend of a blend": (["--blend", "{blend}", "calm"], "changes over time already"),
    "an output that is read": (["--blend", "calm", "{out}"], "is also the input"),
}


@pytest.mark.parametrize("name", BLEND_ERRORS)
def test_what_cannot_be_blended_is_told(tmp_path, capsys, name):
    texts = {"points": "[[0, 0], [1, 1]]", "empty": "[]", "odd": "[[0, 1], 2]", "beyond": "[[0, 1.5]]"}
    for file, text in texts.items():
        (tmp_path / file).write_text(text)
    blend = BlendedStyle(named_style("calm"), named_style("lively"), ((0.0, 0.0), (1.0, 1.0)))
    paths = {file: tmp_path / file for file in texts} | {"out": tmp_path / "out.safetensors"}
    paths["blend"] = save_record(blend, tmp_path / "blend.safetensors")
    words, message = BLEND_ERRORS[name]
    if name == "an output that is read":
        save_record(named_style("calm"), paths["out"])
    given = [str(paths[word[1:-1]]) if word.startswith("{") else word for word in words]
    assert main(["style", "--out", str(paths["out"]), *given]) == 2
    assert message in capsys.readouterr().err


def test_a_live_portrait_has_no_timeline(portrait, tmp_path, capsys):
    blend = BlendedStyle(named_style("calm"), named_style("lively"), ((0.0, 0.0), (1.0, 1.0)))
    file = save_record(blend, tmp_path / "blend.safetensors")
    assert main(["live", "--portrait", str(portrait), "--speech", "a.wav", "--style", str(file)]) == 2
    assert "changes over time" in capsys.readouterr().err


@pytest.fixture(scope="module")
def hearing(tmp_path_factory) -> Path:
    """An extractor that hears by Whisper tiny, and speech encoders of it, of a wider one, and of another family."""
    folder = tmp_path_factory.mktemp("hearing")
    sizes = ExtractorSizes("whisper-tiny", audio_width=384, width=32, num_layers=1, num_heads=4, feed_forward=64)
    save_extractor(StyleExtractor(new_extractor_net(sizes).eval(), torch.ones(32)), folder / "extractor.safetensors")
    write_whisper(folder / "tiny.safetensors")
    write_whisper(folder / "base.safetensors", width=512)
    write_wav2vec(folder / "wave.safetensors")
    return folder


def heard(folder: Path, out: Path, *more: object) -> int:
    words = ["style", "--speech", SAMPLES / "speech.wav", "--extractor", folder / "extractor.safetensors", "--out", out]
    return main([str(word) for word in [*words, *more]])


def test_a_voice_becomes_a_style_by_whisper(hearing, tmp_path, capsys):
    out = tmp_path / "style.safetensors"
    assert heard(hearing, out, "--encoder", hearing / "tiny.safetensors") == 0
    made = load_record(StylePrior, out)
    encoder = load_speech_encoder(hearing / "tiny.safetensors")
    features = audio_features(load_speech(SAMPLES / "speech.wav"), encoder)
    expected = load_extractor(hearing / "extractor.safetensors").prior(audio=features)
    torch.testing.assert_close(made.mean, expected.mean)
    assert made.space == expected.space


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "hears by Whisper tiny"),
        (["base"], "not by whisper-base (512 channels)"),
        (["wave"], "not by wav2vec2-64"),
        (["absent"], "there is no weight file"),
    ],
)
def test_another_encoder_than_the_extractors_is_told(hearing, tmp_path, capsys, given, message):
    more = [word for name in given for word in ("--encoder", hearing / f"{name}.safetensors")]
    assert heard(hearing, tmp_path / "out.safetensors", *more) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out.safetensors").exists()


def test_an_encoder_without_an_extractor_is_told(hearing, tmp_path, capsys):
    words = ["style", "--speech", SAMPLES / "speech.wav", "--encoder", hearing / "tiny.safetensors", "--out"]
    assert main([str(word) for word in [*words, tmp_path / "out.safetensors"]]) == 2
    assert "--encoder needs --extractor" in capsys.readouterr().err


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    """An extractor over 3DMM coefficients, two seconds of them at 50 frames a second, and what is no such file."""
    folder = tmp_path_factory.mktemp("measured")
    sizes = ExtractorSizes(expression="3dmm", expression_width=64, width=32, num_layers=1, num_heads=4, feed_forward=64)
    save_extractor(StyleExtractor(new_extractor_net(sizes).eval(), torch.ones(32)), folder / "extractor.safetensors")
    np.save(folder / "anna.npy", np.random.default_rng(0).normal(size=(100, 257)).astype(np.float32))
    save_file({"w": torch.zeros(3)}, folder / "other.safetensors")
    return folder


def test_coefficients_become_a_style_that_only_pictures_can_show(measured, tmp_path, capsys):
    out, extractor = tmp_path / "anna.safetensors", measured / "extractor.safetensors"
    words = ["style", "--coefficients", measured / "anna.npy", "--coefficients-fps", 50, "--extractor", extractor]
    assert main([str(word) for word in [*words, "--out", out]]) == 0
    made = load_record(StylePrior, out)
    values = torch.from_numpy(np.load(measured / "anna.npy"))[::2, 80:144]  # at 25 Hz
    expected = load_extractor(extractor).prior(expression=StyleFeatures(values, "3dmm"))
    torch.testing.assert_close(made.mean, expected.mean)
    assert made.source == "anna.npy" and made.style_statistics is None
    spoken = ["landmarks", "--portrait", "a.png", "--speech", "a.wav", "--style", out]
    assert main([str(word) for word in [*spoken, "--out", tmp_path / "b.safetensors"]]) == 2
    assert "knows no motion" in capsys.readouterr().err


COEFFICIENT_ERRORS = {
    "no extractor": (["--coefficients", "{anna.npy}"], "--coefficients needs --extractor"),
    "an encoder without an extractor": (["--video", "a.mp4", "--face-recon", "x"], "--face-recon needs --extractor"),
    "an encoder without pictures": (
        ["--face-recon", "x", "{extractor}", "--speech", "a.wav"],
        "--face-recon needs --video",
    ),
    "two expressions": (
        ["--face-recon", "x", "{extractor}", "--video", "a.mp4", "--coefficients", "{anna.npy}"],
        "are two expressions of one person",
    ),
    "a rate of nothing": (["--coefficients-fps", "25", "--video", "a.mp4"], "--coefficients-fps needs --coefficients"),
    "no coefficients": (["--coefficients", "{other.safetensors}", "{extractor}"], "one array of expression coeff"),
    "too high a rate": (
        ["--coefficients", "{anna.npy}", "--coefficients-fps", "999", "{extractor}"],
        "--coefficients-fps",
    ),
}


@pytest.mark.parametrize("name", COEFFICIENT_ERRORS)
def test_coefficients_that_cannot_be_used_are_told(measured, tmp_path, capsys, name):
    given, message = COEFFICIENT_ERRORS[name]
    words = []
    for word in given:
        if word == "{extractor}":
            words += ["--extractor", str(measured / "extractor.safetensors")]
        else:
            words.append(str(measured / word[1:-1]) if word.startswith("{") else word)
    assert main(["style", *words, "--out", str(tmp_path / "a.safetensors")]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())
