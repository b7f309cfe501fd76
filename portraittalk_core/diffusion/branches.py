"""Adds branches to the cross-attentions of a diffusers UNet, which keep the text's keys and values for a run.

Diffusers hands an attention only its tensors; which rows are positive and how noisy they are is told through `Batch`.
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
    """What the UNet is working on; the denoiser writes it before every call."""

    labels: Sequence[int] = (POSITIVE,)
    sigma: float = 0.0
    frames: Sequence[int] = ()  # numbers of a part's frames in the video; empty: from 0
    texts: TextKeys = field(default_factory=TextKeys)


class _BranchedAttention:
    """Diffusers' attention processor: attention to the text plus what the branches add.

    Args:
        branches: with the batch that each is told of.
        batches: any of which may know the text.
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
            if batch.texts.knows(text):
                return batch.texts.attend(attn, queries)
        return attend(queries, attn.to_k(text), attn.to_v(text), attn.heads)


@contextmanager
def bind(
    network: UNet2DConditionModel | ControlNetModel, branches: Branches, batch: Batch | None = None
) -> Iterator[Batch]:
    """Let branches take part in a network's cross-attentions, and keep the text's keys, as long as the context lasts.

    What is bound already stays.

    Args:
        network: of SD1.5's topology; a ControlNet is its first half.
        branches: for each site, by its index in `sites.SITES`.
        batch: where to read what the network works on; a new one if None, which forgets the text at the end.

    Yields:
        The batch, to be kept up to date.
    """
    own = batch is None
    batch = batch or Batch()
    before = network.attn_processors
    names = {site.index: f"{site.attention(2)}.processor" for site in SITES}
    mine = {
        name: _joint(before[name], branches.get(index, ()), batch) for index, name in names.items() if name in before
    }
    network.set_attn_processor({**before, **mine})
    try:
        yield batch
    finally:
        network.set_attn_processor(before)
        if own:
            batch.texts.clear_cache()


def _joint(before: object, branches: Sequence[Branch], batch: Batch) -> _BranchedAttention:
    there = before if isinstance(before, _BranchedAttention) else _BranchedAttention((), ())
    return _BranchedAttention([*there.branches, *((one, batch) for one in branches)], [*there.batches, batch])
