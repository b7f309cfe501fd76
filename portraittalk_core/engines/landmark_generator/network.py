"""The network of the IP-LAP landmark generator: speech, head pose and reference faces to lips and jaw.

Source: W. Zhong et al., "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors" (CVPR 2023),
§3.1, whose public weights it reads; the attribute names are those of the weights.

Shapes: B windows, T = 5 frames each, R references, N pieces of any kind, D channels (512 of the public weights).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...face.lip_points import CONTENT_POINTS, JAW_POINTS
from ...media.tensor_file import save_tensors
from ...weights.load import load_strict, read_metadata, read_tensors

WINDOW = 5  # frames that are predicted together
MAX_POSITIONS = 512
DROPOUT = 0.1  # in training
NUM_MODALITIES, POSE_MODALITY, SOUND_MODALITY, REFERENCE_MODALITY = 4, 1, 2, 3
IGNORED = (r"^optimizer\.",)  # the published file holds training's state besides

# channels, stride and the number of residual repetitions of each stage; two more to 512 channels follow
Stages = tuple[tuple[int, int | tuple[int, int], int], ...]
MEL_STAGES: Stages = ((32, 1, 2), (64, (3, 1), 2), (128, 3, 2), (256, (3, 2), 1))
REFERENCE_STAGES: Stages = ((4, 1, 0), (8, 2, 2), (16, 2, 2), (32, 2, 2), (64, 2, 2), (128, 2, 2), (256, 2, 1))
POSE_STAGES: Stages = ((4, 1, 0), (8, 1, 2), (16, 2, 2), (32, 2, 2), (64, 2, 2), (128, 2, 2), (256, 2, 2))


@dataclass(frozen=True)
class LandmarkSizes:
    """Sizes of the network; those of the public weights unless given."""

    channels: int = 512  # D
    num_heads: int = 4
    num_layers: int = 4
    hidden: int = 1024  # of the transformer's inner layers
    divisor: int = 1  # of the encoders' widths


LANDMARK_SIZES = {  # by name, for training
    "public": LandmarkSizes(),
    "small": LandmarkSizes(256, 4, 3, 512, 2),
    "tiny": LandmarkSizes(32, 2, 1, 64, 16),
}
MIN_WIDTH = 4  # channels of an encoder's stage


class ConvolutionUnit(nn.Module):
    """Convolution, batch normalisation, perhaps the input added, activation."""

    def __init__(self, block: nn.Sequential, residual: bool = False, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.conv_block = block
        self.residual = residual
        self.act = activation or nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        convolved = self.conv_block(x)
        return self.act(convolved + x if self.residual else convolved)


def _encoder(
    dimensions: int, in_channels: int, stages: Stages, sizes: LandmarkSizes, last_residual: bool = False
) -> nn.Sequential:
    """Strided convolutional encoder down to one position of D channels in −1..1."""
    convolution, norm = (nn.Conv1d, nn.BatchNorm1d) if dimensions == 1 else (nn.Conv2d, nn.BatchNorm2d)

    def block(inner: int, outer: int, size: int, stride: int | tuple[int, int], margin: int) -> nn.Sequential:
        return nn.Sequential(convolution(inner, outer, size, stride, margin), norm(outer))

    units = []
    for full_width, stride, repeats in stages:
        width = max(full_width // sizes.divisor, MIN_WIDTH)
        units.append(ConvolutionUnit(block(in_channels, width, 3, stride, 1)))
        units += [ConvolutionUnit(block(width, width, 3, 1, 1), residual=True) for _ in range(repeats)]
        in_channels = width
    units.append(ConvolutionUnit(block(in_channels, sizes.channels, 3, 1, 0)))
    units.append(ConvolutionUnit(block(sizes.channels, sizes.channels, 1, 1, 0), last_residual, nn.Tanh()))
    return nn.Sequential(*units)


class Positions(nn.Module):
    """Sinusoidal positional encoding (Vaswani et al. 2017, §3.5)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        speed = torch.exp(torch.arange(0, channels, 2) * (-math.log(10_000) / channels))
        angle = torch.arange(MAX_POSITIONS)[:, None] * speed
        self.register_buffer("pe", torch.stack([angle.sin(), angle.cos()], 2).flatten(1)[None])  # (1, 512, D)


class FusionTransformer(nn.Module):
    """Transformer encoder over reference, sound and pose tokens."""

    def __init__(self, sizes: LandmarkSizes) -> None:
        super().__init__()
        self.position_v, self.position_a = Positions(sizes.channels), Positions(sizes.channels)
        self.modality = nn.Embedding(NUM_MODALITIES, sizes.channels, padding_idx=0)
        self.dropout = nn.Dropout(DROPOUT)
        layer = nn.TransformerEncoderLayer(sizes.channels, sizes.num_heads, sizes.hidden, DROPOUT, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, sizes.num_layers, enable_nested_tensor=False)

    def forward(self, references: Tensor, sound: Tensor, pose: Tensor) -> Tensor:
        """(B, R, D), (B, T, D) and (B, T, D) to (B, R + 2T, D)."""
        kinds, count = self.modality.weight, sound.shape[1]
        references = references + kinds[REFERENCE_MODALITY]
        sound = sound + self.position_a.pe[:, :count] + kinds[SOUND_MODALITY]
        pose = pose + self.position_v.pe[:, :count] + kinds[POSE_MODALITY]
        return self.transformer_encoder(self.dropout(torch.cat([references, sound, pose], 1)))


class LandmarkNet(nn.Module):
    """Landmark generator: encoders of mel chunks, poses and references, a transformer, and lip and jaw heads.

    Points lie in a crop around the face that counts as the unit square.

    Args:
        sizes: of its parts; None are those of the public weights.
    """

    def __init__(self, sizes: LandmarkSizes | None = None) -> None:
        super().__init__()
        self.sizes = sizes = sizes or LandmarkSizes()
        self.mel_encoder = _encoder(2, 1, MEL_STAGES, sizes)
        self.ref_encoder = _encoder(1, 2, REFERENCE_STAGES, sizes)
        self.pose_encoder = _encoder(1, 2, POSE_STAGES, sizes, last_residual=True)
        self.fusion_transformer = FusionTransformer(sizes)
        self.mouse_keypoint_map = nn.Linear(sizes.channels, 2 * (len(CONTENT_POINTS) - len(JAW_POINTS)))
        self.jaw_keypoint_map = nn.Linear(sizes.channels, 2 * len(JAW_POINTS))
        self.Norm = nn.LayerNorm(sizes.channels)

    def encode_sound(self, chunks: Tensor) -> Tensor:
        """(N, 80, 16) mel chunks to (N, D)."""
        return self.Norm(self.mel_encoder(chunks[:, None]).flatten(1))

    def encode_pose(self, points: Tensor) -> Tensor:
        """(N, 74, 2) points of a head's pose to (N, D)."""
        return self.Norm(self.pose_encoder(points.transpose(1, 2)).flatten(1))

    def encode_reference(self, points: Tensor) -> Tensor:
        """(N, 131, 2) points of a face, those of its pose first, to (N, D)."""
        return self.Norm(self.ref_encoder(points.transpose(1, 2)).flatten(1))

    def forward(self, sound: Tensor, pose: Tensor, references: Tensor) -> Tensor:
        """Lips and jaw of every frame in some windows.

        Args:
            sound: (B, T, D) of the frames' mel chunks.
            pose: (B, T, D) of the frames' heads.
            references: (B, R, D) of faces of the same person.

        Returns:
            (B, T, 57, 2): 17 points of the jaw, then 40 of the lips.
        """
        tokens = self.fusion_transformer(references, sound, pose)
        start, count = references.shape[1], sound.shape[1]
        lips = self.mouse_keypoint_map(tokens[:, start : start + count])
        jaw = self.jaw_keypoint_map(tokens[:, start + count :])
        return torch.cat([jaw, lips], 2).unflatten(2, (-1, 2))


def load_landmark_net(path: Path) -> LandmarkNet:
    """The network of a published file, or of one that `save_landmark_net` wrote.

    Raises:
        InputError: the file is damaged or of another network.
        MissingDependency: there is no such file.
    """
    path, tensors = Path(path), read_tensors(path)
    described = read_metadata(path).get("sizes")
    try:
        net = LandmarkNet(LandmarkSizes(**json.loads(described)) if described else None)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise InputError(f"{path.name} does not say the sizes of its network ({error}); train it again.") from error
    return load_strict(net, tensors, path.name, IGNORED)


def save_landmark_net(net: LandmarkNet, path: Path, metadata: Mapping[str, str]) -> Path:
    """Write a network with its sizes.

    Raises:
        OutputError: the file cannot be written.
    """
    return save_tensors(net.state_dict(), path, {"sizes": json.dumps(asdict(net.sizes)), **metadata})
