"""Sizes of the networks with implicit keypoints; the defaults are those of the public files."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...checks import check_choice, check_range
from ...errors import InputError

UPSCALES = ("1", "2")  # of the picture over the crop


@dataclass(frozen=True)
class DenseMotionSizes:
    """Of the network that mixes the motions of single keypoints."""

    width: int = 32  # channels of the hourglass at full size; doubled at every halving
    max_width: int = 1024
    num_blocks: int = 5  # halvings
    compress: int = 4  # channels of the warped volumes
    kernel: int = 7  # of the last convolutions

    def __post_init__(self) -> None:
        for name in ("width", "max_width", "num_blocks", "compress", "kernel"):
            check_range(getattr(self, name), 1, 65536, f"{name} of a dense motion network")
        if self.kernel % 2 == 0:
            raise InputError(f"the kernel of a dense motion network must be odd, not {self.kernel}.")

    def width_at(self, halvings: int) -> int:
        """Channels of the hourglass after some halvings."""
        return min(self.max_width, self.width * 2**halvings)


@dataclass(frozen=True)
class ImplicitSizes:
    """Of appearance encoder, warping and generator, which both families share."""

    num_keypoints: int
    width: int = 64  # channels of the encoder's first convolution; the volume is a quarter as high and wide
    volume_channels: int = 32
    volume_depth: int = 16
    num_resblocks: int = 6
    motion: DenseMotionSizes = field(default_factory=DenseMotionSizes)
    spade_hidden: int = 128
    num_middle: int = 6  # SPADE blocks before the first doubling
    upscale: int = 1  # of the picture over the crop: 2 through PixelShuffle

    def __post_init__(self) -> None:
        check_choice(str(self.upscale), UPSCALES, "upscale of a generator")
        for name in ("num_keypoints", "width", "volume_channels", "volume_depth", "num_resblocks", "spade_hidden"):
            check_range(getattr(self, name), 1, 65536, f"{name} of a keypoint model")
        check_range(self.num_middle, 1, 64, "num_middle of a generator")

    @property
    def volume_width(self) -> int:
        """Channels of the volume as a picture: channels times depth."""
        return self.volume_channels * self.volume_depth

    @property
    def feature_width(self) -> int:
        """Channels of the encoder after two halvings, and of the warped features."""
        return 4 * self.width
