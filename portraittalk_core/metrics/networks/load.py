"""Opens the feature networks of metrics, of files that users have."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor, nn

from ...checks import check_shape
from ...errors import InputError
from ...weights.load import load_strict, read_tensors
from ..files import (
    ALEXNET,
    I3D,
    INCEPTION,
    LPIPS_HEADS,
    SYNCNET,
    is_published_i3d,
    lpips_heads,
    recognise_metric_file,
    with_batch_counts,
)
from ..lpips import Lpips
from .alexnet import AlexNetFeatures
from .inception import FidInception
from .syncnet import SyncNet

CLIP, SIDE, WIDTH = 16, 224, 400  # frames, pixels, numbers of I3D


def load_syncnet(path: Path) -> SyncNet:
    """SyncNet v2 with its weights.

    Raises:
        InputError: a file of another model.
    """
    _check_role(path, SYNCNET)
    return load_strict(SyncNet(), with_batch_counts(read_tensors(path)), Path(path).name).eval()


def load_lpips(alexnet: Path, heads: Path) -> Lpips:
    """LPIPS v0.1 of torchvision's AlexNet and LPIPS's own heads.

    Raises:
        InputError: files of other models.
    """
    _check_role(alexnet, ALEXNET)
    _check_role(heads, LPIPS_HEADS)
    features = load_strict(AlexNetFeatures(), read_tensors(alexnet), Path(alexnet).name, ignore=(r"^classifier\.",))
    return Lpips(features, lpips_heads(read_tensors(heads))).eval()


def load_inception(path: Path) -> FidInception:
    """FID's Inception with its weights.

    Raises:
        InputError: a file of another model.
    """
    _check_role(path, INCEPTION)
    return load_strict(FidInception(), with_batch_counts(read_tensors(path)), Path(path).name).eval()


class I3d(nn.Module):
    """I3D of a TorchScript file.

    Args:
        script: takes (B, 3, 16, 224, 224), `rescale`, `resize` and `return_features`.
        name: of the file, for messages.
    """

    def __init__(self, script: nn.Module, name: str = "I3D") -> None:
        super().__init__()
        self.script, self.name = script, name

    @torch.no_grad()
    def forward(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, 16, 224, 224), RGB −1..1, to features (B, 400)."""
        check_shape(clips, f"B 3 {CLIP} {SIDE} {SIDE}", "the clips for I3D")
        features = self.script(clips, rescale=False, resize=False, return_features=True)
        if not isinstance(features, Tensor) or tuple(features.shape) != (len(clips), WIDTH):
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise InputError(f"{self.name} gives {shape} instead of ({len(clips)}, {WIDTH}); it is not FVD's I3D.")
        return features


def load_i3d(path: Path) -> I3d:
    """I3D as TorchScript, which holds its own program: no other file than the published one is run.

    Raises:
        InputError: a file of another model, or other bytes than the published ones.
    """
    _check_role(path, I3D)
    content = Path(path).read_bytes()
    if not is_published_i3d(content):  # what is run is what was compared, also if the file has changed since
        raise InputError(f"{Path(path).name} is not {I3D}: it has just changed. Fetch {I3D} and give that.")
    try:
        return I3d(torch.jit.load(io.BytesIO(content), map_location="cpu").eval(), Path(path).name)
    except RuntimeError as error:
        raise InputError(f"{Path(path).name} cannot be opened ({str(error).splitlines()[0]}).") from error


def _check_role(path: Path, role: str) -> None:
    kind = recognise_metric_file(Path(path))
    if kind is None or kind.role != role:
        content = "nothing that is known" if kind is None else kind.role
        raise InputError(f"{Path(path).name} is not {role}: it holds {content}. Fetch {role} and give that.")
