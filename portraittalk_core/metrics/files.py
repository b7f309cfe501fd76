"""Recognition of the weight files of metrics' feature networks by their tensors, not their names.

Source: names and shapes of the published files, `docs/design/metrics.md` 3.
"""

from __future__ import annotations

import hashlib
import logging
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..cache_key import file_digest
from ..weights.catalog import WeightFile
from ..weights.headers import Shapes, check_sizes, read_shapes

log = logging.getLogger(__name__)

SYNCNET = "SyncNet's syncnet_v2.model"
ALEXNET = "torchvision's AlexNet (alexnet-owt-7be5be79.pth)"
LPIPS_HEADS = "LPIPS's heads of AlexNet (alex.pth)"
INCEPTION = "FID's Inception (pt_inception-2015-12-05)"
I3D = "FVD's I3D (i3d_torchscript.pt)"

SUFFIXES = (".safetensors", ".pt", ".pth", ".model", ".bin", ".ckpt")  # worth looking into
LEGACY_START, LARGEST_LEGACY = b"\x80\x02", 500_000_000  # a pickle without an archive around it; bytes
# SHA-256 of the published I3D, and its bytes. A TorchScript file is a program: no other one is ever run.
I3D_FILES = {"bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2": 51_235_320}
_PUBLISHED = "torchscript:published i3d"  # stands for its tensors

_HEAD = r"^lin{}\.(model\.)?1\.weight$"

METRIC_KINDS = (
    WeightFile(
        SYNCNET, "VGG Oxford, syncnet_v2.model", "not stated, research", "portraittalk", "55 MB",
        (
            (r"^netcnnlip\.0\.weight$", (96, 3, 5, 7, 7)), (r"^netcnnaud\.0\.weight$", (64, 1, 3, 3)),
            (r"^netfcaud\.3\.weight$", (1024, 512)), (r"^netfclip\.3\.weight$", (1024, 512)),
        ),
        used=True,
    ),
    WeightFile(
        ALEXNET, "torchvision alexnet-owt-7be5be79.pth", "BSD-3-Clause (trained on ImageNet)", "portraittalk", "244 MB",
        ((r"^features\.0\.weight$", (64, 3, 11, 11)), (r"^features\.10\.weight$", (256, 256, 3, 3))), used=True,
    ),
    WeightFile(
        LPIPS_HEADS, "richzhang/PerceptualSimilarity lpips/weights/v0.1/alex.pth", "BSD-2-Clause", "portraittalk",
        "6 KB",
        tuple((_HEAD.format(i), (1, width, 1, 1)) for i, width in enumerate((64, 192, 384, 256, 256))),
        (r"^net\.", r"^features\."), used=True,
    ),
    WeightFile(
        INCEPTION, "mseitzer/pytorch-fid pt_inception-2015-12-05-6726825d.pth", "Apache-2.0", "portraittalk", "96 MB",
        (
            (r"^Conv2d_1a_3x3\.conv\.weight$", (32, 3, 3, 3)),
            (r"^Mixed_7c\.branch1x1\.conv\.weight$", (320, 2048, 1, 1)),
            (r"^fc\.weight$", (1008, 2048)),  # 1000 are torchvision's own classes: other weights
        ),
        used=True,
    ),
    WeightFile(
        I3D, "universome/fvd-comparison i3d_torchscript.pt", "not stated", "portraittalk", "51 MB",
        ((rf"^{_PUBLISHED}$", None),), used=True,
    ),
)  # fmt: skip


def recognise_metric_file(path: Path) -> WeightFile | None:
    """Which network of a metric a file holds; None for any other file. No code inside it is run."""
    path = Path(path)
    shapes = _published_i3d(path) or read_shapes(path) or _legacy_shapes(path)
    return next((kind for kind in METRIC_KINDS if shapes and kind.fits(shapes)), None)


def find_metric_files(folders: Iterable[Path]) -> dict[str, Path]:
    """The first file of each role in some folders and the folders inside them, in alphabetical order."""
    paths: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
            if (kind := recognise_metric_file(path)) is not None:
                paths.setdefault(kind.role, path)
            elif _is_program(path):
                log.warning("%s is a TorchScript program, but not %s as it is published: it is not run.", path, I3D)
    return paths


def with_batch_counts(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with the counters of batch normalisation that files from before 2018 lack; inference needs none."""
    completed = dict(tensors)
    for name in tensors:
        if name.endswith(".running_mean"):
            completed.setdefault(name.removesuffix("running_mean") + "num_batches_tracked", torch.tensor(0))
    return completed


def lpips_heads(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """Five of (C,), in the order of the layers, of a file that was recognised as LPIPS_HEADS."""
    by_number = {int(match[1]): t for name, t in tensors.items() if (match := re.match(r"lin(\d)\.", name))}
    return [by_number[number].flatten().float() for number in sorted(by_number)]


def is_published_i3d(content: bytes) -> bool:
    """Whether these are the bytes of the published I3D, by their SHA-256."""
    return hashlib.sha256(content).hexdigest() in I3D_FILES


def _published_i3d(path: Path) -> Shapes:
    """A mark in the place of shapes if the file is the published I3D; nothing in it is loaded."""
    try:
        is_public = path.stat().st_size in I3D_FILES.values() and file_digest(path) in I3D_FILES
    except OSError:
        return {}
    return {_PUBLISHED: ()} if is_public else {}


def _is_program(path: Path) -> bool:
    """Whether a file is a TorchScript archive: one with sources in it."""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name and name.endswith(".py") for name in archive.namelist())
    except Exception:  # damaged files make their reader raise anything
        return False


def _legacy_shapes(path: Path) -> Shapes:
    """Shapes of tensors in PyTorch's files from before 2020, which have no archive around the pickle."""
    try:
        with path.open("rb") as file:
            if file.read(2) != LEGACY_START or path.stat().st_size > LARGEST_LEGACY:
                return {}
        check_sizes(path)
        content = torch.load(path, map_location="meta", weights_only=True)
    except Exception:  # damaged files make their readers raise anything, and all mean: not a file we know
        return {}
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        return {}
    return {str(name): tuple(tensor.shape) for name, tensor in content.items() if isinstance(tensor, Tensor)}
