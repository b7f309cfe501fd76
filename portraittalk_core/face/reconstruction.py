"""3-D face reconstruction: the 257 coefficients of a morphable model from a picture, by a ResNet-50 of the user's.

Shapes: B pictures of 224×224; five points are the viewer's left and right eye, the nose, and the viewer's left and
right corner of the mouth.
Source: Deng et al. 2019, "Accurate 3D Face Reconstruction with Weakly-Supervised Learning", as Deep3DFaceRecon_pytorch
has it (MIT): 80 identity, 64 expression, 80 texture, 3 angle, 27 light and 3 translation coefficients.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..checks import check_shape
from ..errors import InputError, ShapeError
from ..types import NUM_LANDMARKS, check_picture
from ..weights.load import load_strict, read_tensors
from .topology import LEFT_EYE_CORNERS, MOUTH_CORNERS, NOSE_TIP, RIGHT_EYE_CORNERS

GROUPS = {"identity": 80, "expression": 64, "texture": 80, "angles": 3, "light": 27, "shift": 2, "depth": 1}
BLOCKS, WIDTH, EXPANSION = (3, 4, 6, 3), 64, 4  # of ResNet-50
SIDE_PX, SCALE_PX = 224, 102.0  # of the aligned face; its template's unit in pixels
# the mean face's five points in the model's units, y up: what the public code aligns pictures to
TEMPLATE = (
    (-0.31148657, 0.29036078, 0.13377953),
    (0.30979887, 0.28972036, 0.13179526),
    (0.0032535, -0.04617932, 0.55244243),
    (-0.25216928, -0.38133916, 0.22405732),
    (0.2484662, -0.38128236, 0.22235769),
)
_FIRST, _EXPRESSION = "backbone.conv1.weight", "final_layers.1.weight"
ADVICE = "Use Deep3DFaceRecon_pytorch's epoch_20.pth, or SadTalker's file that holds it."


class Bottleneck(nn.Module):
    """Residual block of ResNet-50, version 1.5: 1×1, 3×3 with the stride, and 1×1 convolutions (He et al. 2015).

    Args:
        channels: of the input.
        width: of the 3×3 convolution.
        stride: of the 3×3 convolution.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = EXPANSION * width
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4 · width, h, w) of (B, channels, H, W)."""
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class Backbone(nn.Module):
    """ResNet-50 without its classifier, under torchvision's names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, WIDTH, 7, 2, padding=3, bias=False), nn.BatchNorm2d(WIDTH)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        channels = WIDTH
        for number, count in enumerate(BLOCKS):
            width, blocks = WIDTH * 2**number, []
            for block in range(count):
                blocks.append(Bottleneck(channels, width, 2 if number and not block else 1))
                channels = EXPANSION * width
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2048, 1, 1) pooled features of pictures (B, 3, H, W)."""
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x.mean((2, 3), keepdim=True)


class ReconstructionNet(nn.Module):
    """The coefficients of aligned faces, under the public file's names."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        features = WIDTH * 2 ** (len(BLOCKS) - 1) * EXPANSION
        self.final_layers = nn.ModuleList(nn.Conv2d(features, size, 1) for size in GROUPS.values())

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 257) coefficients of aligned faces (B, 3, 224, 224), RGB 0..1."""
        features = self.backbone(check_shape(pictures, "B 3 H W", "aligned faces"))
        return torch.cat([layer(features) for layer in self.final_layers], 1).flatten(1)

    @torch.no_grad()
    def coefficients(self, picture: Tensor, points_px: Tensor) -> Tensor:
        """(257,) coefficients of the face with landmarks (478, 3) px in a picture (H, W, 3) uint8."""
        like = self.final_layers[1].weight
        face = aligned_face(picture, five_points(points_px))
        return self(face.permute(2, 0, 1)[None].to(like) / 255)[0].float().cpu()


def five_points(points_px: Tensor) -> Tensor:
    """(5, 2) px eyes' middles, nose tip and mouth's corners of landmarks (478, 3) px."""
    check_shape(points_px, f"{NUM_LANDMARKS} 3", "the landmarks")
    flat = points_px[:, :2].double()
    eyes = [flat[list(corners)].mean(0) for corners in (RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS)]
    return torch.stack([*eyes, flat[NOSE_TIP], *(flat[corner] for corner in MOUTH_CORNERS)])


def aligned_face(picture: Tensor, five_px: Tensor) -> Tensor:
    """A face at the place and size that the network was trained on, without turning it.

    Place and size are those of the weak-perspective camera that shows the template's points at the picture's.

    Args:
        picture: (H, W, 3) uint8.
        five_px: (5, 2) pixels.

    Returns:
        (224, 224, 3) uint8; black where the picture has ended.

    Raises:
        InputError: points in one place, which show no size.
    """
    height, width = check_picture(picture, "the picture").shape[:2]
    (middle_x, middle_y), scale = _placed(check_shape(five_px, "5 2", "the five points"), height)
    resized = int(width * scale), int(height * scale)  # whole pixels, as the public code has them
    left = int(resized[0] / 2 - SIDE_PX / 2 + (middle_x - width / 2) * scale)
    top = int(resized[1] / 2 - SIDE_PX / 2 + (height / 2 - middle_y) * scale)
    first = max(left, 0), max(top, 0)
    last = min(left + SIDE_PX, resized[0]), min(top + SIDE_PX, resized[1])
    face = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    if first[0] < last[0] and first[1] < last[1]:
        ratio = width / resized[0], height / resized[1]
        box = (first[0] * ratio[0], first[1] * ratio[1], last[0] * ratio[0], last[1] * ratio[1])
        box = (*box[:2], min(box[2], width), min(box[3], height))
        size = last[0] - first[0], last[1] - first[1]
        part = Image.fromarray(picture.cpu().numpy()).resize(size, Image.Resampling.BICUBIC, box)
        face[first[1] - top : last[1] - top, first[0] - left : last[0] - left] = np.asarray(part)
    return torch.from_numpy(face)


def _placed(five_px: Tensor, height: int) -> tuple[tuple[float, float], float]:
    """The template's origin in the picture, y up, and what the picture is scaled by."""
    target = five_px.double().cpu().numpy().copy()
    target[:, 1] = height - 1 - target[:, 1]
    template = np.concatenate([np.array(TEMPLATE), np.ones((5, 1))], 1)
    solution = np.linalg.lstsq(template, target, rcond=None)[0]  # (4, 2): a row of a camera for x, one for y
    size_px = float(np.linalg.norm(solution[:3], axis=0).mean())
    if not size_px > 1e-6:
        raise InputError("the face's eyes, nose and mouth lie in one place; use a picture with one clear face.")
    return (float(solution[3, 0]), float(solution[3, 1])), SCALE_PX / size_px


def is_reconstruction(shapes: Mapping[str, object]) -> bool:
    """Whether a file with these tensor names holds such a network."""
    return any(name.endswith(_EXPRESSION) for name in shapes) and any(name.endswith(_FIRST) for name in shapes)


def load_reconstruction(path: Path, device: torch.device | str = "cpu") -> ReconstructionNet:
    """Load the network from a file that holds it, alone or beside others.

    Raises:
        MissingDependency: no such file.
        InputError: damaged, or no such network.
    """
    path = Path(path)
    tensors = read_tensors(path)
    prefixes = [name.removesuffix(_FIRST) for name in tensors if name.endswith(_FIRST)]
    prefix = next((p for p in prefixes if f"{p}{_EXPRESSION}" in tensors), None)
    if prefix is None:
        some = ", ".join(list(tensors)[:3])
        raise InputError(f"{path.name} holds no face reconstruction of 257 coefficients ({some}, …). {ADVICE}")
    weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    weights = {name: tensor for name, tensor in weights.items() if name.startswith(("backbone.", "final_layers."))}
    if weights["backbone.conv1.weight"].ndim != 4:
        raise ShapeError(f"{path.name} holds no pictures' network. {ADVICE}")
    with torch.device("meta"):
        empty = ReconstructionNet()
    network = empty.to_empty(device="cpu")
    for name, buffer in network.named_buffers():
        if name.endswith("num_batches_tracked"):
            weights.setdefault(name, torch.zeros_like(buffer))  # which inference does not need
    return load_strict(network, weights, path.name).to(device)
