"""Sizes of a style attention from its file's tensor names, shapes and metadata.

Source: this project's own layout, `docs/design/styles.md` 7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..errors import InputError

LAYOUT, BASE = "style_attention", "SD1.5"  # as the metadata says it
SAMPLING, MEAN = "sampling", "mean"  # in the metadata of one that was trained on the means of styles
VEXPRESS = "V-Express"  # another UNet of SD1.5's shape to be trained on
NUMBERS = tuple(str(number) for number in range(1, 33, 2))  # cross-attentions of SD1.5's UNet, as adapters count them
TOKEN_WIDTHS = {1024: "Stable Diffusion 2", 2048: "SDXL"}
_SITE = re.compile(r"^(\d+)\.to_k\.weight$")
_ADVICE = "Use a file that `portraittalk train style` has made in its attention stage."


@dataclass(frozen=True)
class StyleSizes:
    """Layer sizes of a style attention, and the style space that it was trained on."""

    widths: Mapping[str, int]  # channels of the UNet's transformer blocks, by their cross-attention's number
    space: str  # of the styles it was trained on
    style_width: int = 256  # numbers of a style
    token_width: int = 768
    num_tokens: int = 4


def read_style_sizes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], name: str) -> StyleSizes:
    """Read the sizes of a style attention from its file, and check that it is one.

    Args:
        tensors: of the file.
        metadata: of the file.
        name: of the file, for messages.

    Raises:
        InputError: no style attention, or one for another base model.
    """
    for key, expected in (("layout", LAYOUT), ("base", BASE)):
        if metadata.get(key) != expected:
            value = metadata.get(key, "nothing")
            raise InputError(f"{name} is no style attention for {BASE}: its {key} says {value}. {_ADVICE}")
    if not metadata.get("space"):
        raise InputError(f"{name} does not say on what styles it was trained. {_ADVICE}")
    sites = {match[1]: tensor for key, tensor in tensors.items() if (match := _SITE.match(key))}
    proj, norm = tensors.get("style_proj.proj.weight"), tensors.get("style_proj.norm.weight")
    if set(sites) != set(NUMBERS) or proj is None or norm is None or proj.ndim != 2 or norm.ndim != 1:
        raise InputError(f"{name} is no complete style attention: {len(sites)} of {len(NUMBERS)} sites. {_ADVICE}")
    token_width = len(norm)
    if token_width in TOKEN_WIDTHS:
        raise InputError(f"{name} is for {TOKEN_WIDTHS[token_width]} (its tokens are {token_width} wide). {_ADVICE}")
    if not token_width or len(proj) % token_width:
        raise InputError(f"{name}: {len(proj)} numbers are no tokens of {token_width}. {_ADVICE}")
    widths = {number: len(sites[number]) for number in NUMBERS}
    return StyleSizes(widths, metadata["space"], proj.shape[1], token_width, len(proj) // token_width)
