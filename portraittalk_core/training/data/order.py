"""In which order training sees its examples."""

from __future__ import annotations

import numpy as np


def example_at(place: int, count: int, seed: int) -> int:
    """The number, 0..count − 1, of the example at a place of training, counted from 0.

    Every example comes once before one comes again, in another order each time; the same for the same arguments,
    whatever was asked before, so that training can go on anywhere.
    """
    epoch, within = divmod(place, count)
    return int(np.random.default_rng([seed, 0, epoch]).permutation(count)[within])
