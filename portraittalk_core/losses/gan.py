"""Adversarial losses of a generator and a discriminator: least squares and hinge.

A discriminator gives one map of logits for each of its scales; a loss is a mean over each map, and over scales.
Sources: Mao et al. 2017, "Least squares generative adversarial networks" (LSGAN), equation 9; Lim & Ye 2017,
"Geometric GAN", section 3, and Miyato et al. 2018, "Spectral normalization", equations 16 and 17 (hinge).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import relu

from ..checks import check_choice
from ..errors import InputError

KINDS = ("lsgan", "hinge")


def discriminator_loss(real: Sequence[Tensor], generated: Sequence[Tensor], kind: str = "lsgan") -> Tensor:
    """Loss of the discriminator: raises the logits of real pictures and lowers those of generated ones.

    LSGAN: ½ mean (D(x) − 1)² + ½ mean D(G)². Hinge: mean max(0, 1 − D(x)) + mean max(0, 1 + D(G)).

    Args:
        real: logits of real pictures, one map of any shape for each scale.
        generated: logits of generated pictures, which were detached from the generator.
        kind: "lsgan" or "hinge".

    Returns:
        A scalar, float32.

    Raises:
        InputError: another kind, or another number of scales.
    """
    check_choice(kind, KINDS, "the adversarial loss")
    _check_scales(real, generated)
    if kind == "hinge":
        return _mean(real, lambda x: relu(1 - x)) + _mean(generated, lambda x: relu(1 + x))
    return 0.5 * (_mean(real, lambda x: (x - 1).square()) + _mean(generated, torch.square))


def generator_loss(generated: Sequence[Tensor], kind: str = "lsgan") -> Tensor:
    """Loss of the generator: raises the discriminator's logits of its pictures.

    LSGAN: mean (D(G) − 1)², without the paper's ½. Hinge: −mean D(G).

    Args:
        generated: logits of generated pictures, one map of any shape for each scale.
        kind: "lsgan" or "hinge".

    Returns:
        A scalar, float32.

    Raises:
        InputError: another kind, or no scale.
    """
    check_choice(kind, KINDS, "the adversarial loss")
    _check_scales(generated, generated)
    if kind == "hinge":
        return _mean(generated, torch.neg)
    return _mean(generated, lambda x: (x - 1).square())


def _mean(maps: Sequence[Tensor], cost: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([cost(logits.float()).mean() for logits in maps]).mean()


def _check_scales(real: Sequence[Tensor], generated: Sequence[Tensor]) -> None:
    if isinstance(real, Tensor) or isinstance(generated, Tensor):
        raise InputError("the adversarial loss takes a list with the logits of each scale, not one tensor.")
    if not real or len(real) != len(generated):
        raise InputError(f"logits of {len(real)} and {len(generated)} scales cannot be compared.")
