"""The renderers lips and iplap of `dub`, `talk` and `batch` on random files: what is written, resumed, refused."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from portraittalk_core.cli.main import main
from portraittalk_core.media.video_read import probe_video, read_pictures
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.renderers.lip import renderer as lip_renderer
from portraittalk_core.renderers.lip.random_files import write_random_lip_files

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).parents[3] / "samples" / "speech.wav"
FRAMES, FPS, SIDE = 10, 12, 192
HIDDEN = (4, 5, 6, 7)
CODEC = 6  # levels that writing and reading without loss may change: chroma is halved


@pytest.fixture(scope="module")
def place(tmp_path_factory, astronaut) -> Path:
    """A folder with a picture, a film whose middle frames show nobody, half a second of speech, networks."""
    folder = tmp_path_factory.mktemp("lips")
    close = np.array(Image.fromarray(astronaut.picture.numpy()[:300, 80:380]).resize((SIDE, SIDE)))
    Image.fromarray(close).save(folder / "me.png")
    with VideoWriter(folder / "film.mp4", SIDE, SIDE, Fraction(FPS), crf=4) as writer:
        for number in range(FRAMES):
            writer.write(torch.from_numpy(np.full_like(close, 90) if number in HIDDEN else close))
    with wave.open(str(SAMPLE)) as whole, wave.open(str(folder / "half.wav"), "wb") as part:
        whole.setpos(whole.getframerate())
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(whole.getframerate() // 2))
    for name in ("lips", "iplap"):
        (folder / f"{name}.safetensors").write_bytes(write_random_lip_files(folder / name, name)[0].read_bytes())
    write_random_lip_files(folder / "musetalk", "musetalk")
    return folder


def run(place: Path, out: Path, *words: object, command: str = "dub", source: str = "film.mp4") -> int:
    given = [command, "--source", place / source, "--speech", place / "half.wav", "--out", out]
    return main(list(map(str, [*given, *words])))


def chosen(place: Path, name: str, *more: object) -> list[object]:
    file = "musetalk" if name == "musetalk" else f"{name}.safetensors"
    return ["--renderer", name, "--lips-file", place / file, "--device", "cpu", *more]


def frames(path: Path) -> np.ndarray:
    return np.stack([picture.numpy() for picture in read_pictures(path)]).astype(int)


@pytest.mark.parametrize("name", ["lips", "iplap", "musetalk"])
def test_a_film_is_dubbed(place, tmp_path, name):
    words = chosen(place, name, "--references", 25, "--lip-references", 5, "--crf", 0, "--blend", "lower")
    assert run(place, tmp_path / "o.mp4", *words) == 0
    made, filmed = frames(tmp_path / "o.mp4"), frames(place / "film.mp4")
    assert made.shape == filmed.shape and probe_video(tmp_path / "o.mp4").fps == FPS
    changed = np.abs(made - filmed).max((1, 2, 3))
    assert changed[list(HIDDEN)].max() <= CODEC and changed[[0, 1, 8, 9]].min() > 40
    assert np.abs(made - filmed)[:, :20].max() <= CODEC  # above the face nothing changes
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_portrait_speaks(place, tmp_path):
    words = chosen(place, "iplap", "--head-motion", 0, "--blink-rate", 0, "--fps", 12, "--crf", 0)
    assert run(place, tmp_path / "o.mp4", *words, command="talk", source="me.png") == 0
    made = frames(tmp_path / "o.mp4")
    picture = np.asarray(Image.open(place / "me.png")).astype(int)
    assert made.shape == (6, SIDE, SIDE, 3)
    changed = np.abs(made - picture).mean((0, 3))
    assert changed[:20].mean() < 2 and changed.max() > 20  # above the face nothing, at the mouth a lot


def test_a_batch_dubs(place, tmp_path):
    rows = [
        "job,out,video,speech,renderer,lips_file,references,device",
        f"dub,a,{place}/film.mp4,{place}/half.wav,lips,{place}/lips.safetensors,2,cpu",
        f"dub,b,{place}/film.mp4,{place}/half.wav,iplap,{place}/lips.safetensors,2,cpu",
    ]
    (tmp_path / "m.csv").write_text("\n".join(rows))
    assert main(["batch", str(tmp_path / "m.csv"), "--out", str(tmp_path / "made")]) == 3
    assert probe_video(tmp_path / "made" / "a.mp4").num_frames == FRAMES
    assert (
        "lips.safetensors is a file of `portraittalk train lips`, not IP-LAP's"
        in (tmp_path / "made" / "batch.csv").read_text()
    )


def test_a_command_that_was_stopped_goes_on(place, tmp_path, monkeypatch, capsys):
    words = chosen(place, "iplap", "--batch-size", 2, "--references", 1)
    whole = lip_renderer._LipJob._painted  # noqa: SLF001 - where the work is
    painted = []

    def counted(job, batch):
        painted.append(batch.first)
        if batch.first == 8 and len(painted) < 6:
            raise KeyboardInterrupt
        return whole(job, batch)

    monkeypatch.setattr(lip_renderer._LipJob, "_painted", counted)  # noqa: SLF001
    assert run(place, tmp_path / "o.mp4", *words) == 130
    assert (tmp_path / "o.mp4.unfinished").is_dir() and not (tmp_path / "o.mp4").exists()
    kept = (
        f"stopped; finished sections are kept in {tmp_path / 'o.mp4.unfinished'}; the same command goes on from there"
    )
    assert kept in capsys.readouterr().err
    assert run(place, tmp_path / "o.mp4", *words, "--batch-size", 3) == 0
    assert painted == [0, 2, 4, 6, 8, 8]
    assert "4 of 5 sections were finished already" in capsys.readouterr().out
    assert not (tmp_path / "o.mp4.unfinished").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--renderer", "iplap"], "--renderer iplap needs --lips-file FILE: IP-LAP's"),
        (["--renderer", "iplap", "--lips-file", "nowhere"], "--lips-file nowhere is not there; give IP-LAP's"),
        (["--renderer", "iplap", "--lips-file", "half.wav"], "half.wav"),
        (["--renderer", "lips", "--lips-file", "iplap.safetensors"], "is IP-LAP's renderer_checkpoint.pth, not a file"),
        (["--renderer", "warp", "--lips-file", "iplap.safetensors"], "--lips-file cannot be used with warp"),
        (["--lips-file", "iplap.safetensors"], "is IP-LAP's renderer_checkpoint.pth, not a file of `portraittalk"),
        (
            ["--renderer", "iplap", "--lips-file", "iplap.safetensors", "--reference-frames", "0,99"],
            "--reference-frames names frame 99, but film.mp4 has frames 0 to 9",
        ),
        (
            ["--renderer", "iplap", "--lips-file", "iplap.safetensors", "--reference-frames", "5"],
            "--reference-frames names frame 5, but film.mp4 shows no face there",
        ),
        (
            ["--renderer", "iplap", "--lips-file", "iplap.safetensors", "--reference-frames", "one"],
            "--reference-frames must be numbers of frames such as 0,12,40, not 'one'",
        ),
        (
            ["--renderer", "iplap", "--lips-file", "iplap.safetensors", "--references", "101"],
            "--references must lie between 0 and 100, but is 101",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_do(place, tmp_path, capsys, monkeypatch, words, text):
    monkeypatch.chdir(place)
    assert run(place, tmp_path / "o.mp4", *words) == 2
    assert text in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.glob("*.mp4"))
