"""Parity of the expression network with GeneFace++'s public code, on random weights."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock, patch

import torch
from torch import nn

from portraittalk_core.engines.audio2motion.engine import ExpressionOptions, expression
from portraittalk_core.engines.audio2motion.network import load_expression_net

from .parity import PublicCode, run

PUBLIC = PublicCode(
    "https://github.com/yerfor/GeneFacePlusPlus", "modules/audio2motion/vae.py", {"yaml": "pyyaml", "tqdm": "tqdm"}
)

LENGTHS = (48, 56)  # frames at 50 Hz; the public code takes multiples of 8
STAND_INS = ("librosa", "torchvision", "cv2", "parselmouth", "pyloudnorm", "webrtcvad", "skimage.transform")
VARIANTS = {  # what the public configuration may switch on
    "mouth": {"use_mouth_amp_embed": True},
    "mouth and eyes": {"use_mouth_amp_embed": True, "use_eye_amp_embed": True},
    "neither": {},
    "no pitch": None,
}


def measure(repo: Path) -> dict[str, float]:
    """Largest differences between the public networks in `repo` and ours, and the size of their output.

    Args:
        repo: a copy of github.com/yerfor/GeneFacePlusPlus, or of Real3DPortrait, whose network is the same.
    """
    results = {}
    with _public_code(repo) as vae, tempfile.TemporaryDirectory() as folder:
        for variant, switches in VARIANTS.items():
            torch.manual_seed(0)
            public_net = vae.VAEModel() if switches is None else vae.PitchContourVAEModel(switches)
            _randomise(public_net)
            path = Path(folder) / f"{variant}.ckpt"
            torch.save({"state_dict": {"model": public_net.state_dict()}, "global_step": 400_000}, path)
            our_net = load_expression_net(path)
            for length in LENGTHS:
                difference, size = _compare(public_net.eval(), our_net, length, switches is not None)
                results[f"{variant}, {length} frames: difference"] = difference
                results[f"{variant}, {length} frames: size"] = size
    return results


def _compare(public_net: nn.Module, our_net: nn.Module, length: int, varied: bool) -> tuple[float, float]:
    """Largest difference and largest output, at temperature 0; `varied` networks take pitch and blinks too."""
    features = torch.randn(1, length, 1024)
    f0 = torch.where(torch.rand(1, length) < 0.3, torch.zeros(1), 80 + 600 * torch.rand(1, length))
    blink = (torch.rand(1, length, 1) < 0.2).long()
    amounts = {"mouth_amp": torch.full((1, 1), 0.7), "eye_amp": torch.full((1, 1), 0.9)}
    batch = {"audio": features, "f0": f0, "blink": blink, "y_mask": torch.ones(1, length // 2), **amounts}
    with torch.no_grad():
        expected = public_net(batch, {}, train=False, temperature=0.0)[0]
    options = ExpressionOptions(mouth_amp=0.7, eye_amp=0.9)
    actual = expression(our_net, features[0], f0[0], options, blink[0, :, 0] if varied else None)
    return float((actual - expected).abs().max()), float(expected.abs().max())


def _randomise(network: nn.Module) -> None:
    """Randomise weights that start at zero or one: the flow's last layers, the running means."""
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif ".post." in name or name.endswith(("running_mean", "bias")):
            tensor.normal_(0, 0.2)


class _public_code:  # noqa: N801 - used like a function
    """Context with the repository's network module, its missing imports replaced by stand-ins."""

    def __init__(self, repo: Path) -> None:
        self.repo = repo
        stand_ins = {name: MagicMock(spec=ModuleType, __path__=[]) for name in STAND_INS if not _importable(name)}
        self.patched = patch.dict(sys.modules, stand_ins)

    def __enter__(self) -> ModuleType:
        self.patched.start()
        sys.path.insert(0, str(self.repo))
        from modules.audio2motion import vae

        return vae

    def __exit__(self, *exc: object) -> None:
        sys.path.remove(str(self.repo))
        self.patched.stop()  # also forgets every module that was imported meanwhile


def _importable(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(run(PUBLIC, measure))
