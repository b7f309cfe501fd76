"""Sizes of an AnimateNet from its file's tensor names and shapes: tokens, branches, feature attentions.

Source: this project's own layout, `docs/design/animatenet.md` 6, 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ...errors import InputError

LAYOUT, BASE = "animatenet", "SD1.5"  # as the metadata says it
NUM_FEATURE_SITES = 16  # cross-attentions of SD1.5's UNet
TOKEN_WIDTHS = {1024: "Stable Diffusion 2", 2048: "SDXL"}

_BRANCH = re.compile(r"^(\d+)\.to_[kv]_(?:lm|hp)\.weight$")
_FEATURE = re.compile(r"^features\.(\d+)\.to_([kv])_ft\.weight$")
_PREVIOUS = "previous_proj.weight"
_ADVICE = "Use a file that `portraittalk train` has made in its AnimateNet stage."
_OTHER_FILES = (  # a sign in names → what it is
    (r"controlnet_|input_hint_block\.|zero_convs\.", "a ControlNet; give it where a ControlNet is asked for"),
    (r"(^|\.)motion_modules\.", "a motion module; give it where a motion module is asked for"),
    (r"^(image_proj|ip_adapter|adapter_modules)\.", "an identity adapter; give it to IdentityNet"),
)


@dataclass(frozen=True)
class AnimateSizes:
    """Layer sizes of an AnimateNet."""

    widths: dict[str, int]  # channels of the ControlNet's cross-attentions, by number
    token_width: int = 768  # numbers per token
    landmarks: tuple[int, int] = (8, 1024)  # tokens of a face, and numbers between the two layers
    placement: tuple[int, int] = (4, 256)  # of a placement, likewise
    # channels of the UNet's cross-attention and of its feature map, by number; empty without that option
    features: Mapping[str, tuple[int, int]] | None = None
    previous: int | None = None  # channels that the last finished frame is brought to; None without that option


def is_animate_net(names: Iterable[str]) -> bool:
    """Whether tensor names look like an AnimateNet's."""
    return any(_BRANCH.match(name) for name in names)


def read_sizes(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], name: str, sites: Sequence[str]
) -> AnimateSizes:
    """Read the sizes of an AnimateNet from its file, and check that it is one.

    Args:
        tensors: of the file.
        metadata: of the file; empty where it has none.
        name: of the file, for messages.
        sites: numbers of the ControlNet's cross-attentions.

    Raises:
        InputError: no AnimateNet, or one for another base model.
    """
    for pattern, what in _OTHER_FILES:
        if any(re.search(pattern, key) for key in tensors):
            raise InputError(f"{name} is no AnimateNet but {what}. {_ADVICE}")
    for key, expected in (("layout", LAYOUT), ("base", BASE)):
        if metadata.get(key, expected) != expected:
            raise InputError(f"{name} says that its {key} is {metadata[key]}, not {expected}. {_ADVICE}")
    widths: dict[str, int] = {}
    for key, tensor in tensors.items():
        if match := _BRANCH.match(key):
            widths[match[1]] = _size(tensor, key, 0, name)
            _check_base(_size(tensor, key, 1, name), name)
    if not widths:
        some = ", ".join(list(tensors)[:3])
        raise InputError(f"{name} is no AnimateNet: it has no branches, such as {sites[0]}.to_k_lm ({some}). {_ADVICE}")
    if set(widths) != set(sites):
        raise InputError(
            f"{name} has branches at {', '.join(sorted(widths, key=int))}, but the cross-attentions of SD1.5's "
            f"ControlNet are {', '.join(sites)}. {_ADVICE}"
        )
    landmarks, placement = (_tokens(tensors, f"{kind}_proj", name) for kind in ("landmark", "placement"))
    width = _of(tensors, "landmark_proj.norm.weight", 0, name)
    return AnimateSizes(widths, width, landmarks, placement, _features(tensors, name), _previous(tensors, name))


def _check_base(width: int, name: str) -> None:
    if width in TOKEN_WIDTHS:
        raise InputError(f"{name} is for {TOKEN_WIDTHS[width]} (its tokens are {width} wide). {_ADVICE}")


def _tokens(tensors: Mapping[str, Tensor], part: str, name: str) -> tuple[int, int]:
    """Number of tokens and hidden width of a token projection."""
    out, hidden = (_of(tensors, f"{part}.proj.2.weight", axis, name) for axis in (0, 1))
    width = _of(tensors, f"{part}.norm.weight", 0, name)
    if not width or out % width or not out:
        raise InputError(f"{name}: {part} gives {out} numbers, which are no tokens of {width}. {_ADVICE}")
    return out // width, hidden


def _features(tensors: Mapping[str, Tensor], name: str) -> dict[str, tuple[int, int]] | None:
    features = {m[1]: tensor for key, tensor in tensors.items() if (m := _FEATURE.match(key))}
    if not features:
        return None
    if set(features) != {str(number) for number in range(1, 2 * NUM_FEATURE_SITES, 2)}:
        raise InputError(
            f"{name} looks at features in {len(features)} cross-attentions, while SD1.5's UNet has "
            f"{NUM_FEATURE_SITES} (numbered 1, 3, …, 31). {_ADVICE}"
        )
    return {n: (_size(t, f"features.{n}", 0, name), _size(t, f"features.{n}", 1, name)) for n, t in features.items()}


def _previous(tensors: Mapping[str, Tensor], name: str) -> int | None:
    if _PREVIOUS not in tensors:
        return None
    shape = tuple(tensors[_PREVIOUS].shape)
    if len(shape) != 4 or shape[1:] != (4, 3, 3):
        raise InputError(f"{name}: {_PREVIOUS} has the shape {shape}, which cannot be. {_ADVICE}")
    return shape[0]


def _of(tensors: Mapping[str, Tensor], key: str, axis: int, name: str) -> int:
    if key not in tensors:
        raise InputError(f"{name} is no complete AnimateNet: it lacks {key}. {_ADVICE}")
    return _size(tensors[key], key, axis, name)


def _size(tensor: Tensor, key: str, axis: int, name: str) -> int:
    if tensor.ndim <= axis:
        raise InputError(f"{name}: {key} has the shape {tuple(tensor.shape)}, which cannot be. {_ADVICE}")
    return tensor.shape[axis]
