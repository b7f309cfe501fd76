"""Parity of the lip renderers' networks with IP-LAP's and MuseTalk's public code, on files of random weights."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import torch
from torch import Tensor, nn

from portraittalk_core.renderers.lip.contract import LipBatch, References
from portraittalk_core.renderers.lip.files import open_lip_model
from portraittalk_core.renderers.lip.random_files import write_random_lip_files

from .parity import PublicCode, run

PUBLIC = PublicCode("https://github.com/Weizhi-Zhong/IP_LAP", "models/video_renderer.py", {"scipy": "scipy"})
FRAMES, REFERENCES, SIDE = 2, 3, 128


@torch.no_grad()
def measure(repo: Path) -> dict[str, float]:
    """Largest differences between the public code in `repo` and ours, and the size of what is compared; true sizes.

    Args:
        repo: a copy of github.com/Weizhi-Zhong/IP_LAP.
    """
    with (
        _imported(repo, "models", ("librosa", "librosa.filters", "lws", "torchvision")),
        TemporaryDirectory() as folder,
    ):
        (path,) = write_random_lip_files(Path(folder), "iplap", "public", form="torch")
        code = importlib.import_module("models.video_renderer")
        with patch.object(code, "PerceptualLoss", _NoLoss):
            public = code.Renderer()
        state = torch.load(path, weights_only=True)["state_dict"]
        public.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
        public.eval()
        ours = open_lip_model(path)
    crops, sketches, references, drawn, mel = _inputs()
    features = ours.encode(References(references.flip(1), drawn.flip(1), references[:0], drawn[:0]))
    many = [x.expand(FRAMES, *x.shape) for x in (references, drawn)]
    warped = public.flow_module(*many, sketches)
    aligned = ours.flow_module(features, sketches.flatten(1, 2), at_once=2)
    results = {}
    for what, one, other in zip(("narrow", "wide", "picture"), warped, _parts(aligned), strict=True):
        results |= _compared(f"aligned {what}", other, one)
    batch = LipBatch(crops.flip(1), sketches, mel)
    painted = _timed("ours", lambda: ours.paint(features, batch).flip(1))
    expected = _timed("public", lambda: public(crops[:, None], sketches, *many, mel[:, None, None])[0])
    return results | _compared("picture", painted[0], expected[0]) | painted[1] | expected[1]


def _parts(aligned: object) -> tuple[Tensor, Tensor, Tensor]:
    return aligned.narrow, aligned.wide, aligned.picture


def _inputs() -> tuple[Tensor, ...]:
    """BGR crops, sketches of frames, reference pictures and sketches, mel chunks."""
    draw = torch.Generator().manual_seed(5)
    crops, references = (torch.rand(count, 3, SIDE, SIDE, generator=draw) for count in (FRAMES, REFERENCES))
    sketches = (torch.rand(FRAMES, 5, 1, SIDE, SIDE, generator=draw) > 0.9) * torch.full((3, 1, 1), 224 / 255)
    drawn = (torch.rand(REFERENCES, 1, SIDE, SIDE, generator=draw) > 0.9) * torch.full((3, 1, 1), 224 / 255)
    mel = torch.rand(FRAMES, 80, 16, generator=draw) * 8 - 4
    return crops, sketches, references, drawn, mel


class _NoLoss(nn.Module):
    """In the place of the perceptual loss, whose network would have to be fetched."""

    def __init__(self, **_: object) -> None:
        super().__init__()

    def forward(self, *_: object, **__: object) -> Tensor:
        return torch.zeros(())


@contextmanager
def _imported(repo: Path, package: str, absent: Sequence[str]) -> Iterator[None]:
    """The public code in the path, and what it imports without use here replaced."""
    stand_ins = {name: _StandIn(name) for name in absent}
    for name in [n for n in sys.modules if n.split(".")[0] == package]:
        del sys.modules[name]
    with patch.object(sys, "path", [str(repo), *sys.path]), patch.dict(sys.modules, stand_ins):
        yield


class _StandIn(ModuleType):
    """A module that has every name."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return SimpleNamespace


def _compared(what: str, actual: Tensor, expected: Tensor) -> dict[str, float]:
    difference = float((actual - expected).abs().max())
    return {f"{what}: difference": difference, f"{what}: size": float(expected.abs().max())}


def _timed(whose: str, work: Callable[[], Tensor]) -> tuple[Tensor, dict[str, float]]:
    start = time.process_time()
    result = work()
    return result, {f"processor seconds a picture, {whose}": (time.process_time() - start) / FRAMES}


def main(args: Sequence[str] | None = None) -> int:
    """Compare with every copy that is named, of whichever repository it is."""
    given = list(sys.argv[1:] if args is None else args)
    rows = ((PUBLIC, measure),)
    for one in given or ["--help"]:
        public, measured = next((row for row in rows if (Path(one) / row[0].file).is_file()), rows[0])
        run(public, measured, [one])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
