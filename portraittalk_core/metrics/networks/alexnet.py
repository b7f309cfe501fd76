"""AlexNet's features for LPIPS: five layers of its convolutions, and the learnt weight of each channel.

Shapes: B pictures.
Source: Krizhevsky 2014, "One weird trick" (torchvision's sizes and names); Zhang et al. 2018 for the heads.
"""

from __future__ import annotations

from torch import Tensor, nn

WIDTHS = (64, 192, 384, 256, 256)  # channels of the layers that are compared
MIN_SIDE = 63  # pixels; smaller pictures vanish on the way


class AlexNetFeatures(nn.Module):
    """The convolutions of AlexNet, under torchvision's names; its classifier is not needed."""

    def __init__(self) -> None:
        super().__init__()
        pool = (3, 2)
        self.features = nn.Sequential(
            nn.Conv2d(3, WIDTHS[0], 11, 4, 2), nn.ReLU(), nn.MaxPool2d(*pool),
            nn.Conv2d(WIDTHS[0], WIDTHS[1], 5, padding=2), nn.ReLU(), nn.MaxPool2d(*pool),
            nn.Conv2d(WIDTHS[1], WIDTHS[2], 3, padding=1), nn.ReLU(),
            nn.Conv2d(WIDTHS[2], WIDTHS[3], 3, padding=1), nn.ReLU(),
            nn.Conv2d(WIDTHS[3], WIDTHS[4], 3, padding=1), nn.ReLU(),
        )  # fmt: skip

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Activations of the five layers, of (B, 3, H, W) normalised pictures."""
        layers = []
        for step in self.features:
            pictures = step(pictures)
            if isinstance(step, nn.ReLU):
                layers.append(pictures)
        return layers
