"""What stages with a discriminator share: the discriminator itself, and the optimisers of both."""

from __future__ import annotations

import torch
from torch import nn

from ...layers.patch_discriminator import DiscriminatorOptions, MultiScaleDiscriminator
from .optimizers import OptimizerOptions
from .stage import Trainable

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
