"""Signals in blocks: what is made of a whole signal, however it is cut."""

import numpy as np
import pytest
import torch

from portraittalk_core.speech.blocks import every_other, in_blocks, in_step

SIGNAL = torch.arange(97.0).square() % 31


def weighted(rows: torch.Tensor) -> torch.Tensor:
    """Two rows back, one ahead, zeros outside."""
    padded = torch.nn.functional.pad(rows, (2, 1))
    return 4 * padded[:-3] + 2 * padded[1:-2] + padded[2:-1] + 3 * padded[3:]


@pytest.mark.parametrize("size", [1, 7, 40, 200])
@pytest.mark.parametrize("least", [1, 10])
def test_a_function_in_blocks_is_the_convolution_of_the_whole(size, least):
    blocks = list(in_blocks(weighted, SIGNAL.split(size), behind=2, ahead=1, least=least))
    expected = np.convolve(np.concatenate([SIGNAL.numpy(), [0.0]]), [3, 1, 2, 4])[1:98]
    np.testing.assert_array_equal(torch.cat(blocks).numpy(), expected)
    assert all(len(block) >= min(least, 2**number) for number, block in enumerate(blocks[:-1]))


def test_a_result_comes_as_soon_as_what_lies_ahead_is_known():
    asked = []
    blocks = (asked.append(number) or SIGNAL[10 * number : 10 * number + 10] for number in range(9))
    next(in_blocks(weighted, blocks, behind=2, ahead=11))
    assert asked == [0, 1]  # 20 rows, of which the first nine have eleven behind them


def test_signals_in_step_have_as_many_rows_and_lose_none():
    turns = list(in_step(SIGNAL.split(10), (-SIGNAL).split(7), (2 * SIGNAL).split(97)))
    assert all(len({len(block) for block in turn}) == 1 for turn in turns)
    for number, factor in enumerate((1, -1, 2)):
        assert torch.equal(torch.cat([turn[number] for turn in turns]), factor * SIGNAL)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_every_other_row(size):
    assert torch.equal(torch.cat(list(every_other(SIGNAL.split(size)))), SIGNAL[::2])
