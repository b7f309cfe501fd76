"""VGG-19's convolutions up to relu5_1, under torchvision's names, with weights of a file that the user has.

Shapes: B pictures of H × W pixels.
Source: Simonyan & Zisserman 2015, "Very deep convolutional networks", table 1, column E.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ...checks import check_shape
from ...errors import InputError
from ...weights.catalog import WeightFile
from ...weights.load import load_strict, read_tensors

BLOCKS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)  # channels of convolutions, before each pooling
LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
MIN_SIDE = 16  # pixels; of smaller pictures nothing is left at relu5_1

VGG19 = WeightFile(
    "features of perceptual losses", "torchvision vgg19-dcbb9e9d.pth", "BSD-3-Clause (trained on ImageNet)",
    "portraittalk", "548 MB",
    (
        (r"^features\.0\.weight$", (64, 3, 3, 3)), (r"^features\.16\.weight$", (256, 256, 3, 3)),
        (r"^features\.28\.weight$", (512, 512, 3, 3)), (r"^features\.34\.weight$", (512, 512, 3, 3)),
    ),
    (r"\.running_mean$",), used=True,
)  # fmt: skip
_DEEPER_LAYERS = (r"^features\.(30|32|34)\.(weight|bias)$", r"^classifier\.")  # what comes after relu5_1


class Vgg19Features(nn.Module):
    """Convolutions up to relu5_1; the deeper ones and the classifier are not needed."""

    def __init__(self) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        channels, self.output_layers = 3, []  # indices of the layers that are given
        for block, widths in enumerate(BLOCKS):
            if block:
                steps.append(nn.MaxPool2d(2))
            for number, width in enumerate(widths if block < len(BLOCKS) - 1 else widths[:1]):
                steps += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
                if number == 0:
                    self.output_layers.append(len(steps) - 1)
        self.features = nn.Sequential(*steps)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Activations of the five LAYERS.

        Args:
            pictures: (B, 3, H, W), normalised, both sides at least 16.

        Returns:
            (B, 64, H, W), (B, 128, H/2, W/2), (B, 256, H/4, W/4), (B, 512, H/8, W/8), (B, 512, H/16, W/16).
        """
        check_shape(pictures, "B 3 H W", "pictures for VGG-19")
        if min(pictures.shape[2:]) < MIN_SIDE:
            raise InputError(f"pictures of {tuple(pictures.shape)} are too small for VGG-19: {MIN_SIDE} pixels a side.")
        layers = []
        for index, step in enumerate(self.features):
            pictures = step(pictures)
            if index in self.output_layers:
                layers.append(pictures)
        return layers


def load_vgg19(path: Path) -> Vgg19Features:
    """VGG-19's features with the weights of a file, frozen.

    Args:
        path: torchvision's file, or a safetensors version of it, with or without the classifier.

    Raises:
        MissingDependency: there is no such file.
        InputError: a file of another network.
    """
    tensors = read_tensors(path)
    if not VGG19.fits(shapes_of(tensors)):
        raise InputError(
            f"{Path(path).name} is not VGG-19 (torchvision's vgg19-dcbb9e9d.pth, 16 convolutions without batch "
            f"normalisation); it holds {len(tensors)} tensors of another network. Give that file."
        )
    return load_strict(Vgg19Features(), tensors, Path(path).name, _DEEPER_LAYERS)


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes by name, as the catalogue compares them."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
