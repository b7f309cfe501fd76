"""Files of the bad-input benchmark: good ones that every command takes, and bad ones of every kind."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import wave
import zipfile
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

PACK = Path(__file__).parents[1]
RATE_HZ, SECONDS, FPS, SIDE = 16_000, 0.5, 12, 256
MB = 2**20

Make = Callable[[Path], object]


def make_good(folder: Path) -> None:
    """Inputs with which every command would do its work: half a second of a portrait and a film."""
    import torch
    from PIL import Image
    from skimage.data import astronaut

    from benchmarks.lipsync import neutral_face
    from portraittalk_core.media.records import save_record
    from portraittalk_core.media.video_write import VideoWriter
    from portraittalk_core.style.reference import named_style
    from portraittalk_core.types import LandmarkTrack, Speech

    picture = Image.fromarray(astronaut()[:400, 30:430]).resize((SIDE, SIDE))
    picture.save(folder / "portrait.png")
    t = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    sound = 0.2 * np.sin(2 * np.pi * 3 * t) * np.sin(2 * np.pi * 120 * t)
    with wave.open(str(folder / "speech.wav"), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    speech = Speech(torch.from_numpy(sound).float())
    (folder / "videos").mkdir()
    for name in ("film.mp4", "real.mp4", "videos/one.mp4"):
        with VideoWriter(folder / name, SIDE, SIDE, Fraction(FPS), sound=speech) as writer:
            for _ in range(round(SECONDS * FPS)):
                writer.write(torch.from_numpy(np.asarray(picture).copy()))
    points, valid = neutral_face().points.repeat(6, 1, 1), torch.ones(6, dtype=torch.bool)
    save_record(LandmarkTrack(points, valid, Fraction(FPS), SIDE, SIDE), folder / "track.safetensors")
    save_record(named_style("lively"), folder / "style.safetensors")
    shutil.copy(PACK / "portraittalk_core" / "engines" / "builtin" / "mouth.safetensors", folder / "engine.safetensors")
    (folder / "gain.json").write_text("[[0, 1], [0.4, 0.5]]")
    (folder / "pairs.csv").write_text("generated,target\nfilm.mp4,real.mp4\n")
    (folder / "jobs.csv").write_text("job,out,portrait,speech\ntalk,one,portrait.png,speech.wav\n")
    (folder / "style.toml").write_text('out = "out/trained"\n[trainer]\nsteps = 1\n')


def bad_files() -> dict[str, dict[str, Make]]:
    """What makes each bad file, by its kind and its name."""
    kinds = {"anything": _anything, "media": _pictures_and_sound, "weights": _weights, "tracks": _tracks}
    return {kind: make() for kind, make in (kinds | {"texts": _texts}).items()}


def _anything() -> dict[str, Make]:
    return {
        "empty.bin": lambda path: path.write_bytes(b""),
        "text.mp4": lambda path: path.write_text("this is no film"),
        "noise.wav": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
        "folder.png": Path.mkdir,
        "fifo.wav": os.mkfifo,
        "loop.mp4": lambda path: path.symlink_to(path.name),
        "zero.json": lambda path: path.symlink_to("/dev/zero"),
        "socket.safetensors": lambda path: path.symlink_to("/dev/null"),
    }


def _pictures_and_sound() -> dict[str, Make]:
    from PIL import Image

    def cut(path: Path) -> None:
        path.write_bytes((path.parent / "portrait.png").read_bytes()[:3000])

    def rate_1(path: Path) -> None:
        data = bytes(32_000)
        header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, 1, 2, 2, 16,
                             b"data", len(data))  # fmt: skip
        path.write_bytes(header + data)

    def bits_0(path: Path) -> None:
        content = bytearray((path.parent / "speech.wav").read_bytes())
        content[34:36] = b"\0\0"
        path.write_bytes(content)

    def eps(path: Path) -> None:
        path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 200 200\n(x) (w) file\n%%EOF\n")

    def playlist(path: Path) -> None:
        path.write_text("#EXTM3U\n#EXTINF:1,\nspeech.wav\n#EXT-X-ENDLIST\n")

    return {
        "cut.png": cut,
        "grey.png": lambda path: Image.new("RGB", (SIDE, SIDE), (128, 128, 128)).save(path),
        "eps.png": eps,
        "rate1.wav": rate_1,
        "bits0.wav": bits_0,
        "playlist.m3u8": playlist,
        "concat.mp4": lambda path: path.write_text("ffconcat version 1.0\nfile speech.wav\n"),
    }


def _zipped(path: Path, members: Mapping[str, int]) -> None:
    """An archive of zeros that inflate to so many bytes each."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, size in members.items():
            with archive.open(name, "w") as member:
                for _ in range(size // MB):
                    member.write(bytes(MB))
                member.write(bytes(size % MB))


class _Runs:
    """A pickle that would make a file where it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (open, (str(self.path), "w"))


def _weights() -> dict[str, Make]:
    import torch
    from safetensors.torch import load_file, save_file

    def inflates(path: Path) -> None:
        inner = io.BytesIO()
        torch.save({"a": torch.zeros(8)}, inner)
        with zipfile.ZipFile(inner) as source:
            members = {name: source.read(name) for name in source.namelist()}
        _zipped(path, {"archive/data/0": 200 * MB})
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                if not name.endswith("/data/0"):
                    archive.writestr(name, content)

    def not_a_number(path: Path) -> None:
        tensors = load_file(path.parent / "engine.safetensors")
        from safetensors import safe_open

        with safe_open(path.parent / "engine.safetensors", "pt") as file:
            metadata = file.metadata()
        save_file(
            {name: t * float("nan") if t.is_floating_point() else t for name, t in tensors.items()}, path, metadata
        )

    def program(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", pickle.dumps({}))
            archive.writestr("a/code/__torch__.py", "def forward(x): return_features = conv3d(x)")

    def doubling(path: Path) -> None:
        content: dict = {}
        for _ in range(40):
            content = {"a": content, "b": content}
        torch.save(content, path)

    return {
        "bomb.pt": inflates,
        "long_list.pt": lambda path: _zipped(path, {"a/data.pkl": 40 * MB, "a/version": 2}),
        "dicts.pt": lambda path: path.write_bytes(b"\x80\x02" + b"}0" * 3_000_000 + b"."),
        "doubling.pt": doubling,
        "runs.pt": lambda path: torch.save({"w": _Runs(path.parent / "has_run")}, path),
        "runs_old.pt": lambda path: path.write_bytes(pickle.dumps(_Runs(path.parent / "has_run"))),
        "program.pt": program,
        "nan.safetensors": not_a_number,
        "no_tensors.safetensors": lambda path: save_file({}, path),
        "one_tensor.safetensors": lambda path: save_file({"x": torch.zeros(3)}, path),
        "header.safetensors": lambda path: path.write_bytes(struct.pack("<Q", 2**62) + b"{"),
        "deep.safetensors": lambda path: path.write_bytes(struct.pack("<Q", 200_000) + b'{"a":' + b"[" * 199_995),
    }


def _tracks() -> dict[str, Make]:
    import torch
    from safetensors.torch import save_file

    good = {"kind": "LandmarkTrack", "fps": "12/1", "width": "256", "height": "256"}
    points, valid = torch.rand(3, 478, 3), torch.ones(3, dtype=torch.bool)

    def track(points: torch.Tensor = points, valid: torch.Tensor = valid, **texts: str) -> Make:
        return lambda path: save_file({"points": points.contiguous(), "valid": valid}, path, {**good, **texts})

    numbers = ("1e309", "nan", "-1", "9" * 5000, "1/0", "0", "")
    return {
        "coincide.safetensors": track(torch.full((3, 478, 3), 0.5)),
        "line.safetensors": track(points * torch.tensor([1.0, 0.0, 0.0])),
        "far.safetensors": track(points * 1e30),
        "float_valid.safetensors": track(valid=valid.float()),
        "all_nan.safetensors": track(points * float("nan")),
        "few_points.safetensors": track(points[:, :5]),
        "no_frames.safetensors": track(points[:0], valid[:0]),
        "half.safetensors": track(points.half()),
        "whole.safetensors": track(points.long()),
        **{f"fps_{k}.safetensors": track(fps=number) for k, number in enumerate(numbers)},
        **{f"width_{k}.safetensors": track(width=number) for k, number in enumerate(numbers)},
    }


def _texts() -> dict[str, Make]:
    pairs = "generated,target\n"
    texts = {
        "deep.json": "[" * 100_000,
        "dicts.json": '{"a":' * 100_000,
        "infinite.json": "[[0, 1e309]]",
        "nan.json": "[[NaN, 1]]",
        "huge_number.json": f"[[0, {'9' * 5000}]]",
        "words.json": '[["a", {}]]',
        "field.csv": f"{pairs}{'x' * 200_000},real.mp4\n",
        "quotes.csv": pairs + '"' * 9999,
        "formula.csv": f"{pairs}=cmd|calc,@x\n",
        "nul.csv": f"{pairs}a\0b,real.mp4\n",
        "dotted.toml": "a" + ".a" * 100_000 + " = 1\n",
        "brackets.toml": "a = " + "[" * 100_000,
        "nul.toml": 'out = "a\\u0000b"\n',
        "infinite.toml": 'out = "out/x"\nconstant = inf\n',
        "number.toml": f'out = "out/x"\nframes = {"9" * 400}\n',
        "home.toml": 'out = "~nobody_of_this_name/x"\n',
        "wrong.toml": "out = 3\n[trainer]\nsteps = 'x'\n",
        "own_folder.toml": 'out = "."\nstart = "engine.safetensors"\n',
        "own_file.toml": 'out = "engine.safetensors"\nmouth = "engine.safetensors"\ncorpus = "out/corpus"\n',
        "other_kind.toml": 'out = "out/c.safetensors"\nmouth = "portrait.png"\ncorpus = "out/corpus"\n',
        "corpus_is_file.toml": 'out = "out/c.safetensors"\ncorpus = "portrait.png"\n',
        "sound_name.toml": 'out = "out/c.wav"\ncorpus = "out/corpus"\n',
        "folder_jobs.csv": "job,out,portrait,speech,engine\ntalk,a,videos,speech.wav,\n"
        "talk,b,portrait.png,speech.wav,videos\n",
        "deep_jobs.csv": "job,out,options\ntalk,a," + "[" * 100_000 + "\n",
        "infinite_jobs.csv": "job,out,portrait,speech,fps\ntalk,a,portrait.png,speech.wav,1e309\n",
        "result.json": json.dumps({"name": "<script>"}),
    }
    made: dict[str, Make] = {
        name: lambda path, text=text: path.write_text(text, encoding="utf-8") for name, text in texts.items()
    }
    return made | {
        "latin.csv": lambda path: path.write_bytes(b"generated,target\n\xe9\xff,x\n"),
        "long.json": lambda path: path.write_bytes(b" " * 20 * MB),
    }
