"""Toy styles: two style means, each with a picture pattern of its own, and a training of two steps."""

from __future__ import annotations

import itertools

import torch

from portraittalk_core.style.prior import StylePrior
from portraittalk_core.training.style.config import StyleAttentionTrainer

STYLE_WIDTH = 8
MEANS = torch.randn(2, STYLE_WIDTH, generator=torch.Generator().manual_seed(0))
QUICK = StyleAttentionTrainer(
    steps=2, batch_size=2, gradient_accumulation=1, learning_rate=1e-3, ema_decay=0.5, save_every=1, sample_every=0
)


def halves(style: int, number: int) -> torch.Tensor:
    """A picture that is bright above and dark below, or on the left and the right, in a tint of its own."""
    draw = torch.Generator().manual_seed(1000 * style + number)
    picture = torch.full((3, 64, 64), -0.6)
    picture[:, :, :32] = 0.6
    picture = picture if style == 0 else picture.transpose(1, 2)
    return picture * torch.tensor([1, -1, 1.0]).view(3, 1, 1) + 0.2 * torch.randn(3, 1, 1, generator=draw)


def toy_priors(count: int) -> list[StylePrior]:
    """The styles of so many videos, one after the other."""
    rows = itertools.islice(itertools.cycle(MEANS), count)
    return [StylePrior(m, torch.zeros(STYLE_WIDTH), torch.full((STYLE_WIDTH,), 0.5), "extractor:toy", str(n), noise=0.1)
            for n, m in enumerate(rows)]  # fmt: skip
