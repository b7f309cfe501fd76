"""The contract between the trainer and what it trains: trainable networks, their optimisers, batches and losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .optimizers import OptimizerOptions

MAIN = "main"  # name of the optimiser of a stage that has one


@dataclass(frozen=True)
class Trainable:
    """The weights of one optimiser, and the networks whose buffers change as they train.

    Buffers are what a network's state dict holds besides parameters: BatchNorm's running statistics and counters,
    spectral norm's vectors. They are saved and restored with the weights.
    """

    parameters: Mapping[str, nn.Parameter]  # in float32; names differ between all optimisers of a stage
    networks: Mapping[str, nn.Module] = field(default_factory=dict)  # by what their buffers' names begin with
    options: OptimizerOptions | None = None  # of the optimiser; None: as the trainer's configuration says
    averaged: bool = True  # whether a moving average is kept; a discriminator needs none

    @classmethod
    def of(
        cls, network: nn.Module, prefix: str = "", options: OptimizerOptions | None = None, averaged: bool = True
    ) -> Trainable:
        """All parameters of a network that require a gradient, and its buffers.

        Args:
            network: in float32.
            prefix: what the names begin with: "generator.".
            options: see the class.
            averaged: see the class.
        """
        named = {f"{prefix}{name}": weight for name, weight in network.named_parameters() if weight.requires_grad}
        return cls(named, {prefix: network}, options, averaged)

    def buffers(self) -> dict[str, Tensor]:
        """Persistent buffers by name, as they are now."""
        return {
            f"{prefix}{name}": tensor
            for prefix, network in self.networks.items()
            for name, tensor in network.state_dict(keep_vars=True).items()
            if isinstance(tensor, Tensor) and not isinstance(tensor, nn.Parameter)
        }


@dataclass(frozen=True)
class StepContext:
    """Step, epoch and random generator of a batch."""

    step: int  # from 1
    epoch: int  # whole passes through the data before this step; 0 where the data have no size
    generator: torch.Generator  # on the CPU; the only source of chance, and the same for a step's part in every run


@dataclass(frozen=True)
class Loss:
    """A loss that one optimiser minimises."""

    optimizer: str  # name
    value: Tensor  # scalar
    logged: Mapping[str, float] = field(default_factory=dict)  # more numbers for the log


class Stage(Protocol):
    """Contract of a training stage. With several optimisers, a step updates each that has a loss in it."""

    def optimizers(self) -> Mapping[str, Trainable]:
        """Trainable weights of each optimiser by name; called once, after `place`."""

    def settings(self) -> Mapping[str, object]:
        """Settings that a resumed run must share, as JSON values."""

    def num_samples(self) -> int | None:
        """Samples of an epoch; None where the data have no size, so that nothing can be counted in epochs."""

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move everything to the device, and what is frozen to the type."""

    def batch(self, step: int, part: int) -> Any:  # noqa: ANN401 - the stage's own
        """The samples of a step's part; the same for the same numbers, whatever the order."""

    def losses(self, batch: Any, context: StepContext) -> Iterable[Loss]:  # noqa: ANN401
        """The losses of a batch, one after the other; a generator function that yields them.

        Each is differentiated as it comes, with respect to its own optimiser's weights alone, before the next one is
        computed; all optimisers step after the last, so that every loss sees the weights from before the step. An
        optimiser that gets no loss in a step rests in it.
        """

    def sample_images(self, tick: Callable[[], None]) -> Sequence[Tensor]:
        """Pictures (H, W, 3) uint8 of one size that show what has been learnt; calls `tick` now and then."""


class SingleLossStage:
    """Base of stages that train one set of weights by one loss; a subclass has `trainable` and `loss`."""

    def trainable(self) -> Mapping[str, nn.Parameter]:
        """The weights to train, by name, in float32."""
        raise NotImplementedError

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:  # noqa: ANN401
        """A scalar, and numbers to log; all chance from the generator, which is on the CPU."""
        raise NotImplementedError

    def num_samples(self) -> int | None:
        """None: data without a size."""
        return None

    def optimizers(self) -> dict[str, Trainable]:
        """A single optimiser for all weights; networks whose buffers change need a `Trainable` of their own."""
        return {MAIN: Trainable(self.trainable())}

    def losses(self, batch: Any, context: StepContext) -> Iterator[Loss]:  # noqa: ANN401
        """The single loss."""
        yield Loss(MAIN, *self.loss(batch, context.generator))
