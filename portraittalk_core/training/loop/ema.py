"""Exponential moving average of weights in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from ...checks import check_range


class Ema:
    """Averages that follow some parameters.

    Args:
        parameters: what to follow, by name.
        decay: share of the old average that every update keeps, below 1. The n-th update keeps no more than
            (1 + n) / (10 + n), so that the start is soon forgotten.
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        self._parameters, self.decay, self.updates = dict(parameters), check_range(decay, 0, 1, "ema_decay"), 0
        self.averages = {name: tensor.detach().clone().float() for name, tensor in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the parameters as they are now."""
        self.updates += 1
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, average in self.averages.items():
            average.lerp_(self._parameters[name].float(), 1 - kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages in the parameters' place for as long as the context lasts."""
        before = {name: tensor.detach().clone() for name, tensor in self._parameters.items()}
        _copy(self._parameters, self.averages)
        try:
            yield
        finally:
            _copy(self._parameters, before)


@torch.no_grad()
def _copy(to: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    for name, tensor in to.items():
        tensor.copy_(source[name])
