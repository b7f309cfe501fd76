"""Recognition of identity adapter files by tensor names and shapes: layout and tensors by part.

Source: the layouts of tencent-ailab/IP-Adapter and h94/IP-Adapter-FaceID; `docs/design/identitynet.md` 2, 3, 4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ...errors import InputError

LAYOUTS = ("faceid", "portrait", "plus", "plusv2", "plain", "clip_plus")
PREFIXES = {"image_proj": "projection", "image_proj_model": "projection", "ip_adapter": "sites"}
PREFIXES["adapter_modules"] = "sites"  # as third parties write it
NUM_SITES = 16  # of SD1.5; SDXL has 70
TOKEN_WIDTHS = {2048: "SDXL", 1024: "Stable Diffusion 2", 4096: "a transformer such as Flux"}
FACE_WIDTH = 512
PORTRAIT_TOKENS = 16

_SITE = re.compile(r"^(\d+)\.to_([kv])_ip\.weight$")
_LORA = re.compile(r"^(\d+)\.to_(q|k|v|out)_lora\.(down|up)\.weight$")


@dataclass(frozen=True)
class AdapterTensors:
    """Layout and tensors of an adapter file, by part."""

    layout: str  # one of LAYOUTS
    projection: dict[str, Tensor]  # by name within the projection
    sites: dict[str, Tensor]  # "1.to_k_ip.weight"
    lora: dict[str, Tensor]  # "0.to_q_lora.down.weight"; empty where the file has none


def sort_adapter(tensors: Mapping[str, Tensor], name: str) -> AdapterTensors:
    """Sort a file's tensors by part and find the adapter's layout.

    Args:
        tensors: of the file, names joined by dots.
        name: of the file, for messages; it alone distinguishes plus from plusv2, whose tensors are alike.

    Raises:
        InputError: no identity adapter, or one for another base model.
    """
    parts: dict[str, dict[str, Tensor]] = {"projection": {}, "sites": {}}
    unknown = []
    for key, tensor in tensors.items():
        first, _, rest = key.partition(".")
        if first in PREFIXES and rest:
            parts[PREFIXES[first]][rest] = tensor
        else:
            unknown.append(key)
    if unknown or not parts["projection"] or not parts["sites"]:
        raise InputError(f"{name} is no identity adapter: {_missing(parts, unknown)} {_ADVICE}")
    sites, lora, other = _sorted_sites(parts["sites"])
    if other:
        raise InputError(f"{name} holds {len(other)} tensors that no SD1.5 adapter has, such as {other[0]}. {_ADVICE}")
    _check_base(sites, name)
    return AdapterTensors(_layout(parts["projection"], lora, name), parts["projection"], sites, lora)


_ADVICE = "Use an IP-Adapter FaceID file for SD1.5, for example ip-adapter-faceid_sd15.bin."


def _missing(parts: Mapping[str, Mapping], unknown: list[str]) -> str:
    missing = [words for part, words in (("projection", "image_proj"), ("sites", "ip_adapter")) if not parts[part]]
    text = f"it lacks {' and '.join(missing)}." if missing else ""
    return text or f"it also holds {len(unknown)} other tensors, such as {unknown[0]}."


def _sorted_sites(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    sites, lora, other = {}, {}, []
    for key, tensor in tensors.items():
        if _SITE.match(key):
            sites[key] = tensor
        elif _LORA.match(key):
            lora[key] = tensor
        else:
            other.append(key)
    return sites, lora, other


def _check_base(sites: Mapping[str, Tensor], name: str) -> None:
    widths = {tensor.shape[1] for tensor in sites.values()}
    numbers = sorted({int(key.split(".")[0]) for key in sites})
    expected = list(range(1, 2 * NUM_SITES, 2))
    for width in widths & TOKEN_WIDTHS.keys():
        raise InputError(f"{name} is an adapter for {TOKEN_WIDTHS[width]} (its tokens are {width} wide); {_ADVICE}")
    if numbers != expected or len(sites) != 2 * NUM_SITES or len(widths) != 1:
        raise InputError(
            f"{name} has keys and values at {len(numbers)} places of the UNet, while SD1.5 has {NUM_SITES} "
            f"(numbered 1, 3, …, 31). {_ADVICE}"
        )


def _layout(projection: Mapping[str, Tensor], lora: Mapping[str, Tensor], name: str) -> str:
    if any(key.startswith("perceiver_resampler.") for key in projection):
        return "plusv2" if "plusv2" in name.lower().replace("-", "").replace("_", "") else "plus"
    if "latents" in projection and "proj_in.weight" in projection:
        return "clip_plus"
    if "proj.weight" in projection:
        return "plain"
    if {"proj.0.weight", "proj.2.weight", "norm.weight"} <= projection.keys():
        return _face_layout(projection, lora, name)
    raise InputError(
        f"{name} projects the face in a way that is not known here (it holds {', '.join(sorted(projection)[:4])}, …). "
        f"{_ADVICE}"
    )


def _face_layout(projection: Mapping[str, Tensor], lora: Mapping[str, Tensor], name: str) -> str:
    embed = projection["proj.0.weight"].shape[1]
    if embed != FACE_WIDTH:
        raise InputError(f"{name} wants face embeddings of {embed} numbers, ArcFace gives {FACE_WIDTH}. {_ADVICE}")
    num_tokens = projection["proj.2.weight"].shape[0] / projection["norm.weight"].shape[0]
    if num_tokens != int(num_tokens) or num_tokens < 1:
        raise InputError(f"{name} makes {num_tokens:g} tokens of a face, which cannot be; download it again.")
    return "portrait" if num_tokens >= PORTRAIT_TOKENS and not lora else "faceid"
