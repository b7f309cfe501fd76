"""Attention over tokens, and the contract of branches that are added to the text's cross-attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]  # queries, keys, values, heads → like the queries

POSITIVE, NEGATIVE = 0, 1  # labels of the parts of a batch, as ComfyUI's cond_or_uncond writes them


@dataclass(frozen=True)
class AttentionCall:
    """Context of one call of a cross-attention."""

    heads: int
    labels: Sequence[int] = (POSITIVE,)  # one for each equal part of the batch, in order
    sigma: float | Tensor = 0.0  # noise level of this step; a tensor where reading it would wait for the device


class Branch(Protocol):
    """Contract of an attention branch: it adds to the text's attention, before the output projection."""

    def __call__(self, queries: Tensor, call: AttentionCall) -> Tensor | None:
        """What to add to the text's attention of queries (B, HW, C); None adds nothing."""


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention.

    Args:
        queries: (B, N, C).
        keys: (B, L, C).
        values: (B, L, C).
        heads: C is split into so many.

    Returns:
        (B, N, C).
    """

    def split(x: Tensor) -> Tensor:
        return rearrange(x, "b n (h c) -> b h n c", h=heads)

    out = torch.nn.functional.scaled_dot_product_attention(split(queries), split(keys), split(values))
    return rearrange(out, "b h n c -> b n (h c)")
