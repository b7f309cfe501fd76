"""Shared parts of the SD1.5 benchmarks: random networks of the true shape, and timing."""

from __future__ import annotations

import time
from collections.abc import Callable

SIGMA = 2.5
STEPS = 4  # of a run: what is done once a run counts as it does there, or a little more
TINY = {"block_out_channels": (32, 64, 128, 128), "cross_attention_dim": 48}


def nothing() -> None:
    """Synchronisation of a CPU: no operation."""


def measured(
    variants: dict[str, Callable[[], object]], rounds: int, wait: Callable[[], None], warm_up: bool = True
) -> dict[str, list[float]]:
    """Milliseconds of each variant for each round, variants in turn; the first round only warms up.

    On the CPU it is processor time, of which the minimum counts: other processes only ever add.
    """
    clock = time.process_time if wait is nothing else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + warm_up):
        for name, call in variants.items():
            wait()
            started = clock()
            call()
            wait()
            if turn or not warm_up:
                times[name].append(1000 * (clock() - started))
    return times


def filled(network, seed: int = 0):  # noqa: ANN001, ANN201
    """Fill a network with random weights scaled by fan-in, from a repeated pool: a billion draws take minutes."""
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


def random_network(kind: type, tiny: bool, device, dtype, seed: int = 0):  # noqa: ANN001, ANN201
    """A UNet or ControlNet of diffusers with random weights, of SD1.5's shape or tiny."""
    import torch

    with torch.device("meta"):
        network = kind(**{"cross_attention_dim": 768, "attention_head_dim": 8, **(TINY if tiny else {})})
    return filled(network.to_empty(device=device).to(dtype), seed)


def random_adapter(unet, width: int):  # noqa: ANN001, ANN201
    """An identity adapter with random weights for a UNet with text tokens of a width."""
    from portraittalk_core.diffusion.sites import SITES
    from portraittalk_core.renderers.identitynet.adapter import new_adapter

    widths = {s.adapter_key: unet.get_submodule(s.attention(2)).to_q.out_features for s in SITES}
    return filled(new_adapter(widths, width), 1)
