"""Recognition of motion module files by tensor names and shapes: version, length, and tensors under common names.

Source: the layouts of guoyww/animatediff, AnimateLCM and diffusers' MotionAdapter; `docs/design/animatenet.md` 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..errors import InputError

VERSIONS = ("v1", "v2", "v3", "animatelcm")
SD15_WIDTHS = (320, 640, 1280, 1280)
LENGTHS = {24: "v1", 32: "v3"}  # position encodings of a file without a middle block → its version
LCM_LENGTH = 64  # AnimateLCM's file leaves its positions out
NUM_DOWN, NUM_UP = 2, 3  # modules of each block

_MODULE = re.compile(r"(?:^|\.)((?:down_blocks\.\d+|up_blocks\.\d+|mid_block)\.motion_modules\.\d+)\.(.+)$")
_BLOCK = re.compile(r"^(down_blocks|up_blocks|mid_block)\.(?:(\d+)\.)?motion_modules\.(\d+)\.")
# diffusers' names of what is inside a module; the others are the same
_FROM_DIFFUSERS = (
    (re.compile(r"\.attn([12])\."), lambda match: f".attention_blocks.{int(match[1]) - 1}."),
    (re.compile(r"\.norm([12])\."), lambda match: f".norms.{int(match[1]) - 1}."),
    (re.compile(r"\.norm3\."), lambda _: ".ff_norm."),
)
_ADVICE = "Use an AnimateDiff motion module for SD1.5, for example v3_sd15_mm.ckpt."
# what else people take for a motion module: a sign in its names → what it is
_OTHER_FILES = (
    (r"temporal_attentions\.|\.pos_encoder\.positional_encoding$", "HotshotXL's, which needs SDXL"),
    (r"controlnet_|input_hint_block\.|zero_convs\.", "a ControlNet; connect it where a ControlNet is asked for"),
    (
        r"motion_modules\..*(_lora\.|\.lora_|lora_(up|down|A|B)\.)|lora_unet_.*motion_modules",
        "a LoRA for a motion module; a LoRA does not work alone",
    ),
)


@dataclass(frozen=True)
class MotionTensors:
    """Version, sizes and renamed tensors of a motion module file."""

    version: str  # one of VERSIONS
    length: int  # most frames at once
    widths: tuple[int, ...]  # channels of the four blocks
    tensors: dict[str, Tensor]  # "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"

    @property
    def has_middle(self) -> bool:
        """Whether there is a motion module in the UNet's middle block."""
        return any(name.startswith("mid_block.") for name in self.tensors)


def sort_motion_modules(
    tensors: Mapping[str, Tensor], name: str, widths: tuple[int, ...] | None = SD15_WIDTHS
) -> MotionTensors:
    """Rename a file's tensors to the public names and find the motion module's version.

    Tensors of the rest of a UNet, which training leaves in some files, are left out.

    Args:
        tensors: of the file, names joined by dots.
        name: of the file, for messages.
        widths: of the UNet's four blocks; None takes any, such as a toy's.

    Raises:
        InputError: no motion module, or one for another base model.
    """
    _check_others(tensors, name)
    modules: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        match = _MODULE.search(key)
        if match:
            modules |= {f"{match[1]}.{inner}": tensor for inner in _inner(match[2])}
    if not modules:
        raise InputError(f"{name} holds no motion modules (it holds {_some(tensors)}). {_ADVICE}")
    _check_blocks(modules, name)
    file_widths = _widths(modules, name)
    if widths is not None and file_widths != tuple(widths):
        raise InputError(
            f"{name} is a motion module for blocks of {_listed(file_widths)} channels, the UNet has "
            f"{_listed(widths)}. {_ADVICE}"
        )
    length = _length(modules, name)
    if length is None:
        return MotionTensors("animatelcm", LCM_LENGTH, file_widths, modules)
    version = "v2" if any(key.startswith("mid_block.") for key in modules) else LENGTHS.get(length, "v3")
    return MotionTensors(version, length, file_widths, modules)


def _inner(name: str) -> tuple[str, ...]:
    """Tensor names of guoyww's files for a name of diffusers: two for the positions, which diffusers keeps once."""
    if name.startswith("temporal_transformer."):
        return (name,)
    name = f"temporal_transformer.{name}"
    if ".pos_embed." in name:
        return tuple(name.replace(".pos_embed.", f".attention_blocks.{i}.pos_encoder.") for i in (0, 1))
    for pattern, replacement in _FROM_DIFFUSERS:
        name = pattern.sub(replacement, name)
    return (name,)


def _check_others(tensors: Mapping[str, Tensor], name: str) -> None:
    for pattern, what in _OTHER_FILES:
        if any(re.search(pattern, key) for key in tensors):
            raise InputError(f"{name} is no motion module but {what}. {_ADVICE}")
    widened = tensors.get("conv_in.weight")
    if widened is not None and widened.ndim == 4 and widened.shape[1] == 9:
        raise InputError(f"{name} is PIA's, whose UNet takes nine channels in, which is not done here. {_ADVICE}")


def _check_blocks(modules: Mapping[str, Tensor], name: str) -> None:
    blocks = {(m[1], int(m[2] or 0), int(m[3])) for m in map(_BLOCK.match, modules) if m}
    expected = {("down_blocks", i, j) for i in range(4) for j in range(NUM_DOWN)}
    expected |= {("up_blocks", i, j) for i in range(4) for j in range(NUM_UP)}
    present = {block for block in blocks if block[0] != "mid_block"}
    if present == {block for block in expected if block[1] < 3}:
        raise InputError(f"{name} is a motion module for SDXL (it lacks a fourth block). {_ADVICE}")
    if present != expected or blocks - present - {("mid_block", 0, 0)}:
        raise InputError(
            f"{name} has motion modules at {len(blocks)} places of the UNet, while SD1.5's has {len(expected)}, or "
            f"{len(expected) + 1} with the middle. {_ADVICE}"
        )


def _widths(modules: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    keys = [f"down_blocks.{i}.motion_modules.0.temporal_transformer.norm.weight" for i in range(4)]
    missing = [key for key in keys if key not in modules]
    if missing:
        raise InputError(f"{name} lacks {missing[0]}; download it again. {_ADVICE}")
    return tuple(len(modules[key]) for key in keys)


def _length(modules: Mapping[str, Tensor], name: str) -> int | None:
    shapes = {tuple(tensor.shape[:-1]) for key, tensor in modules.items() if key.endswith(".pos_encoder.pe")}
    if not shapes:
        return None
    shape = shapes.pop()
    if shapes or len(shape) != 2 or shape[0] != 1 or shape[1] < 1:
        raise InputError(f"{name} numbers its frames in more than one way; download it again. {_ADVICE}")
    return shape[1]


def _some(tensors: Mapping[str, Tensor]) -> str:
    return f"{', '.join(list(tensors)[:3])}, …" if tensors else "nothing"


def _listed(widths: tuple[int, ...]) -> str:
    return ", ".join(str(width) for width in widths)
