"""Optimisers of training: Adam and AdamW with a learning rate that warms up and drops at milestones.

Sources: Kingma & Ba 2015, "Adam"; Loshchilov & Hutter 2019, "Decoupled weight decay regularization" (AdamW).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...options import check_options, option

if TYPE_CHECKING:
    from torch.amp import GradScaler

KINDS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # state of both kinds, of each weight


@dataclass(frozen=True)
class OptimizerOptions:
    """Options of an optimiser; defaults are PyTorch's."""

    optimizer: str = option("adamw", help="adam counts weight decay as part of the gradient", choices=tuple(KINDS))
    learning_rate: float = option(1e-3, 0, 1, "size of an update")
    betas: tuple[float, float] = option((0.9, 0.999), 0, 0.999999, "decay of the first and of the second moment")
    weight_decay: float = option(0.01, 0, 1, "how much weights shrink")
    clip_norm: float = option(1.0, 0, 1e9, "largest norm of all gradients of the optimiser together; 0 sets no limit")
    milestones: tuple[int, ...] = option((), 1, 10**9, "units done when the learning rate is multiplied by gamma")
    gamma: float = option(0.1, 0, 1, "factor of the learning rate at each milestone")
    warmup: int = option(0, 0, 10**9, "units in which the learning rate rises linearly from almost 0")

    def __post_init__(self) -> None:
        if len(self.betas) != 2:
            raise InputError(f"betas must be two numbers, not {self.betas!r}.")
        check_options(self)
        if list(self.milestones) != sorted(set(self.milestones)):
            raise InputError(f"milestones must rise, but are {', '.join(map(str, self.milestones))}.")

    @property
    def scheduled(self) -> bool:
        """Whether the learning rate has a schedule."""
        return bool(self.milestones or self.warmup)

    def learning_rate_at(self, step: int, unit_steps: int = 1) -> float:
        """The learning rate of a step: MultiStepLR's, times the warm-up's share.

        Args:
            step: from 1.
            unit_steps: steps of a unit: 1, or those of an epoch.
        """
        dropped = self.gamma ** bisect_right(self.milestones, (step - 1) // unit_steps)
        risen = min(1.0, step / (self.warmup * unit_steps)) if self.warmup else 1.0
        return self.learning_rate * dropped * risen


class ScheduledOptimizer:
    """An optimiser of named weights, whose state goes to and comes from a checkpoint's tensors.

    Args:
        name: for messages.
        parameters: what it trains, by name.
        options: how.
        unit_steps: steps of a unit of the schedule.
    """

    def __init__(
        self, name: str, parameters: Mapping[str, nn.Parameter], options: OptimizerOptions, unit_steps: int = 1
    ) -> None:
        self.name, self.parameters, self.options, self._unit_steps = name, dict(parameters), options, unit_steps
        kind = KINDS[options.optimizer]
        self._optimizer = kind(
            self.parameters.values(), options.learning_rate, betas=options.betas, weight_decay=options.weight_decay
        )

    def zero_grad(self) -> None:
        """Clear the gradients."""
        self._optimizer.zero_grad()

    def clip(self, scaler: GradScaler | None) -> float:
        """Limit the gradients' norm; returns what it was.

        Args:
            scaler: of losses in half precision; the gradients are brought back to their own scale first.
        """
        if all(weight.grad is None for weight in self.parameters.values()):
            raise ValueError(f"the loss of the optimiser {self.name!r} does not depend on any of its weights")
        if scaler is not None:
            scaler.unscale_(self._optimizer)
        limit = self.options.clip_norm or float("inf")
        return float(nn.utils.clip_grad_norm_(self.parameters.values(), limit))

    def step(self, step: int, scaler: GradScaler | None) -> float:
        """Update the weights in the step of a number, from 1; returns the learning rate.

        Args:
            step: from 1.
            scaler: leaves the update out where a gradient overflowed. Its own update is the caller's, once a step.
        """
        rate = self.options.learning_rate_at(step, self._unit_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        if scaler is None:
            self._optimizer.step()
        else:
            scaler.step(self._optimizer)
        return rate

    def state_tensors(self) -> dict[str, Tensor]:
        """The moments of each weight that has had an update, such as "exp_avg.conv.weight"."""
        return {
            f"{kind}.{name}": tensor
            for name, weight in self.parameters.items()
            for kind, tensor in self._optimizer.state.get(weight, {}).items()
        }

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the moments that `state_tensors` returned; those of other weights are ignored."""
        state = {
            index: {kind: tensors[f"{kind}.{name}"] for kind in MOMENTS}
            for index, name in enumerate(self.parameters)
            if f"step.{name}" in tensors
        }
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})
