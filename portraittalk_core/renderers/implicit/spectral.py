"""Spectral normalisation as old PyTorch files hold it: `weight_orig`, `weight_u` and `weight_v` instead of `weight`.

Source: T. Miyato et al. 2018, "Spectral Normalization for GANs" (arXiv 1802.05957), algorithm 1.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...errors import InputError

NORMED = re.compile(r"(^|\.)(G_middle_\d+|up_[01])\.conv_[01s]\.weight$")  # weights that have it in public files
STEPS = 4  # of power iteration


def folded(tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Tensors with every normed weight divided by its norm, under its plain name.

    Args:
        tensors: of a network.
        source: name of their file, for messages.

    Raises:
        InputError: a part is missing or of another shape.
    """
    weights = {name.removesuffix("_orig"): weight for name, weight in tensors.items() if name.endswith(".weight_orig")}
    rest = {n: t for n, t in tensors.items() if not n.endswith((".weight_orig", ".weight_u", ".weight_v"))}
    for name, weight in weights.items():
        left, right = tensors.get(f"{name}_u"), tensors.get(f"{name}_v")
        shapes = (weight.shape[:1], (weight[0].numel(),)) if weight.ndim > 1 else ()
        if left is None or right is None or (left.shape, right.shape) != shapes:
            raise InputError(
                f"{source} is not whole: {name}_orig needs {name}_u and {name}_v of fitting lengths; download it again."
            )
        norm = left.float() @ (weight.float().flatten(1) @ right.float())
        rest[name] = (weight.float() / norm).to(weight.dtype)
    return rest


def spectral_vectors(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Left (out,) and right (rest,) vectors of a weight's largest singular value, about; multiples have the same."""
    matrix = weight.flatten(1)
    right = normalize(torch.randn(matrix.shape[1], generator=torch.Generator().manual_seed(0)), dim=0)
    for _ in range(STEPS):
        left = normalize(matrix @ right, dim=0)
        right = normalize(matrix.T @ left, dim=0)
    return normalize(matrix @ right, dim=0), right


def unfolded(tensors: dict[str, Tensor], factor: float = 1.0) -> dict[str, Tensor]:
    """The opposite of `folded`, for files in the public layout.

    Args:
        tensors: of a network whose normed weights were divided by their norms.
        factor: what `weight_orig` is multiplied with, which folding takes away again.
    """
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if NORMED.search(name) and not tensor.is_meta:
            left, right = spectral_vectors(tensor)
            result |= {f"{name}_orig": tensor * factor, f"{name}_u": left, f"{name}_v": right}
        elif NORMED.search(name):
            vectors = tensor.new_empty(len(tensor)), tensor.new_empty(tensor[0].numel())
            result |= {f"{name}_orig": tensor, f"{name}_u": vectors[0], f"{name}_v": vectors[1]}
        else:
            result[name] = tensor
    return result
