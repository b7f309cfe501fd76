"""Reading of LoRA files in the layouts of Kohya, diffusers and PEFT, under Kohya's names for `lora.merge_lora`.

Source: names in kohya-ss/sd-scripts; in diffusers' and PEFT's files (`lora_A`, `lora.down`, `lora_linear_layer.down`,
`processor.to_q_lora.down`, the base first), whose scale stands in the file's metadata; Hu et al. 2021 for the scale,
Kalajdzievski 2023 for that of rank-stabilised ones.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..checks import abbreviated, parse_number
from ..errors import InputError
from ..weights.load import read_metadata, read_tensors
from .lora import ALPHA, DOWN, UP

UNET, TEXT = "lora_unet_", "lora_te_"
METADATA = "lora_adapter_metadata"  # JSON, where diffusers keeps PEFT's configuration of each part
_PARTS = {"unet": UNET, "text_encoder": TEXT}
_STARTS = {"down_blocks": UNET, "up_blocks": UNET, "mid_block": UNET, "text_model": TEXT}  # of files of one network
_BASE = "base_model."
_FACTOR = re.compile(
    r"^(?P<place>.+?)\.(?:lora_(?P<letter>[AB])(?:\.default)?|lora(?:_linear_layer)?\.(?P<way>down|up))\.weight$"
)
_PROCESSOR = re.compile(r"^(?P<place>.+)\.processor\.(?P<layer>to_[qkv]|to_out)_lora\.(?P<way>down|up)\.weight$")


def read_lora(path: Path) -> dict[str, Tensor]:
    """Tensors of a LoRA file under Kohya's names; unrecognised names are kept unchanged.

    Raises:
        MissingDependency: no such file.
        InputError: damaged, or no weight file.
    """
    return kohya_named(read_tensors(path), read_metadata(path))


def kohya_named(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> dict[str, Tensor]:
    """Tensors of any layout under Kohya's names.

    Args:
        tensors: of a file.
        metadata: of the file; diffusers stores the scale there rather than in tensors.
    """
    renamed, alphas = {}, _alphas(metadata or {})
    for name, tensor in tensors.items():
        parsed = _layer_and_part(name)
        if parsed is None:
            renamed[name] = tensor
            continue
        prefix, layer, part = parsed
        kohya = prefix + layer.replace(".", "_")
        renamed[f"{kohya}.{part}"] = tensor
        alpha = _alpha_of(layer, len(tensor), alphas.get(prefix, {})) if part == DOWN else None
        if alpha is not None and f"{kohya}.{ALPHA}" not in renamed:
            renamed[f"{kohya}.{ALPHA}"] = torch.tensor(alpha)
    return renamed


def _layer_and_part(name: str) -> tuple[str, str, str] | None:
    """Prefix, layer and part of a tensor name of diffusers or PEFT; None for any other name."""
    name = name.removeprefix(_BASE)
    first, _, rest = name.partition(".")
    if first in _PARTS:
        prefix, name = _PARTS[first], rest
    elif first in _STARTS:
        prefix = _STARTS[first]
    else:
        return None
    if match := _PROCESSOR.match(name):
        layer = "to_out.0" if match["layer"] == "to_out" else match["layer"]
        return prefix, f"{match['place']}.{layer}", DOWN if match["way"] == "down" else UP
    if match := _FACTOR.match(name):
        is_down = match["letter"] == "A" or match["way"] == "down"
        return prefix, match["place"], DOWN if is_down else UP
    if name.endswith(f".{ALPHA}"):
        return prefix, name.removesuffix(f".{ALPHA}"), ALPHA
    return None


def _alphas(metadata: Mapping[str, str]) -> dict[str, dict[str, object]]:
    """PEFT's configuration of each network in the metadata, by Kohya's prefix; empty if there is none."""
    try:
        config = json.loads(metadata.get(METADATA, "{}"))
    except (ValueError, RecursionError):
        return {}
    settings: dict[str, dict[str, object]] = {}
    for key, value in config.items() if isinstance(config, dict) else ():
        part, _, setting = key.partition(".")
        if part in _PARTS:
            settings.setdefault(_PARTS[part], {})[setting] = value
    return settings


def _alpha_of(layer: str, rank: int, settings: Mapping[str, object]) -> float | None:
    """Kohya's alpha of a layer, so that alpha / rank is its scale; None if the configuration sets none."""
    alpha, patterns = settings.get("lora_alpha"), settings.get("alpha_pattern")
    for pattern, layer_alpha in patterns.items() if isinstance(patterns, dict) else ():
        try:
            fits = re.match(rf"(.*\.)?({pattern})$", layer)
        except (re.error, RecursionError, OverflowError) as error:
            raise InputError(f"the LoRA's configuration holds the pattern {abbreviated(pattern)} ({error}).") from error
        if fits:
            alpha = layer_alpha
            break
    if alpha is None:
        return None
    return parse_number(alpha, "the LoRA's alpha", -1e6, 1e6) * (math.sqrt(rank) if settings.get("use_rslora") else 1.0)
