"""Attention processors that add branches to a diffusers UNet's cross-attentions and cache the text's keys and values.

Diffusers passes only tensors to an attention processor; `Batch` carries the CFG labels, sigma and frame numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from ..layers.attention import POSITIVE, AttentionCall, Branch, attend
from .sites import SITES
from .text_keys import TextKeys

if TYPE_CHECKING:
    from diffusers import ControlNetModel, UNet2DConditionModel

Branches = Mapping[int, Sequence[Branch]]  # by the site's index


@dataclass
class Batch:
    """State of the current UNet call, set by the denoiser: CFG labels, sigma, frame numbers, text keys."""

    labels: Sequence[int] = (POSITIVE,)
    sigma: float = 0.0
    frames: Sequence[int] = ()  # numbers of a part's frames in the video; empty: from 0
    texts: TextKeys = field(default_factory=TextKeys)


class _BranchedAttention:
    """Attention processor of diffusers: cross-attention to the text plus the outputs of the branches.

    Args:
        branches: each with the batch whose labels and sigma it gets.
        batches: searched for cached keys and values of the text.
    """

    def __init__(self, branches: Sequence[tuple[Branch, Batch]], batches: Sequence[Batch]) -> None:
        self.branches, self.batches = branches, batches

    def __call__(
        self,
        attn,  # noqa: ANN001 - diffusers.models.attention_processor.Attention
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        queries = attn.to_q(hidden_states)
        out = self._text(attn, queries, encoder_hidden_states)
        for branch, batch in self.branches:
            added = branch(queries, AttentionCall(attn.heads, batch.labels, batch.sigma))
            if added is not None:
                out = out + added
        return attn.to_out[1](attn.to_out[0](out))

    def _text(self, attn, queries: Tensor, text: Tensor) -> Tensor:  # noqa: ANN001
        for batch in self.batches:
            if batch.texts.is_cached(text):
                return batch.texts.attend(attn, queries)
        return attend(queries, attn.to_k(text), attn.to_v(text), attn.heads)


@contextmanager
def bind(
    network: UNet2DConditionModel | ControlNetModel, branches: Branches, batch: Batch | None = None
) -> Iterator[Batch]:
    """Context manager that adds branches to a network's cross-attentions and caches the text's keys and values.

    Branches that are bound already stay bound.

    Args:
        network: of SD1.5's topology; a ControlNet is its first half.
        branches: for each site, by its index in `sites.SITES`.
        batch: state of the network's call; None makes a new one, whose text cache is cleared at the end.

    Yields:
        The batch, to be kept up to date.
    """
    is_new_batch = batch is None
    batch = batch or Batch()
    previous = network.attn_processors
    names = {site.index: f"{site.attention(2)}.processor" for site in SITES}
    branched = {
        name: _joint(previous[name], branches.get(index, ()), batch)
        for index, name in names.items()
        if name in previous
    }
    network.set_attn_processor({**previous, **branched})
    try:
        yield batch
    finally:
        network.set_attn_processor(previous)
        if is_new_batch:
            batch.texts.clear_cache()


def _joint(previous: object, branches: Sequence[Branch], batch: Batch) -> _BranchedAttention:
    existing = previous if isinstance(previous, _BranchedAttention) else _BranchedAttention((), ())
    return _BranchedAttention(
        [*existing.branches, *((branch, batch) for branch in branches)], [*existing.batches, batch]
    )
