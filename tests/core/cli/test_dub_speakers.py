"""`dub` and `talk` with several faces: which one by a box, and several in one run."""

from __future__ import annotations

from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_puppet import BlockMesh

from portraittalk_core.cli import dub as cli_dub
from portraittalk_core.cli import portrait as cli_portrait
from portraittalk_core.cli.main import main
from portraittalk_core.media.audio import load_speech
from portraittalk_core.media.video_read import read_pictures
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.pipelines import dub as pipeline
from portraittalk_core.renderers.lip.random_files import write_random_lip_files

PLAINLY = ("--voice-gate", 0, "--silence-gate-db", -80, "--blend", "lower")  # tones move the mouth; all is painted
WIDTH, HEIGHT, FRAMES, FPS = 320, 160, 4, 10
LEFT, RIGHT = (slice(70, 98), slice(45, 95)), (slice(90, 118), slice(205, 255))  # lower halves of two faces


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A film of two blocks that a stand-in takes for faces, two tones, networks, a mask of the right face."""
    folder = tmp_path_factory.mktemp("two")
    picture = torch.full((HEIGHT, WIDTH, 3), 30, dtype=torch.uint8)
    picture[30:100, 40:100, 0], picture[50:120, 200:260, 2] = 220, 220
    with VideoWriter(folder / "two.mp4", WIDTH, HEIGHT, Fraction(FPS), crf=1) as writer:
        for _ in range(FRAMES):
            writer.write(picture)
    time = np.arange(8000) / 16_000
    for name, pitch in (("low.wav", 150), ("high.wav", 300)):
        loud = 0.3 * np.sin(2 * np.pi * 5 * time).clip(0.05)
        _write_wav(folder / name, loud * np.sin(2 * np.pi * pitch * time))
    (folder / "w.safetensors").write_bytes(write_random_lip_files(folder / "w", "iplap")[0].read_bytes())
    Image.fromarray(np.where(np.arange(WIDTH) > 160, 255, 0)[None].repeat(HEIGHT, 0).astype(np.uint8)).save(
        folder / "right.png"
    )
    return folder


def _write_wav(path: Path, samples: np.ndarray) -> None:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((samples * 32_000).astype("<i2").tobytes())


@pytest.fixture(autouse=True)
def _blocks(monkeypatch):
    @contextmanager
    def opened(_):
        yield BlockMesh()

    for module in (cli_dub, cli_portrait):
        monkeypatch.setattr(module, "open_chosen_mesh", opened)
    monkeypatch.setattr(pipeline, "mouth_covered", lambda *_: False)


def run(place, out, *words) -> int:
    given = ["dub", "--source", place / "two.mp4", "--speech", place / "low.wav", "--out", out, "--crf", 1]
    given += ["--renderer", "iplap", "--lips-file", place / "w.safetensors", "--references", 1, "--device", "cpu"]
    return main(list(map(str, [*given, *PLAINLY, *words])))


def changed(place, out) -> tuple[bool, bool]:
    """Whether the left and the right face were painted."""
    made, filmed = (torch.stack(list(read_pictures(path))).int() for path in (out, place / "two.mp4"))
    difference = (made - filmed).abs().amax((0, 3)).float()
    return tuple(float(difference[rows, columns].mean()) > 15 for rows, columns in (LEFT, RIGHT))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--face", "190,40,270,130"], (False, True)),
        (["--face-order", "left_to_right", "--also", "1", "high.wav"], (True, True)),
        (["--face-order", "left_to_right", "--also", "1", "silence"], (True, True)),
        (["--face", "right.png"], (False, True)),
    ],
)
def test_the_faces_that_are_meant_are_painted(place, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(place)
    assert run(place, tmp_path / "o.mp4", *words) == 0
    assert changed(place, tmp_path / "o.mp4") == expected
    heard = load_speech(tmp_path / "o.mp4").waveform.numpy()
    loud = np.abs(np.fft.rfft(heard[: 16_000 * FRAMES // FPS]))
    hz = np.arange(len(loud)) * 16_000 / (16_000 * FRAMES // FPS)
    both = loud[(hz > 280) & (hz < 320)].max() > 0.2 * loud.max()
    assert both == ("high.wav" in words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--also", "0", "high.wav"], "the face of --speech and the face 0 of --also are the same face in two.mp4"),
        (["--also", "left", "high.wav"], "a face is given as a number from 0, a box"),
        (["--also", "1", "none.wav"], "none.wav"),
        (["--face", "0,0,9,9"], "4 frames of two.mp4 (in the box 0,0,9,9); what is seen at once is 0: "),
        (["--also", "7", "high.wav"], "(face 7 was asked for, counting from 0); what is seen at once is 0: "),
        (["--face", "none.png"], "none.png"),
    ],
)
def test_faces_that_are_not_there_are_told(place, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(place)
    assert run(place, tmp_path / "o.mp4", *words) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.glob("*.mp4"))


@pytest.mark.slow
def test_a_picture_may_have_several_speakers(place, tmp_path, monkeypatch, capsys):
    picture = next(iter(read_pictures(place / "two.mp4")))
    Image.fromarray(picture.numpy()).save(tmp_path / "two.png")
    words = ["talk", "--source", tmp_path / "two.png", "--face-order", "left_to_right", "--fps", 10]
    words += ["--speech", place / "low.wav", "--also", "1", place / "high.wav", "--crf", 1]
    words += ["--renderer", "iplap", "--lips-file", place / "w.safetensors", "--device", "cpu", *PLAINLY]
    assert main(list(map(str, [*words, "--out", tmp_path / "o.mp4"]))) == 0
    made = torch.stack(list(read_pictures(tmp_path / "o.mp4"))).int()
    assert len(made) == 5
    for rows, columns in (LEFT, RIGHT):
        assert float((made - picture)[:, rows, columns].abs().amax((0, 3)).float().mean()) > 15
    heard = np.abs(np.fft.rfft(load_speech(tmp_path / "o.mp4").waveform.numpy()[:8000]))
    assert min(heard[65:85].max(), heard[140:160].max()) > 0.3 * heard.max()  # bins of 2 Hz: both tones
    (tmp_path / "gain.json").write_text("[[0, 1]]")
    capsys.readouterr()
    words += ["--gain-points", tmp_path / "gain.json", "--out", tmp_path / "p.mp4"]
    assert main(list(map(str, words))) == 2
    assert "--gain-points moves one face, and --also names several" in capsys.readouterr().err
