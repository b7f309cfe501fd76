"""What both parts of the identity benchmark share: random weights and what a run is."""

from __future__ import annotations

SIGMA = 2.5
STEPS = 4  # of a run: what is done once a run counts as it does there, or a little more


def nothing() -> None:
    """Wait for a CPU."""


def filled(network, seed: int = 0):  # noqa: ANN001, ANN201
    """Random weights that keep activations in bounds, drawn once and repeated: a billion draws would take minutes."""
    import torch

    pool = torch.randn(4_000_037, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim < 2:
                weight.fill_(1.0 if name.endswith("weight") else 0.0)
                continue
            count, fan_in = weight.numel(), weight[0].numel()
            repeated = pool.repeat(-(-count // len(pool)))[:count] if count > len(pool) else pool[:count]
            weight.copy_((repeated / fan_in**0.5).reshape(weight.shape))
    return network.eval().requires_grad_(False)
