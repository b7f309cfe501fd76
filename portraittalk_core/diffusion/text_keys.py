"""Cache of a text's cross-attention keys and values for a run: they are the same for all steps and frames.

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
    """Lazy cache of the text's keys and values at the cross-attentions of any networks.

    The tensor that `rows` gives is known again wherever it arrives as it is; any other text is not kept.
    """

    def __init__(self) -> None:
        self._key: tuple | None = None
        self._sources: Sequence[Tensor] = ()  # held, so that no other tensor gets their place in memory
        self._texts: Tensor | None = None  # (U, L, E)
        self._rows: Tensor | None = None  # (R, L, E)
        self._keys_values_of: dict[nn.Module, tuple[tuple, Tensor, Tensor]] = {}

    def clear_cache(self) -> None:
        """Drop the cached text, keys and values."""
        self._key, self._sources, self._texts, self._rows = None, (), None, None
        self._keys_values_of.clear()

    def rows(self, texts: Sequence[Tensor], num_frames: int, like: Tensor) -> Tensor:
        """Text of every row of the batch; the same tensor as long as the arguments are the same.

        Args:
            texts: (1 or num_frames, L, E) of each chunk of the batch, of any lengths.
            num_frames: rows of a chunk.
            like: has the type and device that is wanted.

        Returns:
            (chunks · num_frames, L, E).
        """
        key = (tuple((id(t), _version(t)) for t in texts), num_frames, like.dtype, like.device)
        if key != self._key:
            each = max(len(text) for text in texts)
            previous, self._texts = self._texts, _joined([t.expand(each, -1, -1) for t in texts]).to(like)
            if previous is None or key[0] != self._key[0] or key[2:] != self._key[2:]:
                self._keys_values_of.clear()
            self._key, self._sources = key, tuple(texts)
            self._rows = self._texts.repeat_interleave(num_frames // each, 0)
        return self._rows

    def is_cached(self, text: Tensor | None) -> bool:
        """Whether a text is the very tensor that `rows` returned."""
        return text is not None and text is self._rows

    def attend(self, attn: nn.Module, queries: Tensor) -> Tensor:
        """Attention (R, N, C) of queries (R, N, C) to the text, by diffusers' Attention module `attn`.

        Rows that share a text are one long row: its keys and values stand in memory once.
        """
        keys, values = self._keys_values(attn)
        grouped = queries.reshape(len(keys), -1, queries.shape[2])
        return attend(grouped, keys, values, attn.heads).reshape(queries.shape)

    @torch.no_grad()
    def _keys_values(self, attn: nn.Module) -> tuple[Tensor, Tensor]:
        # a LoRA that is merged meanwhile, or a retry in another precision, changes them
        mark = tuple((_version(w), w.data_ptr(), w.dtype) for part in (attn.to_k, attn.to_v) for w in part.parameters())
        cached = self._keys_values_of.get(attn)
        if cached is None or cached[0] != mark:
            cached = self._keys_values_of[attn] = (mark, attn.to_k(self._texts), attn.to_v(self._texts))
        return cached[1:]


def _version(tensor: Tensor) -> int:
    """Version counter of in-place changes; 0 for tensors of inference mode, which have none."""
    return 0 if tensor.is_inference() else tensor._version


def _joined(texts: Sequence[Tensor]) -> Tensor:
    """Texts of different length in one batch, each repeated to the least common multiple: attention is unchanged."""
    length = math.lcm(*(text.shape[1] for text in texts))
    return torch.cat([text.repeat(1, length // text.shape[1], 1) for text in texts])
