"""Decoupled cross-attention: separate keys and values of face tokens with the text's queries.

Shapes: B rows of a batch, N queries (pixels), T face tokens, C channels of a site, E width of the tokens.
Source: PortraitTalk, section 3.1; IP-Adapter, equation 5.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor, nn

from ...layers.attention import NEGATIVE, POSITIVE, Attend, AttentionCall, attend

Window = tuple[float, float]  # largest and least sigma at which a branch acts
ALWAYS: Window = (float("inf"), 0.0)


class DecoupledAttention(nn.Module):
    """Keys and values of face tokens at one site."""

    def __init__(self, width: int, token_width: int, ops: ModuleType = nn) -> None:
        super().__init__()
        self.to_k_ip = ops.Linear(token_width, width, bias=False)
        self.to_v_ip = ops.Linear(token_width, width, bias=False)

    def keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, T, C) of tokens (B, T, E)."""
        return self.to_k_ip(tokens), self.to_v_ip(tokens)

    def forward(self, queries: Tensor, tokens: Tensor, heads: int) -> Tensor:
        """Attention to the face tokens, to be added to the text's attention.

        Args:
            queries: (B, N, C) of the text's attention.
            tokens: (B, T, E), of each row its own face.
            heads: of the site.

        Returns:
            (B, N, C).
        """
        return attend(queries, *self.keys_values(tokens), heads)


class IdentityBranch:
    """Face attention of one site, with its keys and values cached for the run.

    Args:
        attention: weights of the site.
        tokens: (2, T, E): of the face, then of no face.
        strength: factor of the output; 0 is off.
        window: largest and least sigma at which it acts.
        attend_with: the attention to use; ComfyUI has its own.
    """

    def __init__(
        self,
        attention: DecoupledAttention,
        tokens: Tensor,
        strength: float = 1.0,
        window: Window = ALWAYS,
        attend_with: Attend = attend,
    ) -> None:
        self.attention, self.tokens, self.strength, self.window = attention, tokens, strength, window
        self._attend = attend_with
        self._cache: dict[tuple, tuple[Tensor, Tensor]] = {}

    def clear_cache(self) -> None:
        """Drop the cached keys and values, at the end of a run."""
        self._cache.clear()

    @torch.no_grad()
    def __call__(self, queries: Tensor, call: AttentionCall) -> Tensor | None:
        """Output that is added to the text's attention; None outside the sigma window."""
        gate = self._gate(call.sigma)
        if gate is None:
            return None
        added = self._attend(queries, *self._keys_values(queries, call), call.heads)
        return added if gate is True else added * gate

    def _gate(self, sigma: float | Tensor) -> Tensor | bool | None:
        """Gate of the branch at a noise level: True, None (off), or a factor 0 or 1 on the device."""
        first, last = self.window
        if self.strength == 0:
            return None
        if self.window == ALWAYS:
            return True
        if isinstance(sigma, Tensor) and sigma.device.type != "cpu":  # to read it would make the host wait
            return ((sigma <= first) & (sigma >= last)).flatten()[:1]
        level = float(sigma if not isinstance(sigma, Tensor) else sigma.flatten()[0])
        return True if last <= level <= first else None

    def _keys_values(self, queries: Tensor, call: AttentionCall) -> tuple[Tensor, Tensor]:
        """(B, T, C) keys and values in batch order: chunk after chunk, equal for all frames of a chunk."""
        frames = len(queries) // len(call.labels)
        kind = (tuple(call.labels), frames, queries.dtype, queries.device)
        if kind not in self._cache:
            weight = self.attention.to_k_ip.weight
            keys, values = self.attention.keys_values(self.tokens.to(queries.device, weight.dtype))
            keys, values = keys.to(queries), values.to(queries)  # a retry in fp32 has other queries than weights
            rows = [{POSITIVE: 0, NEGATIVE: 1}[label] for label in call.labels for _ in range(frames)]
            self._cache[kind] = keys[rows], self.strength * values[rows]  # the factor once here, not on every pixel
        return self._cache[kind]
