"""Adds branches to the cross-attentions of a diffusers UNet.

Diffusers hands an attention only its tensors; which rows are positive and how noisy they are is told through `Batch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ..layers.attention import POSITIVE, AttentionCall, Branch, attend
from .sites import SITES

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

Branches = Mapping[int, Sequence[Branch]]  # by the site's index


@dataclass
class Batch:
    """What the UNet is working on; the denoiser writes it before every call."""

    labels: Sequence[int] = (POSITIVE,)
    sigma: float = 0.0


class _BranchedAttention:
    """Diffusers' attention processor: attention to the text plus what the branches add."""

    def __init__(self, branches: Sequence[Branch], batch: Batch) -> None:
        self._branches, self._batch = branches, batch

    def __call__(
        self,
        attn,  # noqa: ANN001 - diffusers.models.attention_processor.Attention
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        queries = attn.to_q(hidden_states)
        call = AttentionCall(attn.heads, self._batch.labels, self._batch.sigma)
        text = encoder_hidden_states
        out = attend(queries, attn.to_k(text), attn.to_v(text), attn.heads)
        for branch in self._branches:
            added = branch(queries, call)
            if added is not None:
                out = out + added
        return attn.to_out[1](attn.to_out[0](out))


@contextmanager
def bind(unet: UNet2DConditionModel, branches: Branches, batch: Batch | None = None) -> Iterator[Batch]:
    """Let branches take part in a UNet's cross-attentions for as long as the context lasts.

    Args:
        unet: of SD1.5's topology.
        branches: for each site, by its index in `sites.SITES`.
        batch: where to read what the UNet works on; a new one if None.

    Yields:
        The batch, to be kept up to date.
    """
    batch = batch or Batch()
    before = unet.attn_processors
    mine = {
        f"{SITES[index].attention(2)}.processor": _BranchedAttention(chosen, batch)
        for index, chosen in branches.items()
        if chosen
    }
    unet.set_attn_processor({**before, **mine})
    try:
        yield batch
    finally:
        unet.set_attn_processor(before)
