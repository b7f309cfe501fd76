"""Random adapters in the public files' layouts, small or true to size."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = {"1": 32, "3": 32, "5": 64, "7": 64, "9": 128, "11": 128, "31": 128}
TINY |= {"13": 128, "15": 128, "17": 128, "19": 64, "21": 64, "23": 64, "25": 32, "27": 32, "29": 32}
FULL = {number: 10 * width for number, width in TINY.items()}


def adapter_tensors(
    layout: str, widths: dict[str, int] = TINY, context: int = 48, num_tokens: int = 4, seed: int = 0
) -> dict[str, dict[str, Tensor]]:
    """The nested dict that a public .bin holds, with random weights of a sensible size."""
    draw = torch.Generator().manual_seed(seed)

    def matrix(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw) / shape[-1] ** 0.5

    def norm(name: str, width: int) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + matrix(width), f"{name}.bias": matrix(width)}

    def linear(name: str, out: int, into: int, bias: bool = True) -> dict[str, Tensor]:
        return {f"{name}.weight": matrix(out, into)} | ({f"{name}.bias": matrix(out)} if bias else {})

    def perceiver(prefix: str, states: int, width: int, depth: int = 4, inner: int = 128) -> dict[str, Tensor]:
        tensors = linear(f"{prefix}proj_in", width, states) | linear(f"{prefix}proj_out", context, width)
        tensors |= norm(f"{prefix}norm_out", context)
        for i in range(depth):
            at = f"{prefix}layers.{i}"
            tensors |= norm(f"{at}.0.norm1", width) | norm(f"{at}.0.norm2", width) | norm(f"{at}.1.0", width)
            tensors |= linear(f"{at}.0.to_q", inner, width, False) | linear(f"{at}.0.to_kv", 2 * inner, width, False)
            tensors |= linear(f"{at}.0.to_out", width, inner, False)
            tensors |= linear(f"{at}.1.1", 4 * width, width, False) | linear(f"{at}.1.3", width, 4 * width, False)
        return tensors

    if layout == "plain":
        projection = linear("proj", num_tokens * context, 64) | norm("norm", context)
    elif layout == "clip_plus":
        projection = {"latents": matrix(1, 16, 128)} | perceiver("", 80, 128)
    else:
        tokens = 16 if layout == "portrait" else num_tokens
        projection = linear("proj.0", 1024, 512) | linear("proj.2", tokens * context, 1024) | norm("norm", context)
        if layout in ("plus", "plusv2"):
            projection |= perceiver("perceiver_resampler.", 80, context)
    sites = {}
    for number, width in widths.items():
        sites |= linear(f"{number}.to_k_ip", width, context, False) | linear(f"{number}.to_v_ip", width, context, False)
        if layout in ("faceid", "plus", "plusv2"):
            sites |= _lora(matrix, int(number), width, context)
    return {"image_proj": projection, "ip_adapter": sites}


def flat(nested: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """The same as a safetensors file would name it."""
    return {f"{part}.{name}": tensor for part, tensors in nested.items() for name, tensor in tensors.items()}


def _lora(matrix, number: int, width: int, context: int, rank: int = 8) -> dict[str, Tensor]:
    tensors = {}
    for place, key_width in ((number - 1, width), (number, context)):  # self-attention, then cross-attention
        for part in ("q", "k", "v", "out"):
            into = key_width if part in "kv" else width
            tensors[f"{place}.to_{part}_lora.down.weight"] = matrix(rank, into)
            tensors[f"{place}.to_{part}_lora.up.weight"] = 0.1 * matrix(width, rank)
    return tensors
