"""Keeps the keys and values of a text for a whole run: the text does not change from step to step, nor by frame.

Shapes: R rows of a batch, U texts in it (each for R / U rows that follow one another), N queries (pixels), L text
tokens, E their width, C channels of a site.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..layers.attention import attend


class TextKeys:
    """Keys and values of one condition at the cross-attentions of any networks, made when first asked for.

    The tensor that `rows` gives is known again wherever it arrives as it is; any other text is not kept.
    """

    def __init__(self) -> None:
        self._asked: tuple | None = None
        self._given: Sequence[Tensor] = ()  # held, so that no other tensor gets their place in memory
        self._texts: Tensor | None = None  # (U, L, E)
        self._rows: Tensor | None = None  # (R, L, E)
        self._made: dict[nn.Module, tuple[tuple, Tensor, Tensor]] = {}

    def clear_cache(self) -> None:
        """Drop everything that is kept."""
        self._asked, self._given, self._texts, self._rows = None, (), None, None
        self._made.clear()

    def rows(self, texts: Sequence[Tensor], num_frames: int, like: Tensor) -> Tensor:
        """Text of every row, the same tensor as long as the same is asked for.

        Args:
            texts: (1 or num_frames, L, E) of each chunk of the batch, of any lengths.
            num_frames: rows of a chunk.
            like: has the type and device that is wanted.

        Returns:
            (chunks · num_frames, L, E).
        """
        asked = (tuple((id(t), _version(t)) for t in texts), num_frames, like.dtype, like.device)
        if asked != self._asked:
            each = max(len(text) for text in texts)
            before, self._texts = self._texts, _joined([t.expand(each, -1, -1) for t in texts]).to(like)
            if before is None or asked[0] != self._asked[0] or asked[2:] != self._asked[2:]:
                self._made.clear()
            self._asked, self._given = asked, tuple(texts)
            self._rows = self._texts.repeat_interleave(num_frames // each, 0)
        return self._rows

    def knows(self, text: Tensor | None) -> bool:
        """Whether a text is the one that `rows` gave."""
        return text is not None and text is self._rows

    def attend(self, attn: nn.Module, queries: Tensor) -> Tensor:
        """Attention (R, N, C) of queries (R, N, C) to the text, by diffusers' Attention module `attn`.

        Rows that share a text are one long row: its keys and values stand in memory once.
        """
        keys, values = self._keys_values(attn)
        together = queries.reshape(len(keys), -1, queries.shape[2])
        return attend(together, keys, values, attn.heads).reshape(queries.shape)

    @torch.no_grad()
    def _keys_values(self, attn: nn.Module) -> tuple[Tensor, Tensor]:
        # a LoRA that is merged meanwhile, or a retry in another precision, makes them anew
        mark = tuple((_version(w), w.data_ptr(), w.dtype) for part in (attn.to_k, attn.to_v) for w in part.parameters())
        kept = self._made.get(attn)
        if kept is None or kept[0] != mark:
            kept = self._made[attn] = (mark, attn.to_k(self._texts), attn.to_v(self._texts))
        return kept[1:]


def _version(tensor: Tensor) -> int:
    """Counts changes in place; tensors of inference mode do not."""
    return 0 if tensor.is_inference() else tensor._version


def _joined(texts: Sequence[Tensor]) -> Tensor:
    """Texts of different length in one batch, each repeated to the least common multiple: attention is unchanged."""
    length = math.lcm(*(text.shape[1] for text in texts))
    return torch.cat([text.repeat(1, length // text.shape[1], 1) for text in texts])
