"""The perceiver resampler: learnt tokens attend to a sequence of any length.

Shapes: B rows, T tokens, L states, C and D their widths.
Source: Flamingo (Alayrac et al. 2022), section 3.1; the layout of IP-Adapter and V-Express.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor, nn

from .attention import attend

HEAD_WIDTH = 64  # of an attention head


class Perceiver(nn.Module):
    """Layers of cross-attention from tokens to states, and feed-forward layers."""

    def __init__(self, states: int, width: int, inner: int, depth: int, out: int, ops: ModuleType = nn) -> None:
        super().__init__()
        self.proj_in, self.proj_out = ops.Linear(states, width), ops.Linear(width, out)
        self.norm_out = ops.LayerNorm(out)
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(width, inner, ops), _feed_forward(width, ops)]) for _ in range(depth)
        )

    def forward(self, tokens: Tensor, states: Tensor) -> Tensor:
        """(B, T, C) of tokens (B, T, width) and states (B, L, D)."""
        states = self.proj_in(states)
        for attention, feed_forward in self.layers:
            tokens = tokens + attention(tokens, states)
            tokens = tokens + feed_forward(tokens)
        return self.norm_out(self.proj_out(tokens))


class PerceiverAttention(nn.Module):
    """Cross-attention whose keys and values hold the tokens too."""

    def __init__(self, width: int, inner: int, ops: ModuleType) -> None:
        super().__init__()
        self.norm1, self.norm2 = ops.LayerNorm(width), ops.LayerNorm(width)
        self.to_q = ops.Linear(width, inner, bias=False)
        self.to_kv = ops.Linear(width, 2 * inner, bias=False)
        self.to_out = ops.Linear(inner, width, bias=False)
        self.heads = inner // HEAD_WIDTH

    def forward(self, tokens: Tensor, states: Tensor) -> Tensor:
        """(B, T, C) of tokens (B, T, C) and states (B, L, C)."""
        states, tokens = self.norm1(states), self.norm2(tokens)
        keys, values = self.to_kv(torch.cat([states, tokens], 1)).chunk(2, 2)  # the tokens see themselves too
        return self.to_out(attend(self.to_q(tokens), keys, values, self.heads))


def _feed_forward(width: int, ops: ModuleType) -> nn.Sequential:
    first, second = ops.Linear(width, 4 * width, bias=False), ops.Linear(4 * width, width, bias=False)
    return nn.Sequential(ops.LayerNorm(width), first, nn.GELU(), second)
