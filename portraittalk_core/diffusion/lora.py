"""Merging of LoRA weights under Kohya's names into SD1.5's networks.

Source: Hu et al. 2021, eq. 3: W + strength · alpha / rank · up · down; names as in kohya-ss/sd-scripts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import InputError
from .checkpoint import CONTEXT_WIDTHS, SD15

UP, DOWN, ALPHA = "lora_up.weight", "lora_down.weight", "alpha"
MAX_LISTED = 6  # names in a warning

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Change:
    """The low-rank update of one layer."""

    layer: nn.Linear | nn.Conv2d
    up: Tensor  # (out, rank), or (out, rank, 1, 1)
    down: Tensor  # (rank, in), or (rank, in, kh, kw)
    scale: float  # alpha / rank

    def fits(self) -> bool:
        rank, weight = len(self.down), self.layer.weight
        return self.up.numel() == len(weight) * rank and self.down[0].numel() == weight[0].numel()


@torch.no_grad()
def merge_lora(sd15: SD15, tensors: Mapping[str, Tensor], strength: float, source: str) -> int:
    """Merge a LoRA into the weights in place; if it raises, no weight has changed.

    Args:
        sd15: its networks are changed.
        tensors: of the file, such as "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight".
        strength: 1 as trained, 0 nothing, negative the opposite.
        source: what to call the tensors in messages: a file name.

    Returns:
        How many layers were changed.

    Raises:
        InputError: made for another base model, or nothing in it fits.
    """
    _check_family(tensors, source)
    layers = _layers(sd15)
    changes, unmatched = [], []
    for layer_name, parts in _by_layer(tensors).items():
        if layer_name in layers and {UP, DOWN} <= set(parts) <= {UP, DOWN, ALPHA}:
            rank = len(parts[DOWN])
            scale = float(parts[ALPHA]) / rank if ALPHA in parts else 1.0
            changes.append(_Change(layers[layer_name], parts[UP], parts[DOWN], scale))
            if not changes[-1].fits():
                raise InputError(
                    f"{source} does not fit SD1.5: {layer_name} has up {tuple(parts[UP].shape)} and down "
                    f"{tuple(parts[DOWN].shape)} for a layer of {tuple(layers[layer_name].weight.shape)}."
                )
        else:
            unmatched += [f"{layer_name}.{part}" for part in parts]
    if not changes:
        raise InputError(
            f"{source} is no SD1.5 LoRA as Kohya or diffusers write it: none of its {len(tensors)} tensors, such as "
            f"{next(iter(tensors), 'none at all')}, belongs to a layer. Choose another file."
        )
    if unmatched:
        listed = ", ".join(unmatched[:MAX_LISTED]) + (
            f" and {len(unmatched) - MAX_LISTED} more" if len(unmatched) > MAX_LISTED else ""
        )
        _log.warning("%s: %d tensors fit no layer and were left out: %s.", source, len(unmatched), listed)
    for change in changes:
        weight = change.layer.weight
        up, down = (t.to(weight.device, torch.float32).flatten(1) for t in (change.up, change.down))
        added = (strength * change.scale * (up @ down)).reshape(weight.shape)
        weight.copy_(weight.float() + added)
    return len(changes)


def _check_family(tensors: Mapping[str, Tensor], source: str) -> None:
    if any(name.startswith(("lora_te1_", "lora_te2_")) for name in tensors):
        raise InputError(f"{source} is a LoRA for SDXL: it changes two text encoders. Choose one for SD1.5.")
    for name, tensor in tensors.items():
        width = tensor.shape[1] if tensor.ndim > 1 else 0
        if f"attn2_to_k.{DOWN}" in name and width in CONTEXT_WIDTHS:
            family = CONTEXT_WIDTHS[width]
            raise InputError(f"{source} is a LoRA for {family}: text tokens are {width} wide. Choose one for SD1.5.")


def _by_layer(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors grouped by layer, then by part (up, down, alpha)."""
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer_name, _, part = name.partition(".")
        layers.setdefault(layer_name, {})[part] = tensor
    return layers


def _layers(sd15: SD15) -> dict[str, nn.Linear | nn.Conv2d]:
    """Every layer that a LoRA can change, by Kohya's name."""
    layers = {}
    for prefix, network in (("lora_unet_", sd15.unet), ("lora_te_text_model_", sd15.text_encoder)):
        for name, module in network.named_modules() if network is not None else ():
            if isinstance(module, nn.Linear | nn.Conv2d):
                layers[prefix + name.removeprefix("text_model.").replace(".", "_")] = module
    return layers
