"""Trainable LoRA of a UNet's attentions, under the names of the public FaceID files.

Source: LoRA, Hu et al. 2021; `docs/design/identitynet.md` 3.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ...diffusion.sites import SITES
from ...errors import InputError

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

PARTS = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}


def attention_layers(unet: UNet2DConditionModel) -> dict[str, nn.Linear]:
    """The 128 linear layers of SD1.5's attentions, by the adapter's names: "0.to_q", …, "31.to_out"."""
    layers = {}
    for site in SITES:
        for which, number in ((1, site.self_attention_key), (2, site.adapter_key)):
            attention = unet.get_submodule(site.attention(which))
            layers |= {f"{number}.to_{part}": attention.get_submodule(name) for part, name in PARTS.items()}
    return layers


def new_lora(unet: UNet2DConditionModel, rank: int, seed: int = 0) -> dict[str, Tensor]:
    """New LoRA weights with zero up-projections.

    Returns:
        "0.to_q_lora.down.weight" (rank, in), "0.to_q_lora.up.weight" (out, rank), …
    """
    draw, lora = torch.Generator().manual_seed(seed), {}
    for name, layer in attention_layers(unet).items():
        down = torch.randn(rank, layer.in_features, generator=draw) / rank
        lora[f"{name}_lora.down.weight"] = down
        lora[f"{name}_lora.up.weight"] = torch.zeros(layer.out_features, rank)
    return lora


@contextlib.contextmanager
def attached(unet: UNet2DConditionModel, lora: Mapping[str, Tensor]) -> Iterator[None]:
    """Apply a LoRA at full strength within the context by forward hooks; the UNet's weights stay unchanged.

    Raises:
        InputError: a name or shape that does not fit the UNet.
    """
    layers, hooks = attention_layers(unet), []
    expected = {f"{name}_lora.{direction}.weight" for name in layers for direction in ("down", "up")}
    unexpected = sorted(lora.keys() - expected)
    if unexpected:
        raise InputError(f"the adapter's LoRA holds {', '.join(unexpected[:4])}, for which SD1.5 has no attention.")
    for name, layer in layers.items():
        down, up = (lora.get(f"{name}_lora.{direction}.weight") for direction in ("down", "up"))
        if down is None or up is None:
            continue
        if (down.shape[1], up.shape[0]) != (layer.in_features, layer.out_features):
            raise InputError(f"the adapter's LoRA {name} is made for a UNet of other widths than this one.")
        hooks.append(layer.register_forward_hook(_add(down, up)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _add(down: Tensor, up: Tensor) -> Callable:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return out + linear(linear(inputs[0].to(down), down), up).to(out)

    return hook
