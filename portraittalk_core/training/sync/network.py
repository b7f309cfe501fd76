"""The lip-sync network: a mouth's and a sound's encoder, whose embeddings' cosine says whether they belong together.

Shapes: B windows, S side of the mouth crops in pixels, R rows of speech of D channels, E numbers of an embedding.
Source: ControlTalk, section 3.4; Wav2Lip, section 3.2. The sound's encoder is Audio2Exp's, which comes from here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...losses.sync import sync_cosine
from ...media.tensor_file import save_tensors
from ...renderers.implicit.audio2exp.network import Audio2ExpSize, AudioEncoder
from ...weights.load import load_strict, read_metadata, read_tensors
from .picture_encoder import MouthEncoder

LAYOUT = "portraittalk-sync-1"


@dataclass(frozen=True)
class SyncSizes:
    """Sizes of both encoders."""

    crop_size: int = 128  # pixels of a mouth crop
    width: int = 32  # channels of the mouth encoder's first layer
    audio_widths: tuple[int, int, int, int] = (
        2048,
        1024,
        512,
        1024,
    )  # of the sound encoder's heads; the last is the embedding's


SYNC_SIZES = {
    "public": SyncSizes(),
    "small": SyncSizes(32, 16, (256, 256, 128, 128)),
    "tiny": SyncSizes(16, 4, (32, 32, 16, 32)),
}


class SyncNetwork(nn.Module):
    """Both encoders.

    Args:
        sizes: of them.
        row_width: D.
    """

    def __init__(self, sizes: SyncSizes, row_width: int) -> None:
        super().__init__()
        self.sizes, self.row_width = sizes, row_width
        self.audio_encoder = AudioEncoder(Audio2ExpSize(features=row_width, widths=sizes.audio_widths))
        self.mouth_encoder = MouthEncoder(sizes.crop_size, sizes.width, sizes.audio_widths[-1])

    def embed_rows(self, rows: Tensor) -> Tensor:
        """(B, E), none below 0, of windows (B, 18, D) of speech."""
        return nn.functional.relu(self.audio_encoder(rows))

    def forward(self, crops: Tensor, rows: Tensor) -> Tensor:
        """(B,) cosines, 0..1, of mouth crops (B, 5, 3, S, S), RGB in 0..1, and windows (B, 18, D)."""
        return sync_cosine(self.mouth_encoder(crops), self.embed_rows(rows))


def save_sync(network: SyncNetwork, path: Path, metadata: Mapping[str, str]) -> Path:
    """Write the network with its sizes.

    Raises:
        OutputError: the file cannot be written.
    """
    sizes = json.dumps({**asdict(network.sizes), "row_width": network.row_width})
    return save_tensors(network.state_dict(), path, {"layout": LAYOUT, "sizes": sizes, **metadata})


def load_sync(path: Path) -> SyncNetwork:
    """The network of a file that `save_sync` wrote, frozen.

    Raises:
        MissingDependency: there is no such file.
        InputError: another file.
    """
    path, tensors = Path(path), read_tensors(path)
    metadata = read_metadata(path)
    if metadata.get("layout") != LAYOUT:
        raise InputError(
            f"{path.name} is no lip-sync network that `portraittalk train sync` wrote; give its sync.safetensors."
        )
    try:
        content = json.loads(metadata["sizes"])
        row_width = int(content.pop("row_width"))
        sizes = SyncSizes(**{**content, "audio_widths": tuple(content["audio_widths"])})
        network = SyncNetwork(sizes, row_width)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path.name} does not say the sizes of its network ({error}); train it again.") from error
    return load_strict(network, tensors, path.name)


@torch.no_grad()
def cosine_matrix(network: SyncNetwork, crops: Tensor, rows: Tensor) -> Tensor:
    """(B, B) cosines of every window of mouths with every window of speech."""
    mouths = nn.functional.normalize(network.mouth_encoder(crops), dim=1)
    return mouths @ nn.functional.normalize(network.embed_rows(rows), dim=1).T
