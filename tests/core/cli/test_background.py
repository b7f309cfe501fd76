"""`--background transparent` of talk and render, from the command line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from portraittalk_core.cli import main as cli
from portraittalk_core.errors import InputError
from portraittalk_core.renderers.contract import Film, RenderJob
from portraittalk_core.renderers.registry import open_renderer

PORTRAIT = Path(__file__).parents[3] / "samples" / "portrait.jpg"


@pytest.fixture
def speech(write_sound) -> Path:
    return write_sound(0.3 * np.sin(np.arange(3200) * 0.3), 16000)


def talk(speech: Path, out: Path, *more: str) -> int:
    words = ["talk", "--portrait", PORTRAIT, "--speech", speech, "--out", out, *more]
    return cli.main([str(word) for word in words])


@pytest.mark.slow
def test_talk_leaves_the_background_away(speech, tmp_path, capsys):
    out = tmp_path / "frames"
    assert talk(speech, out, "--background", "transparent") == 0
    pictures = [np.asarray(Image.open(path)) for path in sorted(out.iterdir())]
    assert len(pictures) == 5  # 0.2 s at 25 fps
    portrait = np.asarray(Image.open(PORTRAIT).convert("RGB")).astype(int)
    for picture in pictures:
        assert picture.shape == (*portrait.shape[:2], 4)
        assert picture[100:180, 200:240, 3].min() == 255  # the face
        assert picture[:60, :150, 3].max() == 0  # the wall
        shoulder = picture[300:330, 200:230].astype(int)
        assert np.abs(shoulder[..., :3] - portrait[300:330, 200:230]).mean() < 1
    assert "frames: 0.20 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("a.mp4", ["--background", "transparent"], "a.mp4 cannot hold transparency: take a name that ends in .webm"),
        ("a.webm", [], "a.webm is for transparency: add --background transparent, or let it end in .mp4 or "),
        ("a.webm", ["--background", "blue"], "--background"),
        (
            "a.webm",
            ["--background", "transparent", "--renderer", "vexpress"],
            "--background cannot be used with vexpress",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_the_work(speech, tmp_path, capsys, name, more, said):
    assert talk(speech, tmp_path / name, *more) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_a_film_keeps_its_background(astronaut):
    job = RenderJob.of_track(Film(Path("film.mp4"), astronaut.landmarks), astronaut.landmarks)
    with pytest.raises(
        InputError, match=r"`background` transparent is for portraits; the film film\.mp4 keeps its own"
    ):
        list(open_renderer(background="transparent").render(job))
