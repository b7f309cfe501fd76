import argparse
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from portraittalk_core.cli import fit as cli_fit
from portraittalk_core.cli.fit import chosen_fit, fitted
from portraittalk_core.cli.main import main
from portraittalk_core.errors import InputError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.renderers.contract import FILM, Film
from portraittalk_core.renderers.lip.files import open_lip_model
from portraittalk_core.renderers.lip.options import LipOptions
from portraittalk_core.renderers.lip.random_files import write_random_lip_files
from portraittalk_core.renderers.registry import renderer_spec
from portraittalk_core.training.lips import fit as fitting
from portraittalk_core.training.lips.fit import FilmFit
from portraittalk_core.training.lips.score import LipScore
from portraittalk_core.types import LandmarkTrack


def args_of(**flags):
    return argparse.Namespace(**{"fit": None, "fit_folder": None, **flags})


def test_fit_is_for_the_papers_renderer_alone():
    assert chosen_fit(args_of(), "warp") is None
    assert chosen_fit(args_of(fit=10.0), "lips").fit == 10.0
    with pytest.raises(InputError, match="--fit cannot be used with iplap"):
        chosen_fit(args_of(fit=10.0), "iplap")
    with pytest.raises(InputError, match="learns one face"):
        chosen_fit(args_of(fit=10.0, also=[[1, Path("b.wav")]]), "lips")
    with pytest.raises(InputError, match="--fit-folder cannot be used without --fit"):
        chosen_fit(args_of(fit_folder=Path("x")), "lips")
    with pytest.raises(InputError, match="--fit"):
        chosen_fit(args_of(fit=0.0), "lips")


def test_picture_is_not_fitted_to(tmp_path, capsys, astronaut):
    from PIL import Image

    Image.fromarray(astronaut.picture.numpy()).save(tmp_path / "me.png")
    words = ["dub", "--source", tmp_path / "me.png", "--speech", tmp_path / "a.wav", "--out", tmp_path / "o.mp4"]
    assert main([*map(str, words), "--fit", "1"]) == 2
    assert "--fit cannot be used with the picture me.png" in capsys.readouterr().err


@pytest.mark.parametrize("helps", [True, False])
def test_fitted_renderer_dubs_only_where_it_is_better(helps, tmp_path, monkeypatch, capsys):
    given = write_random_lip_files(tmp_path, "lips")[0]
    better = write_random_lip_files(tmp_path / "fit", "lips", seed=1)[0]
    with VideoWriter(tmp_path / "film.mp4", 64, 64, Fraction(25)) as writer:
        writer.write(torch.zeros(64, 64, 3, dtype=torch.uint8))
    points = canonical_face()[None] * 0.1 + 0.5
    film = Film(tmp_path / "film.mp4", LandmarkTrack(points, torch.ones(1, dtype=torch.bool), Fraction(25), 64, 64))
    seen = []

    def fit_to_film(film, speech, file, folder, minutes, on_progress):
        seen.append((speech, file, folder, minutes))
        after = LipScore(19, 18, 9) if helps else LipScore(25, 14, 9)  # mouths alone are shown of so small a crop
        return FilmFit(better, 70, LipScore(20, 15, 9), after, 3.0, was_there=False)

    monkeypatch.setattr(fitting, "fit_to_film", fit_to_film)
    options, spec = LipOptions(lips_file=given, device="cpu", crop_pad=0), renderer_spec("lips", FILM)
    args, renderer = fitted(args_of(lips_file=given), cli_fit.FitOptions(fit=2.0), film, spec, options)
    assert seen == [(None, given, tmp_path / "random-lips.safetensors.fitted", 2.0)]
    chosen = better if helps else given
    assert args.lips_file == chosen
    expected = open_lip_model(chosen).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in renderer.model.state_dict().items())
    told = capsys.readouterr().out
    assert "the last 3.0 s of film.mp4, which were not learnt from" in told
    assert ("no gain" in told) != helps


def test_weights_of_the_package_are_fitted_beside_the_output(tmp_path, monkeypatch):
    """Not into the folder that Python installs to."""
    options, taken = LipOptions(), []
    assert options.file.is_file() and options.lips_file is None
    better = write_random_lip_files(tmp_path, "lips")[0]
    score = LipScore(20.0, 20.0, 20.0)
    fit = FilmFit(better, 20, score, LipScore(21.0, 21.0, 20.0), 1.0, was_there=False)
    monkeypatch.setattr(fitting, "fit_to_film", lambda *given: taken.append(given[2:4]) or fit)
    with VideoWriter(tmp_path / "film.mp4", 64, 64, Fraction(25)) as writer:
        writer.write(torch.zeros(64, 64, 3, dtype=torch.uint8))
    points = canonical_face()[None] * 0.1 + 0.5
    film = Film(tmp_path / "film.mp4", LandmarkTrack(points, torch.ones(1, dtype=torch.bool), Fraction(25), 64, 64))
    args = args_of(fit=1.0, out=tmp_path / "dubbed.mp4", lips_file=None)
    changed, _ = fitted(args, chosen_fit(args, "lips"), film, renderer_spec("lips", FILM), options)
    assert taken == [(options.file, tmp_path / "dubbed.mp4.fitted")]
    assert changed.lips_file == better
    large = LandmarkTrack(points, film.track.valid, Fraction(25), 2000, 2000)  # 36 times as large: the warp would stay
    with pytest.raises(InputError, match=r"--fit cannot help film.mp4: its mouth is [0-9.]+ times as wide"):
        fitted(args, chosen_fit(args, "lips"), Film(film.path, large), renderer_spec("lips", FILM), options)
    assert len(taken) == 1
