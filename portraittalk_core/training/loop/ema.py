"""Exponential moving average of weights, and of the buffers that go with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from ...checks import check_range

AVERAGED_BUFFERS = ("running_mean", "running_var")  # BatchNorm's, by the last part of the name


class Ema:
    """Exponential moving averages of parameters and buffers.

    Parameters and BatchNorm's running statistics are averaged: a network with averaged weights sees activations as
    they were on average. Other buffers are copied: counters are no floats, and spectral norm's singular vectors must
    keep length 1.

    Args:
        parameters: what to follow, by name.
        decay: share of the old average that every update keeps, below 1. The n-th update keeps no more than
            (1 + n) / (10 + n), so that the start is soon forgotten.
        buffers: gives the buffers to follow, by name, as they are now; names that are no parameter's.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        decay: float,
        buffers: Callable[[], Mapping[str, Tensor]] = dict,
    ) -> None:
        self._parameters, self.decay, self.updates = dict(parameters), check_range(decay, 0, 1, "ema_decay"), 0
        self._buffers = buffers
        self.averages = {name: tensor.detach().clone().float() for name, tensor in self._parameters.items()}
        for name, tensor in buffers().items():
            copied = tensor.detach().clone()
            self.averages[name] = copied.float() if self.is_averaged(name) else copied

    def is_averaged(self, name: str) -> bool:
        """Whether a tensor is averaged; else the latest value is kept."""
        return name in self._parameters or name.rpartition(".")[2] in AVERAGED_BUFFERS

    @torch.no_grad()
    def update(self) -> None:
        """Update the averages with the current values."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, tensor in self._now().items():
            if self.is_averaged(name):
                self.averages[name].lerp_(tensor.float(), 1 - decay)
            else:
                self.averages[name].copy_(tensor)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Swap the averages into the parameters and buffers within the context."""
        saved = {name: tensor.detach().clone() for name, tensor in self._now().items()}
        _copy(self._now(), self.averages)
        try:
            yield
        finally:
            _copy(self._now(), saved)

    def _now(self) -> dict[str, Tensor]:
        return {**self._parameters, **self._buffers()}


@torch.no_grad()
def _copy(to: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    for name, tensor in to.items():
        tensor.copy_(source[name])
