"""Order of training examples: a seeded permutation per epoch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

KEPT = 4  # permutations: a batch at an epoch's end needs two, for each of two data sets


def example_at(place: int, count: int, seed: int) -> int:
    """Index, 0..count − 1, of the example at a position of training, counted from 0.

    Every example comes once before one comes again, in another order each time; the same for the same arguments,
    independent of earlier calls, so that training can resume anywhere.
    """
    epoch, within = divmod(place, count)
    return int(_order(count, seed, epoch)[within])


@lru_cache(KEPT)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    """(count,) the indices of an epoch."""
    return np.random.default_rng([seed, 0, epoch]).permutation(count)
