"""Signals as streams of blocks: what a function makes of a whole signal, made block by block.

A block is a tensor of some rows (n, …) of a signal that follow those of the block before. Results do not depend on
where blocks are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

SOONER = 8  # times fewer rows are worth the first call of a function than later ones


def in_blocks(
    function: Callable[[Tensor], Tensor], blocks: Iterable[Tensor], behind: int, ahead: int, least: int = 1
) -> Iterator[Tensor]:
    """Apply a function of a whole signal to its blocks.

    Args:
        function: (T, …) rows to (T, …) rows, each of which depends on rows near it alone, besides the signal's ends.
        blocks: of any sizes.
        behind: how many rows back any row of the result looks.
        ahead: how many rows ahead; so much later the results come.
        least: rows from which on it is worth calling the function; the first calls are of fewer, so that the first
            results come soon, and so may the last be.

    Yields:
        The rows of `function` of the whole signal.
    """
    # rows still needed; how many are answered; how many are worth it
    buffered, done, due = None, 0, -(-least // SOONER)
    for block in blocks:
        buffered = block if buffered is None else torch.cat([buffered, block])
        until = len(buffered) - ahead
        if until - done < due:
            continue
        yield function(buffered)[done:until]
        cut = max(0, until - behind)
        buffered, done, due = buffered[cut:], until - cut, min(2 * due, least)
    if buffered is not None and len(buffered) > done:
        yield function(buffered)[done:]


def in_step(*streams: Iterable[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Blocks of several signals, cut so that those of a turn have as many rows; ends with the shortest signal."""
    sources = [iter(stream) for stream in streams]
    buffered: list[Tensor] = []
    while True:
        for number, source in enumerate(sources):
            if number == len(buffered) or not len(buffered[number]):
                block = next(source, None)
                if block is None:
                    return
                buffered[number : number + 1] = [block]
        count = min(len(block) for block in buffered)
        if count:
            yield tuple(block[:count] for block in buffered)
            buffered = [block[count:] for block in buffered]


def every_other(blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Rows 0, 2, 4, … of a signal."""
    first = 0
    for block in blocks:
        yield block[first::2]
        first = (first + len(block)) % 2
