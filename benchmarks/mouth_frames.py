"""Frames that the warp renderer of some tree draws: ``PYTHONPATH=TREE python benchmarks/mouth_frames.py FOLDER``.

Each <clip>.safetensors of the folder holds a picture, its landmarks and those of the frames to be drawn, pixels.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from portraittalk_core.renderers.warp.renderer import PortraitRenderer
from portraittalk_core.types import LandmarkTrack, Portrait

DRAWN = ".drawn"


def renderer_of(picture: Tensor, points_px: Tensor) -> PortraitRenderer:
    """Of (H, W, 3) uint8 with (478, 3) landmarks; its lids stay."""
    return PortraitRenderer(Portrait(picture, track_of(points_px[None], picture)), blinks=False)


def track_of(points_px: Tensor, picture: Tensor) -> LandmarkTrack:
    """(T, 478, 3) pixels of a picture as a track."""
    return LandmarkTrack.from_px(points_px, picture.shape[1], picture.shape[0], Fraction(25))


def main(folder: Path) -> None:
    """Draw what a folder asks for."""
    torch.set_num_threads(1)
    for path in sorted(folder.glob("*.safetensors")):
        asked = load_file(path)
        frames = renderer_of(asked["picture"], asked["rest"]).render(track_of(asked["targets"], asked["picture"]))
        save_file({"frames": torch.stack(list(frames)).contiguous()}, path.with_suffix(DRAWN))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
