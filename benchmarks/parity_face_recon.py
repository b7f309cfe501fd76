"""Parity of the 3-D face reconstruction with its public code: alignment of faces, and the network on random weights."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from portraittalk_core.face.reconstruction import TEMPLATE, ReconstructionNet, aligned_face
from portraittalk_core.weights.load import load_strict

from .parity import PublicCode, StandIn, compared, run

PUBLIC = PublicCode("https://github.com/sicxu/Deep3DFaceRecon_pytorch", "models/networks.py")

ABSENT = ("cv2", "skimage", "kornia", "kornia.geometry", "models.arcface_torch", "models.arcface_torch.backbones")
# width, height, and the five points' middle and size in pixels: a face in the middle, a small one, one over the edge
PICTURES = ((640, 480, (320, 240), 90), (1280, 720, (900, 300), 35), (300, 400, (40, 60), 120))


@torch.no_grad()
def measure(repo: Path) -> dict[str, float]:
    """Largest differences between the public code in `repo` and ours, and the size of what is compared.

    Args:
        repo: a copy of github.com/sicxu/Deep3DFaceRecon_pytorch.
    """
    packages = {name: _package(name, repo / name) for name in ("models", "util")}
    stand_ins = {name: StandIn(name) for name in ABSENT}
    with patch.object(sys, "path", [str(repo), *sys.path]), patch.dict(sys.modules, {**packages, **stand_ins}):
        if not hasattr(np, "VisibleDeprecationWarning"):  # which NumPy 2 has moved
            np.VisibleDeprecationWarning = UserWarning
        networks, preprocess = (importlib.import_module(name) for name in ("models.networks", "util.preprocess"))
        return _network(networks) | _aligned(preprocess) | _template(repo)


def _package(name: str, folder: Path) -> ModuleType:
    """A package of the public code whose own __init__, which imports much more, is not run."""
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    return package


def _network(networks: ModuleType) -> dict[str, float]:
    """Coefficients of two pictures by networks of the same weights."""
    draw = torch.Generator().manual_seed(0)
    theirs = networks.define_net_recon("resnet50").eval()
    for name, tensor in theirs.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=draw))
        elif tensor.is_floating_point():
            fan_in = tensor[0].numel() if tensor.ndim > 1 else 25
            tensor.copy_(torch.randn(tensor.shape, generator=draw) * (2 / fan_in) ** 0.5)
            if tensor.ndim == 1 and name.endswith("weight"):
                tensor.add_(0.5)
    ours = load_strict(ReconstructionNet(), theirs.state_dict(), "the public network")
    pictures = torch.rand(2, 3, 224, 224, generator=draw)
    return compared("coefficients", ours(pictures), theirs(pictures))


def _aligned(preprocess: ModuleType) -> dict[str, float]:
    """Aligned faces, in levels of 255."""
    ours, theirs, rng, image = [], [], np.random.default_rng(0), preprocess.Image
    for width, height, middle, size in PICTURES:
        small = torch.from_numpy(rng.integers(0, 256, (1, 3, height // 8, width // 8)).astype(np.float32))
        large = torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 255)
        picture = image.fromarray(large[0].permute(1, 2, 0).round().byte().numpy())
        points = np.array(TEMPLATE, np.float32)[:, :2] * [size, -size] + middle + rng.normal(0, 2, (5, 2))
        flipped = np.stack([points[:, 0], height - 1 - points[:, 1]], 1)
        # the two steps of align_img, whose last line NumPy 1.24 and later refuse
        shift, scale = preprocess.POS(flipped.T, np.array(TEMPLATE, np.float32).T)
        face = preprocess.resize_n_crop_img(picture, flipped, shift, 102.0 / scale)[0]
        theirs.append(torch.from_numpy(np.array(face)))
        ours.append(aligned_face(torch.from_numpy(np.array(picture)), torch.from_numpy(points)))
    return compared("aligned faces", torch.stack(ours).float(), torch.stack(theirs).float())


def _template(repo: Path) -> dict[str, float]:
    """The five points that faces are aligned to."""
    from scipy.io import loadmat

    points = loadmat(repo / "BFM" / "similarity_Lm3D_all.mat")["lm"]
    nose, mouth, eyes = points[30], points[[48, 54]], (points[[36, 39]].mean(0), points[[42, 45]].mean(0))
    return compared("template", _tensor(np.array(TEMPLATE)), _tensor(np.stack([*eyes, nose, *mouth])))


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float64))


if __name__ == "__main__":
    sys.exit(run(PUBLIC, measure))
