"""Base of training stages with a discriminator: the discriminator itself, the optimisers of both, weighted losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...layers.patch_discriminator import DiscriminatorOptions, MultiScaleDiscriminator
from .optimizers import OptimizerOptions
from .stage import Loss, Trainable

GENERATOR, DISCRIMINATOR = "generator", "discriminator"  # names of the optimisers


def new_discriminator(options: DiscriminatorOptions, seed: int) -> MultiScaleDiscriminator:
    """A discriminator with random weights of a training's seed, other ones than the generator's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        return MultiScaleDiscriminator(options)


def adversarial_trainables(
    generator: nn.Module, discriminator: nn.Module | None, options: OptimizerOptions | None = None
) -> dict[str, Trainable]:
    """The generator's weights, and the discriminator's if there is one, of which no average is kept.

    Args:
        generator: what is used in the end.
        discriminator: in training alone.
        options: of the discriminator's optimiser; None: the trainer's.
    """
    trainables = {GENERATOR: Trainable.of(generator)}
    if discriminator is not None:
        trainables[DISCRIMINATOR] = Trainable.of(discriminator, f"{DISCRIMINATOR}.", options, averaged=False)
    return trainables


class AdversarialStage:
    """Base of stages that train a generator, with a discriminator or without; a subclass has the rest of `Stage`.

    Args:
        model: the generator.
        losses_of: compares its pictures with others.
        discriminator: None: there is none.
    """

    def __init__(self, model: nn.Module, losses_of: nn.Module, discriminator: nn.Module | None) -> None:
        self.model, self.losses_of, self.discriminator = model, losses_of, discriminator
        self._device = torch.device("cpu")

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device; the weights stay float32."""
        self._device = device
        for network in (self.model, self.losses_of, self.discriminator):
            if network is not None:
                network.to(device)

    @staticmethod
    def generator_loss(terms: Mapping[str, Tensor], weights: object) -> Loss:
        """The generator's loss, and its terms for the log.

        Args:
            terms: scalars by name.
            weights: has a number of each name; what weighs nothing is logged alone.
        """
        total = sum(getattr(weights, name) * value for name, value in terms.items() if getattr(weights, name))
        return Loss(GENERATOR, total, {name: float(value.detach()) for name, value in terms.items()})
