"""The network of the IP-LAP landmark generator: speech, head pose and reference faces to lips and jaw.

Source: W. Zhong et al., "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors" (CVPR 2023),
§3.1, whose public weights it reads; the attribute names are those of the weights.

Shapes: B windows, T = 5 frames each, R references, N pieces of any kind, D = 512 channels.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from ...face.lip_points import CONTENT_POINTS, JAW_POINTS
from ...weights.load import load_strict, read_tensors

WINDOW = 5  # frames that are predicted together
CHANNELS, NUM_HEADS, NUM_LAYERS, HIDDEN = 512, 4, 4, 1024
MAX_POSITIONS = 512
NUM_MODALITIES, POSE_MODALITY, SOUND_MODALITY, REFERENCE_MODALITY = 4, 1, 2, 3
IGNORED = (r"^optimizer\.",)  # the published file holds training's state besides

# channels, stride and the number of residual repetitions of each stage; two more to 512 channels follow
Stages = tuple[tuple[int, int | tuple[int, int], int], ...]
MEL_STAGES: Stages = ((32, 1, 2), (64, (3, 1), 2), (128, 3, 2), (256, (3, 2), 1))
REFERENCE_STAGES: Stages = ((4, 1, 0), (8, 2, 2), (16, 2, 2), (32, 2, 2), (64, 2, 2), (128, 2, 2), (256, 2, 1))
POSE_STAGES: Stages = ((4, 1, 0), (8, 1, 2), (16, 2, 2), (32, 2, 2), (64, 2, 2), (128, 2, 2), (256, 2, 2))


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


def _encoder(dimensions: int, in_channels: int, stages: Stages, last_residual: bool = False) -> nn.Sequential:
    """Strided convolutional encoder down to one position of 512 channels in −1..1."""
    convolution, norm = (nn.Conv1d, nn.BatchNorm1d) if dimensions == 1 else (nn.Conv2d, nn.BatchNorm2d)

    def block(inner: int, outer: int, size: int, stride: int | tuple[int, int], margin: int) -> nn.Sequential:
        return nn.Sequential(convolution(inner, outer, size, stride, margin), norm(outer))

    units = []
    for width, stride, repeats in stages:
        units.append(ConvolutionUnit(block(in_channels, width, 3, stride, 1)))
        units += [ConvolutionUnit(block(width, width, 3, 1, 1), residual=True) for _ in range(repeats)]
        in_channels = width
    units.append(ConvolutionUnit(block(in_channels, CHANNELS, 3, 1, 0)))
    units.append(ConvolutionUnit(block(CHANNELS, CHANNELS, 1, 1, 0), last_residual, nn.Tanh()))
    return nn.Sequential(*units)


class Positions(nn.Module):
    """Sinusoidal positional encoding (Vaswani et al. 2017, §3.5)."""

    def __init__(self) -> None:
        super().__init__()
        speed = torch.exp(torch.arange(0, CHANNELS, 2) * (-math.log(10_000) / CHANNELS))
        angle = torch.arange(MAX_POSITIONS)[:, None] * speed
        self.register_buffer("pe", torch.stack([angle.sin(), angle.cos()], 2).flatten(1)[None])  # (1, 512, D)


class FusionTransformer(nn.Module):
    """Transformer encoder over reference, sound and pose tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.position_v, self.position_a = Positions(), Positions()
        self.modality = nn.Embedding(NUM_MODALITIES, CHANNELS, padding_idx=0)
        layer = nn.TransformerEncoderLayer(CHANNELS, NUM_HEADS, HIDDEN, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, NUM_LAYERS, enable_nested_tensor=False)

    def forward(self, references: Tensor, sound: Tensor, pose: Tensor) -> Tensor:
        """(B, R, D), (B, T, D) and (B, T, D) to (B, R + 2T, D)."""
        kinds, count = self.modality.weight, sound.shape[1]
        references = references + kinds[REFERENCE_MODALITY]
        sound = sound + self.position_a.pe[:, :count] + kinds[SOUND_MODALITY]
        pose = pose + self.position_v.pe[:, :count] + kinds[POSE_MODALITY]
        return self.transformer_encoder(torch.cat([references, sound, pose], 1))


class LandmarkNet(nn.Module):
    """Landmark generator: encoders of mel chunks, poses and references, a transformer, and lip and jaw heads.

    Points lie in a crop around the face that counts as the unit square.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mel_encoder = _encoder(2, 1, MEL_STAGES)
        self.ref_encoder = _encoder(1, 2, REFERENCE_STAGES)
        self.pose_encoder = _encoder(1, 2, POSE_STAGES, last_residual=True)
        self.fusion_transformer = FusionTransformer()
        self.mouse_keypoint_map = nn.Linear(CHANNELS, 2 * (len(CONTENT_POINTS) - len(JAW_POINTS)))
        self.jaw_keypoint_map = nn.Linear(CHANNELS, 2 * len(JAW_POINTS))
        self.Norm = nn.LayerNorm(CHANNELS)

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
    """The network of a published file.

    Raises:
        InputError: the file is damaged or of another network.
        MissingDependency: there is no such file.
    """
    return load_strict(LandmarkNet(), read_tensors(path), Path(path).name, IGNORED)
