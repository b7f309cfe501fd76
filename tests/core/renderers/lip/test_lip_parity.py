"""IP-LAP's networks against what the public code gave for the same weights and pictures.

Weights and pictures are sines, so that both sides can make them. Recorded with Weizhi-Zhong/IP_LAP 9b9dc03, whose
`downsample(x, (64, 64))` halved these smaller pictures; true sizes: benchmarks/parity_lips.py.
"""

import pytest
import torch
from torch import Tensor, nn

from portraittalk_core.renderers.lip.contract import LipBatch, References
from portraittalk_core.renderers.lip.iplap import IpLap
from portraittalk_core.renderers.lip.sizes import LipSizes

SIDE, COUNT = 16, 3
RECORDED = {  # of 6 digits
    "narrow": [0.119063, 0.505942, 0.0175589, 0, 0.129837, 0.283657, 0.150493, 0, 0.206036],
    "wide": [0.500863, 0.0482504, 0.122857, 0, 0, 0.302263, 0.0259442, 0.38774, 0.234453],
    "aligned": [0.265245, 0.375406, 0.407943, 0.537334, 0.428838, 0.626988, 0.568685, 0.0252277, 0.438903],
    "picture": [0.495128, 0.533447, 0.503069, 0.527054, 0.561779, 0.481324, 0.531756, 0.518984, 0.501381],
}


def sines(*shape: int, seed: float) -> Tensor:
    """Numbers of -1..1 that only repeat after very many."""
    count = int(torch.tensor(shape).prod())
    return torch.sin(torch.arange(count, dtype=torch.float64) * 1.7 + seed).float().reshape(shape)


def filled(network: nn.Module) -> nn.Module:
    """The network with sines for weights and running statistics, in evaluation mode."""
    state = network.state_dict()
    for i, (name, tensor) in enumerate(sorted(state.items())):
        values = sines(*tensor.shape, seed=i) if tensor.ndim else tensor
        if name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
            state[name] = 1 + values / 2
        elif tensor.ndim > 1:
            state[name] = values * (2 / max(tensor[0].numel(), 1)) ** 0.5
        elif tensor.ndim:
            state[name] = values / 4
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def inputs() -> tuple[Tensor, ...]:
    """BGR crop, sketches, reference pictures and their sketches, mel."""
    crop, references = (sines(n, 3, SIDE, SIDE, seed=n) / 2 + 0.5 for n in (1, COUNT))
    sketches, drawn = sines(1, 5, 3, SIDE, SIDE, seed=5) / 2 + 0.5, sines(COUNT, 3, SIDE, SIDE, seed=6) / 2 + 0.5
    return crop, sketches, references, drawn, 4 * sines(1, 80, 16, seed=7)


def some(values: Tensor) -> list[float]:
    """Eight of the numbers, spread over all, and their mean."""
    flat = values.flatten().double()
    return [*flat[torch.linspace(0, len(flat) - 1, 8).long()].tolist(), flat.mean().item()]


@pytest.fixture(scope="module")
def network():
    with torch.device("meta"):
        empty = IpLap(LipSizes(size=SIDE))
    return filled(empty.to_empty(device="cpu"))


def test_public_code_gives_the_same(network):
    crop, sketches, references, drawn, mel = inputs()
    features = network.encode(References(references.flip(1), drawn.flip(1), references[:0], drawn[:0]))
    aligned = network.flow_module(features, sketches.flatten(1, 2))
    picture = network.paint(features, LipBatch(crop.flip(1), sketches, mel)).flip(1)
    found = {"narrow": aligned.narrow, "wide": aligned.wide, "aligned": aligned.picture, "picture": picture}
    for name, values in found.items():
        assert some(values) == pytest.approx(RECORDED[name], rel=1e-4, abs=2e-5), name
