"""Style attention in a UNet's transformer blocks, after the cross-attention to text, face and other branches.

Between a block's cross-attention and its feed-forward layers stands h ← h + strength · Attention(norm(h), style). No
hook is there, but the layer norm before the feed-forward layers sees h, and what is added to the norm's input and to
the layers' output is added to h.

Shapes: R rows of a batch, chunk after chunk of F frames, N pixels, C channels, T frames of the video, D of a style.
Source: SVP, section 3.3; `docs/design/styles.md` 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..checks import check_finite, check_range, check_shape
from ..diffusion.branches import Batch
from ..diffusion.sites import HEADS, SITES
from ..errors import InputError
from ..layers.attention import POSITIVE
from .attention_files import BASE
from .prior import BlendedStyle, Style
from .projection import StyleAttention, load_style_attention

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

MAX_STRENGTH = 2.0


@dataclass(frozen=True)
class FrameStyles:
    """Style and strength of every frame of a video; a single row applies to all frames."""

    styles: Tensor  # (T or 1, D)
    strengths: Tensor  # (T or 1,) 0 off .. 2

    def __post_init__(self) -> None:
        check_finite(check_shape(self.styles, "T D", "the styles"), "the styles")
        check_finite(check_shape(self.strengths, f"{len(self.styles)}", "the strengths"), "the strengths")
        check_range(float(self.strengths.min()), 0, MAX_STRENGTH, "the least style strength")
        check_range(float(self.strengths.max()), 0, MAX_STRENGTH, "the largest style strength")

    @property
    def is_active(self) -> bool:
        """Whether the style is on in any frame."""
        return bool((self.strengths > 0).any())

    def of(self, frames: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Styles (F, D) and strengths (F,) of some frames.

        Raises:
            InputError: a frame that there is no style for.
        """
        if len(self.styles) == 1:
            return self.styles.expand(len(frames), -1), self.strengths.expand(len(frames))
        unknown = [frame for frame in frames if not 0 <= frame < len(self.styles)]
        if unknown:
            raise InputError(f"the style has {len(self.styles)} frames, there is no frame {unknown[0]}.")
        return self.styles[list(frames)], self.strengths[list(frames)]


@dataclass(frozen=True)
class StyleConditioning:
    """Style conditioning of a UNet: the style attention and the styles of all frames."""

    net: StyleAttention
    styles: FrameStyles


def style_conditioning(
    style: Style | None,
    file: Path | None,
    device_and_dtype: tuple[str, torch.dtype],
    base: str = BASE,
    length: tuple[int, Fraction] = (1, Fraction(25)),
) -> StyleConditioning | None:
    """Style conditioning from a style and a style attention file; None without a file.

    Args:
        style: how the person speaks.
        file: of `portraittalk train style`, stage attention.
        device_and_dtype: device and dtype.
        base: the UNet that it conditions.
        length: frames of the video and their rate, for a style that changes over time.

    Raises:
        InputError: a file without a style, or one that was trained on another kind of style.
    """
    if file is None:
        return None
    if style is None:
        raise InputError("`style_attention` needs `style`: the style that it is to show.")
    net = load_style_attention(file)
    style = net.suited(style)
    net.warn_other_base(base)
    count = length[0] if isinstance(style, BlendedStyle) else 1
    return StyleConditioning(net.to(*device_and_dtype), FrameStyles(*net.drawn(style, count, length[1])))


class StyleRun:
    """A style attention bound to the styles of a video: what each block adds to the rows of the current batch.

    Rows that are not positive get zeros, as in training where the style was dropped with the text. Keys and values
    are kept until the frames change; of a net that learns, never.

    Args:
        net: the attention.
        styles: of every frame.
        batch: which rows the UNet works on; whoever calls the UNet keeps it up to date.
    """

    def __init__(self, net: StyleAttention, styles: FrameStyles, batch: Batch) -> None:
        width = net.style_proj.proj.in_features
        if styles.styles.shape[1] != width:
            style_width = styles.styles.shape[1]
            raise InputError(f"the style has {style_width} numbers, the style attention was trained on {width}.")
        self.net, self.styles, self.batch = net, styles, batch
        self._key: tuple | None = None
        self._tokens: Tensor | None = None
        self._factors: Tensor | None = None
        self._cache: dict[tuple, tuple[Tensor, Tensor]] = {}

    def clear_cache(self) -> None:
        """Drop the cached tokens, keys and values."""
        self._key = self._tokens = self._factors = None
        self._cache = {}

    def add(self, number: str, hidden: Tensor, heads: int = HEADS) -> Tensor | None:
        """Residual of a block's hidden states (R, N, C); None for no residual."""
        labels = tuple(self.batch.labels)
        count, remainder = divmod(len(hidden), len(labels))
        if remainder:
            raise InputError(f"{len(hidden)} rows cannot be {len(labels)} chunks of as many frames.")
        chunks = [chunk for chunk, label in enumerate(labels) if label == POSITIVE]
        if not chunks:
            return None
        self._prepare(count, hidden)
        all_positive = len(chunks) == len(labels)
        rows = hidden if all_positive else torch.cat([hidden[c * count : (c + 1) * count] for c in chunks])
        keys, values = self._keys_values(number, rows, len(chunks))
        site = self.net.site(number)
        added = site(rows.to(site.to_q.weight.dtype), keys, values, heads).to(hidden)
        added = added * self._factors.to(hidden).repeat(len(chunks))[:, None, None]
        if all_positive:
            return added
        parts, zeros = iter(added.split(count)), torch.zeros_like(added[:count])
        return torch.cat([next(parts) if label == POSITIVE else zeros for label in labels])

    def _prepare(self, count: int, hidden: Tensor) -> None:
        frames = tuple(self.batch.frames) or tuple(range(count))
        if len(frames) != count:
            raise InputError(f"{count} frames are being denoised, but {len(frames)} were named for their style.")
        key = (frames, hidden.device)
        if key == self._key and not self._learns():
            return
        self.clear_cache()
        styles, self._factors = self.styles.of(frames)
        self._tokens, self._key = self.net.tokens(styles.to(hidden.device)), key

    def _keys_values(self, number: str, rows: Tensor, chunks: int) -> tuple[Tensor, Tensor]:
        if self._learns():
            return self._make(number, chunks)
        key = (number, len(rows))
        if key not in self._cache:
            self._cache[key] = self._make(number, chunks)
        return self._cache[key]

    def _make(self, number: str, chunks: int) -> tuple[Tensor, Tensor]:
        keys, values = self.net.site(number).keys_values(self._tokens)
        return keys.repeat(chunks, 1, 1), values.repeat(chunks, 1, 1)

    def _learns(self) -> bool:
        return any(weight.requires_grad for weight in self.net.parameters())


class BlockHooks:
    """Forward hooks that add a residual to one transformer block's hidden states before its feed-forward layers.

    Args:
        add: the residual of hidden states (R, N, C); None for no residual.
    """

    def __init__(self, add: Callable[[Tensor], Tensor | None]) -> None:
        self._add, self._added = add, None

    def bind(self, norm: nn.Module, feed_forward: nn.Module) -> Callable[[], None]:
        """Register the hooks; the returned function removes them.

        Args:
            norm: the layer norm before the feed-forward layers.
            feed_forward: those layers.
        """
        hooks = [
            norm.register_forward_pre_hook(self._add_to_input),
            feed_forward.register_forward_hook(self._add_to_output),
        ]

        def release() -> None:
            for hook in hooks:
                hook.remove()
            self._added = None

        return release

    def _add_to_input(self, _norm: nn.Module, inputs: tuple) -> tuple | None:
        self._added = self._add(inputs[0])
        return None if self._added is None else (inputs[0] + self._added, *inputs[1:])

    def _add_to_output(self, _layers: nn.Module, _inputs: tuple, output: Tensor) -> Tensor | None:
        added, self._added = self._added, None
        return None if added is None else output + added


@contextmanager
def bind_style(unet: UNet2DConditionModel, run: StyleRun) -> Iterator[None]:
    """Context manager that binds a style attention to a diffusers UNet.

    Args:
        unet: of SD1.5's topology.
        run: the attention, the styles and the current batch.

    Raises:
        InputError: the attention does not fit the UNet.
    """
    try:
        with ExitStack() as bound:
            for site in SITES if run.styles.is_active else ():
                block = unet.get_submodule(f"{site.diffusers}.transformer_blocks.0")
                number, heads = site.adapter_key, block.attn2.heads
                _check_width(block.norm3.weight.shape[0], run.net, number)
                hooks = BlockHooks(lambda hidden, n=number, h=heads: run.add(n, hidden, h))
                bound.callback(hooks.bind(block.norm3, block.ff))
            yield
    finally:
        run.clear_cache()


def _check_width(width: int, net: StyleAttention, number: str) -> None:
    attention_width = net.site(number).to_q.weight.shape[0]
    if attention_width != width:
        raise InputError(
            f"the style attention is {attention_width} wide at site {number}, the UNet {width}; both must be for SD1.5."
        )
