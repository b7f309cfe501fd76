"""Lets the transformer blocks of a UNet look at a style, after the text, the face and whatever else is there.

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

MOST_STRENGTH = 2.0


@dataclass(frozen=True)
class FrameStyles:
    """The style of every frame of a video; one row is that of all frames."""

    styles: Tensor  # (T or 1, D)
    strengths: Tensor  # (T or 1,) 0 off .. 2

    def __post_init__(self) -> None:
        check_finite(check_shape(self.styles, "T D", "the styles"), "the styles")
        check_finite(check_shape(self.strengths, f"{len(self.styles)}", "the strengths"), "the strengths")
        check_range(float(self.strengths.min()), 0, MOST_STRENGTH, "the least style strength")
        check_range(float(self.strengths.max()), 0, MOST_STRENGTH, "the largest style strength")

    @property
    def acts(self) -> bool:
        """Whether the style is on in any frame."""
        return bool((self.strengths > 0).any())

    def of(self, frames: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Styles (F, D) and strengths (F,) of some frames.

        Raises:
            InputError: a frame that there is no style for.
        """
        if len(self.styles) == 1:
            return self.styles.expand(len(frames), -1), self.strengths.expand(len(frames))
        strange = [frame for frame in frames if not 0 <= frame < len(self.styles)]
        if strange:
            raise InputError(f"the style has {len(self.styles)} frames, there is no frame {strange[0]}.")
        return self.styles[list(frames)], self.strengths[list(frames)]


@dataclass(frozen=True)
class StyleCues:
    """What a UNet is told of how the person speaks."""

    net: StyleAttention
    styles: FrameStyles


def style_cues(
    style: Style | None,
    file: Path | None,
    place: tuple[str, torch.dtype],
    base: str = BASE,
    length: tuple[int, Fraction] = (1, Fraction(25)),
) -> StyleCues | None:
    """A style and the attention of a file by which a UNet looks at it; None without a file.

    Args:
        style: how the person speaks.
        file: of `portraittalk train style`, stage attention.
        place: device and dtype.
        base: which UNet is to look at it.
        length: frames of the video and their rate, for a style that changes over time.

    Raises:
        InputError: a file without a style, or one that was trained on another kind of style.
    """
    if file is None:
        return None
    if style is None:
        raise InputError("`style_attention` needs `style`: the style that it is to show.")
    net = load_style_attention(file)
    net.check_space(style.space, style.source)
    net.tell_base(base)
    count = length[0] if isinstance(style, BlendedStyle) else 1
    return StyleCues(net.to(*place), FrameStyles(style.draw(count, length[1]), style.strengths(count, length[1])))


class StyleRun:
    """A style attention with the styles of a video: what each block adds, for the rows at hand.

    Rows that are not positive get nothing, as in training where the style was dropped with the text. Keys and values
    are kept until the frames change; of a net that learns, never.

    Args:
        net: the attention.
        styles: of every frame.
        batch: which rows the UNet works on; whoever calls the UNet keeps it up to date.
    """

    def __init__(self, net: StyleAttention, styles: FrameStyles, batch: Batch) -> None:
        width = net.style_proj.proj.in_features
        if styles.styles.shape[1] != width:
            found = styles.styles.shape[1]
            raise InputError(f"the style has {found} numbers, the style attention was trained on {width}.")
        self.net, self.styles, self.batch = net, styles, batch
        self._asked: tuple | None = None
        self._tokens: Tensor | None = None
        self._factors: Tensor | None = None
        self._made: dict[tuple, tuple[Tensor, Tensor]] = {}

    def clear_cache(self) -> None:
        """Drop what is kept."""
        self._asked = self._tokens = self._factors = None
        self._made = {}

    def add(self, number: str, hidden: Tensor, heads: int = HEADS) -> Tensor | None:
        """What a block adds to its hidden states (R, N, C); None adds nothing."""
        labels = tuple(self.batch.labels)
        count, over = divmod(len(hidden), len(labels))
        if over:
            raise InputError(f"{len(hidden)} rows cannot be {len(labels)} chunks of as many frames.")
        chunks = [chunk for chunk, label in enumerate(labels) if label == POSITIVE]
        if not chunks:
            return None
        self._prepare(count, hidden)
        every = len(chunks) == len(labels)
        rows = hidden if every else torch.cat([hidden[c * count : (c + 1) * count] for c in chunks])
        keys, values = self._keys_values(number, rows, len(chunks))
        site = self.net.site(number)
        added = site(rows.to(site.to_q.weight.dtype), keys, values, heads).to(hidden)
        added = added * self._factors.to(hidden).repeat(len(chunks))[:, None, None]
        if every:
            return added
        parts, nothing = iter(added.split(count)), torch.zeros_like(added[:count])
        return torch.cat([next(parts) if label == POSITIVE else nothing for label in labels])

    def _prepare(self, count: int, hidden: Tensor) -> None:
        frames = tuple(self.batch.frames) or tuple(range(count))
        if len(frames) != count:
            raise InputError(f"{count} frames are being denoised, but {len(frames)} were named for their style.")
        asked = (frames, hidden.device)
        if asked == self._asked and not self._learns():
            return
        self.clear_cache()
        styles, self._factors = self.styles.of(frames)
        self._tokens, self._asked = self.net.tokens(styles.to(hidden.device)), asked

    def _keys_values(self, number: str, rows: Tensor, chunks: int) -> tuple[Tensor, Tensor]:
        if self._learns():
            return self._make(number, chunks)
        asked = (number, len(rows))
        if asked not in self._made:
            self._made[asked] = self._make(number, chunks)
        return self._made[asked]

    def _make(self, number: str, chunks: int) -> tuple[Tensor, Tensor]:
        keys, values = self.net.site(number).keys_values(self._tokens)
        return keys.repeat(chunks, 1, 1), values.repeat(chunks, 1, 1)

    def _learns(self) -> bool:
        return any(weight.requires_grad for weight in self.net.parameters())


class BlockHooks:
    """Adds something to the hidden states of one transformer block, before its feed-forward layers.

    Args:
        add: makes what is added of hidden states (R, N, C); None adds nothing.
    """

    def __init__(self, add: Callable[[Tensor], Tensor | None]) -> None:
        self._add, self._added = add, None

    def bind(self, norm: nn.Module, feed_forward: nn.Module) -> Callable[[], None]:
        """Take part in a block until the returned function is called.

        Args:
            norm: the layer norm before the feed-forward layers.
            feed_forward: those layers.
        """
        hooks = [norm.register_forward_pre_hook(self._before), feed_forward.register_forward_hook(self._after)]

        def release() -> None:
            for hook in hooks:
                hook.remove()
            self._added = None

        return release

    def _before(self, _norm: nn.Module, given: tuple) -> tuple | None:
        self._added = self._add(given[0])
        return None if self._added is None else (given[0] + self._added, *given[1:])

    def _after(self, _layers: nn.Module, _given: tuple, output: Tensor) -> Tensor | None:
        added, self._added = self._added, None
        return None if added is None else output + added


@contextmanager
def bind_style(unet: UNet2DConditionModel, run: StyleRun) -> Iterator[None]:
    """Let a diffusers UNet look at a style for as long as the context lasts.

    Args:
        unet: of SD1.5's topology.
        run: the attention, the styles and the rows at hand.

    Raises:
        InputError: the attention does not fit the UNet.
    """
    try:
        with ExitStack() as bound:
            for site in SITES if run.styles.acts else ():
                block = unet.get_submodule(f"{site.diffusers}.transformer_blocks.0")
                number, heads = site.adapter_key, block.attn2.heads
                _check_width(block.norm3.weight.shape[0], run.net, number)
                hooks = BlockHooks(lambda hidden, n=number, h=heads: run.add(n, hidden, h))
                bound.callback(hooks.bind(block.norm3, block.ff))
            yield
    finally:
        run.clear_cache()


def _check_width(width: int, net: StyleAttention, number: str) -> None:
    own = net.site(number).to_q.weight.shape[0]
    if own != width:
        raise InputError(
            f"the style attention is {own} wide at site {number}, the UNet {width}; both must be for SD1.5."
        )
