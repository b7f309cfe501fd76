"""Random motion modules in the public files' layouts, small or true to size."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TINY, FULL = (32, 64, 128, 128), (320, 640, 1280, 1280)
LAYOUTS = {"v1": (24, False), "v2": (32, True), "v3": (32, False), "animatelcm": (None, False)}  # length, middle


def motion_tensors(version: str, widths: tuple[int, ...] = TINY, seed: int = 0) -> dict[str, Tensor]:
    """The tensors of a public file, with random weights scaled by fan-in."""
    length, middle = LAYOUTS[version]
    draw = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for i, width in enumerate(widths):
        for j in range(2):
            tensors |= module_tensors(f"down_blocks.{i}.motion_modules.{j}", width, length, draw)
    for i, width in enumerate(reversed(widths)):
        for j in range(3):
            tensors |= module_tensors(f"up_blocks.{i}.motion_modules.{j}", width, length, draw)
    if middle:
        tensors |= module_tensors("mid_block.motion_modules.0", widths[-1], length, draw)
    return tensors


def module_tensors(name: str, width: int, length: int | None, draw: torch.Generator) -> dict[str, Tensor]:
    """One module's tensors."""
    top = f"{name}.temporal_transformer"
    block = f"{top}.transformer_blocks.0"
    shapes = {f"{top}.norm": (width,), f"{top}.proj_in": (width, width), f"{top}.proj_out": (width, width)}
    shapes |= {f"{block}.norms.0": (width,), f"{block}.norms.1": (width,), f"{block}.ff_norm": (width,)}
    shapes |= {f"{block}.ff.net.0.proj": (8 * width, width), f"{block}.ff.net.2": (width, 4 * width)}
    shapes |= {f"{block}.attention_blocks.{k}.to_out.0": (width, width) for k in (0, 1)}
    tensors = {}
    for key, shape in shapes.items():
        weight = torch.randn(shape, generator=draw) / shape[-1] ** 0.5
        tensors[f"{key}.weight"] = weight if len(shape) == 2 else 1 + weight
        tensors[f"{key}.bias"] = torch.randn(shape[0], generator=draw) / shape[0] ** 0.5
    for k in (0, 1):
        for letter in "qkv":
            weight = torch.randn(width, width, generator=draw) / width**0.5
            tensors[f"{block}.attention_blocks.{k}.to_{letter}.weight"] = weight
        if length:
            tensors[f"{block}.attention_blocks.{k}.pos_encoder.pe"] = waves(length, width)
    return tensors


def waves(length: int, width: int) -> Tensor:
    """Position p's channel c: sine (c even) or cosine (c odd) of p / 10000^(2⌊c/2⌋/width)."""
    rows = [[(math.cos if c % 2 else math.sin)(p / 10000 ** (c // 2 * 2 / width)) for c in range(width)]
            for p in range(length)]  # fmt: skip
    return torch.tensor(rows)[None]
