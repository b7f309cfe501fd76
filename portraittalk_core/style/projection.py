"""Projection of a style to tokens, and the style attention of every transformer block of the UNet.

Untrained, it adds exactly zero.
Shapes: B rows of a batch, N pixels, T tokens, C channels of a site, E width of the tokens, D numbers of a style.
Source: SVP, section 3.3 "Style Projection"; `docs/design/styles.md` 4, sizes are this project's own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from ..checks import check_finite, check_shape
from ..errors import InputError
from ..layers.attention import attend
from ..media.tensor_file import save_tensors
from ..weights.load import load_strict, read_metadata, read_tensors
from .attention_files import BASE, LAYOUT, MEAN, SAMPLING, StyleSizes, read_style_sizes
from .prior import STATISTICS_SPACE, Style, at_mean

log = logging.getLogger(__name__)


class StyleTokens(nn.Module):
    """Linear projection of a style to a few tokens.

    Args:
        style_width: numbers of a style, D.
        width: of a token, E.
        num_tokens: of a style, T.
        ops: where Linear and LayerNorm come from; ComfyUI gives its own.
    """

    def __init__(self, style_width: int = 256, width: int = 768, num_tokens: int = 4, ops: ModuleType = nn) -> None:
        super().__init__()
        self.proj = ops.Linear(style_width, width * num_tokens)
        self.norm = ops.LayerNorm(width)
        self.num_tokens = num_tokens

    def forward(self, styles: Tensor) -> Tensor:
        """(B, T, E) tokens of styles (B, D)."""
        check_shape(styles, f"B {self.proj.in_features}", "the styles")
        return self.norm(self.proj(styles).unflatten(1, (self.num_tokens, -1)))


class StyleSite(nn.Module):
    """Style cross-attention of one transformer block, after the text's; its output layer is initialised to zero.

    Args:
        width: channels of the block, C.
        token_width: E.
        ops: where Linear and LayerNorm come from.
    """

    def __init__(self, width: int, token_width: int = 768, ops: ModuleType = nn) -> None:
        super().__init__()
        self.norm = ops.LayerNorm(width)
        self.to_q = ops.Linear(width, width, bias=False)
        self.to_k = ops.Linear(token_width, width, bias=False)
        self.to_v = ops.Linear(token_width, width, bias=False)
        self.to_out = ops.Linear(width, width, bias=False)
        # ComfyUI's layers leave their memory as it was
        nn.init.ones_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)
        for layer, size in ((self.to_q, width), (self.to_k, token_width), (self.to_v, token_width)):
            nn.init.normal_(layer.weight, std=size**-0.5)
        nn.init.zeros_(self.to_out.weight)

    def keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, T, C) of tokens (B, T, E)."""
        return self.to_k(tokens), self.to_v(tokens)

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
        """Residual (B, N, C) of a block's hidden states (B, N, C), from keys and values (B, T, C)."""
        return self.to_out(attend(self.to_q(self.norm(hidden)), keys, values, heads))


class StyleAttention(nn.Module):
    """Style projection and attention of all blocks, under the file's names: `style_proj.…`, `1.to_q.weight`, ….

    Args:
        sizes: of tokens and sites, and the space of the styles it was trained on.
        ops: where Linear and LayerNorm come from; ComfyUI gives its own.
    """

    def __init__(self, sizes: StyleSizes, ops: ModuleType = nn) -> None:
        super().__init__()
        self.space, self.trained_on = sizes.space, BASE
        self.deterministic = False  # whether it was trained on the means of styles, not on samples
        self.style_proj = StyleTokens(sizes.style_width, sizes.token_width, sizes.num_tokens, ops)
        for number, width in sizes.widths.items():
            self.add_module(number, StyleSite(width, sizes.token_width, ops))

    def site(self, number: str) -> StyleSite:
        """Style attention of a transformer block, by its cross-attention's number: "1", "3", …, "31"."""
        return self.get_submodule(number)

    def tokens(self, styles: Tensor) -> Tensor:
        """(B, T, E) tokens of styles (B, D)."""
        return self.style_proj(styles.to(self.style_proj.proj.weight.dtype))  # the layers may lie elsewhere for now

    def drawn(self, style: Style, num_frames: int, fps: Fraction | float) -> tuple[Tensor, Tensor]:
        """Style (T, D) and strength (T,) of every frame, of one that was sampled, or its mean, as in training."""
        style = self.suited(style)
        conditioning = at_mean(style) if self.deterministic else style
        return conditioning.draw(num_frames, fps), conditioning.strengths(num_frames, fps)

    def suits(self, style: Style) -> bool:
        """Whether the style, or its motion statistics, live in the space that it was trained on."""
        has_statistics = self.space == STATISTICS_SPACE and style.statistics_part is not None
        return style.space == self.space or has_statistics

    def suited(self, style: Style) -> Style:
        """The style, or its motion statistics, whichever live in the space that it was trained on.

        Raises:
            InputError: neither does.
        """
        if style.space != self.space and self.suits(style):
            return style.statistics_part
        self.check_space(style.space, style.source)
        return style

    def check_space(self, space: str, source: str) -> None:
        """Check that a style space is the one that it was trained on.

        Raises:
            InputError: another space.
        """
        if space != self.space:
            raise InputError(
                f"the style {source} lives in the space {space}, but this style attention was trained on "
                f"{self.space}; make the style with the extractor that belongs to it."
            )

    def warn_other_base(self, base: str) -> None:
        """Log a warning if the UNet is another one than it was trained on, though of the same shape."""
        if base != self.trained_on:
            log.warning(
                "the style attention was trained on %s and acts in %s now: the style may not come out right.",
                self.trained_on,
                base,
            )


def new_style_attention(sizes: StyleSizes, seed: int = 0) -> StyleAttention:
    """An untrained style attention, whose output is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StyleAttention(sizes)


def load_style_attention(path: Path, ops: ModuleType = nn) -> StyleAttention:
    """Load a style attention from its file for inference.

    Args:
        path: .safetensors.
        ops: where Linear and LayerNorm come from; ComfyUI gives its own.

    Raises:
        MissingDependency: no such file.
        InputError: damaged, no style attention, or one for another base model.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path), read_metadata(path)
    sizes = read_style_sizes(tensors, metadata, path.name)
    for name, tensor in tensors.items():
        check_finite(tensor, f"{name} of {path.name}")
    with torch.device("meta"):
        net = StyleAttention(sizes, ops)
    net.trained_on = metadata.get("trained_on", BASE)
    net.deterministic = metadata.get(SAMPLING) == MEAN
    return load_strict(net.to_empty(device="cpu"), tensors, path.name)


def save_style_attention(net: StyleAttention, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a style attention as safetensors atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    texts = {"layout": LAYOUT, "base": BASE, "space": net.space, "trained_on": net.trained_on}
    texts |= {SAMPLING: MEAN} if net.deterministic else {}
    texts |= metadata or {}
    return save_tensors(net.state_dict(), path, texts)
