"""Loading of V-Express's networks from its public files, which are recognised by their tensors' names.

Source: the layout of tk93/V-Express's five files; `docs/design/vexpress.md` 5.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ...diffusion.checkpoint import filled_network
from ...diffusion.motion_module_files import sort_motion_modules
from ...diffusion.motion_modules import MotionModules
from ...errors import InputError, MissingDependency
from ...layers.perceiver import HEAD_WIDTH
from ...weights.load import read_metadata, read_tensors
from .audio_projection import AudioProjection, AudioSizes
from .head_keypoints import KEY_POINTS
from .kps_guider import KpsGuider
from .unet import NOISE, VELOCITY, UNetSizes, VExpress, build_reading_unet, build_reference_net

Tensors = dict[str, Tensor]

PARTS = {  # what a part is called → the public file
    "denoising UNet": "denoising_unet.bin",
    "reference net": "reference_net.bin",
    "motion modules": "motion_module.bin",
    "guider": "v_kps_guider.bin",
    "audio projection": "audio_projection.bin",
}
UNET, REFERENCE, MOTION, GUIDER, AUDIO = PARTS
_MOTION_NAME, _LAST_LAYERS = ".motion_modules.", re.compile(r"^conv_(norm_)?out\.")
_FIRST_BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
_NUM_LEVELS = 4
SOURCE = "huggingface.co/tk93/V-Express (research use only)"
GUIDER_POINTS, PREDICTION = "guider_points", "prediction"  # in the metadata of files that were trained here
SUFFIXES = (".bin", ".pt", ".pth", ".safetensors")


def part_of(tensors: Mapping[str, Tensor]) -> str | None:
    """Name in PARTS of the network that a file's tensors belong to; None for other files."""
    if f"{_FIRST_BLOCK}.attn1_5.to_q.weight" in tensors:
        return UNET
    if "conv_in.weight" in tensors and f"{_FIRST_BLOCK}.attn2.to_k.weight" in tensors:
        return REFERENCE
    if tensors and all(_MOTION_NAME in name for name in tensors):
        return MOTION
    if {"conv_in.weight", "blocks.5.weight", "conv_out.weight"} <= tensors.keys():
        return GUIDER
    if {"latents", "pos_emb.weight", "layers.0.0.to_kv.weight"} <= tensors.keys():
        return AUDIO
    return None


def load_vexpress(
    paths: Sequence[Path],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    optional: Collection[str] = (),
) -> VExpress:
    """Load V-Express's networks for inference, or those of `training.style` in the same layout.

    Args:
        paths: the public files in any order and under any name; a folder stands for the weight files in it. The UNet's
            file may hold motion modules of its own; those of a motion module's file replace them.
        device: of the networks.
        dtype: of their weights.
        optional: of MOTION and AUDIO, what may be absent; it is None then.

    Raises:
        MissingDependency: no such file, or diffusers is not installed.
        InputError: a part is missing, given twice, damaged or of another model.
    """
    parts, cards = _sorted(paths, optional)
    unet_tensors, unet_name = parts[UNET]
    moving = {n: unet_tensors.pop(n) for n in list(unet_tensors) if _MOTION_NAME in n}
    moving |= parts.get(MOTION, ({}, ""))[0]
    motion_name = parts[MOTION][1] if MOTION in parts else unet_name
    reference_tensors, reference_name = parts[REFERENCE]
    reference_tensors = {n: t for n, t in reference_tensors.items() if not _LAST_LAYERS.match(n)}
    sizes = _unet_sizes(unet_tensors, unet_name)

    def network(build: Callable[[], nn.Module], tensors: Tensors, name: str) -> nn.Module:
        with torch.device("meta"):  # no random weights that would be replaced at once
            empty = build()
        return filled_network(empty, tensors, name, device, dtype).eval().requires_grad_(False)

    with torch.device("meta"):
        unet, reading = build_reading_unet(sizes)
    motion = None
    if moving or MOTION not in optional:
        sorted_motion = sort_motion_modules(moving, motion_name, sizes.widths)
        if not sorted_motion.has_middle:
            raise InputError(
                f"{motion_name} has no motion module in the middle; V-Express needs its own motion_module.bin."
            )
        motion = network(
            lambda: MotionModules(sizes.widths, "v2", sorted_motion.length), sorted_motion.tensors, motion_name
        )
    return VExpress(
        filled_network(unet, unet_tensors, unet_name, device, dtype),
        reading,
        motion,
        network(lambda: build_reference_net(sizes), reference_tensors, reference_name),
        network(lambda: _guider(*parts[GUIDER]), *parts[GUIDER]),
        network(lambda: _projection(*parts[AUDIO]), *parts[AUDIO]) if AUDIO in parts else None,
        *_card(cards),
    )


def _card(cards: Mapping[str, Mapping[str, str]]) -> tuple[int, str]:
    """How many points the guider sees, and what the UNet predicts; the public files say neither.

    Raises:
        InputError: values that there are not.
    """
    points, prediction = cards[GUIDER].get(GUIDER_POINTS, "3"), cards[UNET].get(PREDICTION, VELOCITY)
    if points not in map(str, KEY_POINTS) or prediction not in (NOISE, VELOCITY):
        raise InputError(
            f"the networks say that the guider sees {points} points and the UNet predicts {prediction}; this release "
            f"knows {' and '.join(map(str, KEY_POINTS))} points, {NOISE} and {VELOCITY}."
        )
    return int(points), prediction


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Given files, and weight files in given folders; with each, whether it was given by its own path."""
    for path in map(Path, paths):
        if path.is_dir():
            yield from ((inner, False) for inner in sorted(path.iterdir()) if inner.suffix in SUFFIXES)
        elif path.is_file():
            yield path, True
        else:
            raise MissingDependency(
                f"there is no file or folder {path}; V-Express's {_listed(PARTS)} are at {SOURCE}. Put them into one "
                "folder and give that."
            )


def _sorted(
    paths: Sequence[Path], optional: Collection[str] = ()
) -> tuple[dict[str, tuple[Tensors, str]], dict[str, dict[str, str]]]:
    """Tensors and file name of every network, and its file's metadata."""
    parts: dict[str, tuple[Tensors, str]] = {}
    cards: dict[str, dict[str, str]] = {}
    for path, asked_for in _files(paths):
        tensors = read_tensors(path)
        part = part_of(tensors)
        if part is None and not asked_for:
            continue
        if part is None:
            examples = ", ".join(list(tensors)[:3])
            raise InputError(f"{path.name} is no file of V-Express's (it holds {examples}, …). Give {_listed(PARTS)}.")
        if part in parts:
            raise InputError(f"{path.name} and {parts[part][1]} both hold V-Express's {part}; give one of them.")
        parts[part], cards[part] = (tensors, path.name), read_metadata(path)
    inside = UNET in parts and any(_MOTION_NAME in name for name in parts[UNET][0])
    absent = [part for part in PARTS if part not in parts and not (part == MOTION and inside)]
    missing = [part for part in absent if part not in optional]
    if missing:
        raise InputError(
            f"V-Express's {', '.join(missing)} is missing in what was given ({', '.join(map(str, paths))}); get "
            f"{_listed(missing)} from {SOURCE} and put it beside the others."
        )
    return parts, cards


def _listed(parts: Sequence[str]) -> str:
    return ", ".join(PARTS[part] for part in parts)


def _size(tensors: Mapping[str, Tensor], name: str, dimension: int, source: str) -> int:
    if name not in tensors or tensors[name].ndim <= dimension:
        raise InputError(f"{source} is not whole: it lacks {name}; download it again.")
    return tensors[name].shape[dimension]


def _unet_sizes(tensors: Mapping[str, Tensor], source: str) -> UNetSizes:
    levels = range(_NUM_LEVELS)
    widths = tuple(_size(tensors, f"down_blocks.{i}.resnets.0.conv1.weight", 0, source) for i in levels)
    return UNetSizes(widths, _size(tensors, f"{_FIRST_BLOCK}.attn2.to_k.weight", 1, source))


def _guider(tensors: Mapping[str, Tensor], source: str) -> KpsGuider:
    steps = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    wide = [_size(tensors, f"blocks.{i}.weight", 0, source) for i in range(1, steps, 2)]
    first = _size(tensors, "conv_in.weight", 0, source)
    return KpsGuider(_size(tensors, "conv_out.weight", 0, source), (first, *wide))


def _projection(tensors: Mapping[str, Tensor], source: str) -> AudioProjection:
    inner = _size(tensors, "layers.0.0.to_q.weight", 0, source)
    if inner % HEAD_WIDTH:
        raise InputError(f"{source} has attentions of {inner} channels; V-Express's are a multiple of {HEAD_WIDTH}.")
    num_positions, features = (_size(tensors, "pos_emb.weight", i, source) for i in (0, 1))
    tokens, width = (_size(tensors, "latents", i, source) for i in (1, 2))
    depth = len({name.split(".")[1] for name in tensors if name.startswith("layers.")})
    out = _size(tensors, "proj_out.weight", 0, source)
    return AudioProjection(AudioSizes(features, width, out, inner, depth, num_positions, tokens))
