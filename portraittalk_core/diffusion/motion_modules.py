"""AnimateDiff's motion modules of a UNet: insertion points, loading and saving, and binding to a diffusers UNet.

Source: AnimateDiff (Guo et al. 2023); guoyww/AnimateDiff's names; `docs/design/animatenet.md` 1, 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..checks import check_choice
from ..errors import InputError
from ..layers.temporal import MotionModule, check_frames, positions
from ..media.tensor_file import save_tensors
from ..weights.load import load_strict, read_metadata, read_tensors
from .motion_module_files import (
    LCM_LENGTH,
    NUM_DOWN,
    NUM_UP,
    SD15_WIDTHS,
    VERSIONS,
    MotionTensors,
    sort_motion_modules,
)

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

POSITIONS = "pos_encoder.pe"  # their name in the files
LENGTHS = {"v1": 24, "v2": 32, "v3": 32, "animatelcm": LCM_LENGTH}


BETAS = ("linear", "scaled_linear")  # AnimateDiff's, which all public files are trained on; SD1.5's own


@dataclass(frozen=True)
class InsertionPoint:
    """Insertion point of a motion module: the submodule of the UNet whose output it processes."""

    name: str  # of the module in its file: "down_blocks.0.motion_modules.0"
    level: int  # of the four widths
    diffusers: str  # the submodule, in diffusers: "down_blocks.0.attentions.0"
    block: tuple[str, int]  # ComfyUI's block name and number: ("input", 1)
    index: int  # the submodule within that block; whatever stands behind it (an upsampler) comes after the module

    @property
    def ldm(self) -> str:
        """The submodule in single-file checkpoints and ComfyUI: "input_blocks.1.1"."""
        block, number = self.block
        return f"middle_block.{self.index}" if block == "middle" else f"{block}_blocks.{number}.{self.index}"


def insertion_points(version: str) -> tuple[InsertionPoint, ...]:
    """Insertion points of a version's motion modules in SD1.5's UNet, in the order they run.

    Raises:
        InputError: not one of VERSIONS.
    """
    check_choice(version, VERSIONS, "motion module version")
    return _points(version == "v2")


def _points(has_middle: bool) -> tuple[InsertionPoint, ...]:
    middle = InsertionPoint("mid_block.motion_modules.0", 3, "mid_block.attentions.0", ("middle", 0), 1)
    return (*_side("down", NUM_DOWN), *([middle] if has_middle else []), *_side("up", NUM_UP))


def _side(side: str, count: int) -> Iterator[InsertionPoint]:
    for number in range(4 * count):
        i, j = divmod(number, count)
        level = i if side == "down" else 3 - i
        plain = level == 3  # the deepest blocks have no attention: the module follows the resnet
        # ComfyUI counts the first convolution and the downsamplers too
        block = ("input", 1 + (NUM_DOWN + 1) * i + j) if side == "down" else ("output", number)
        submodule = f"{side}_blocks.{i}.{'resnets' if plain else 'attentions'}.{j}"
        yield InsertionPoint(f"{side}_blocks.{i}.motion_modules.{j}", level, submodule, block, 0 if plain else 1)


class _Block(nn.Module):
    def __init__(self, count: int, **options: object) -> None:
        super().__init__()
        self.motion_modules = nn.ModuleList([MotionModule(**options) for _ in range(count)])


class MotionModules(nn.Module):
    """All motion modules of a UNet, under the names of the public files.

    Args:
        widths: channels of the UNet's four blocks.
        version: one of VERSIONS; v2 has a module in the middle.
        length: most frames at once; the version's own if None.
        norm_joint: as for MotionModule.
        ops: makes the layers; ComfyUI has its own.
        betas: the noise levels they are trained on, one of BETAS.

    Raises:
        InputError: not one of VERSIONS or BETAS, or widths that are not four.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = SD15_WIDTHS,
        version: str = "v3",
        length: int | None = None,
        norm_joint: bool = False,
        ops: ModuleType = nn,
        betas: str = BETAS[0],
    ) -> None:
        super().__init__()
        self.points = insertion_points(version)
        if len(widths) != 4:
            raise InputError(f"motion modules need the widths of four blocks, not of {len(widths)}: {tuple(widths)}.")
        self.widths, self.version, self.betas = tuple(widths), version, check_choice(betas, BETAS, "betas")
        self.length = LENGTHS[version] if length is None else length
        shared = {"length": self.length, "norm_joint": norm_joint, "ops": ops}
        self.down_blocks = nn.ModuleList([_Block(NUM_DOWN, width=width, **shared) for width in widths])
        self.up_blocks = nn.ModuleList([_Block(NUM_UP, width=width, **shared) for width in reversed(widths)])
        if version == "v2":
            self.mid_block = _Block(1, width=widths[3], **shared)

    def at(self, point: InsertionPoint) -> MotionModule:
        """The motion module of an insertion point."""
        return self.get_submodule(point.name)


def new_motion_modules(
    widths: tuple[int, ...] = SD15_WIDTHS,
    version: str = "v3",
    length: int | None = None,
    norm_joint: bool = False,
    ops: ModuleType = nn,
    betas: str = BETAS[0],
) -> MotionModules:
    """Untrained motion modules that add nothing to the UNet. Arguments as for MotionModules."""
    modules = MotionModules(widths, version, length, norm_joint, ops, betas)
    for point in modules.points:
        last = modules.at(point).temporal_transformer.proj_out
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return modules


def load_motion_modules(
    path: Path, ops: ModuleType = nn, widths: tuple[int, ...] | None = SD15_WIDTHS, norm_joint: bool = False
) -> MotionModules:
    """Read the motion modules of a file, ready for inference.

    Args:
        path: an AnimateDiff v1, v2, v3 or AnimateLCM file, or diffusers' form of one.
        ops: makes the layers; ComfyUI has its own.
        widths: channels of the UNet's four blocks; None takes any.
        norm_joint: as for MotionModule.

    Raises:
        MissingDependency: there is no such file.
        InputError: damaged, no motion module, or one for another base model.
    """
    path = Path(path)
    file = sort_motion_modules(read_tensors(path), path.name, widths)
    with torch.device("meta"):  # random weights of this size take seconds to draw
        betas = read_metadata(path).get("betas", BETAS[0])
        modules = MotionModules(file.widths, file.version, file.length, norm_joint, ops, betas)
    return load_strict(modules.to_empty(device="cpu"), {**file.tensors, **_missing_positions(modules, file)}, path.name)


def _missing_positions(modules: MotionModules, file: MotionTensors) -> dict[str, Tensor]:
    """Position encodings for AnimateLCM's files, which leave them out; empty for other versions."""
    if file.version != "animatelcm":
        return {}
    return {
        name: positions(file.length, tensor.shape[2])
        for name, tensor in modules.state_dict().items()
        if name.endswith(POSITIONS)
    }


def save_motion_modules(modules: MotionModules, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write motion modules as safetensors atomically, under the public files' names.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {
        name: tensor
        for name, tensor in modules.state_dict().items()
        if modules.version != "animatelcm" or not name.endswith(POSITIONS)
    }
    texts = {"version": modules.version, "length": str(modules.length), "betas": modules.betas, **(metadata or {})}
    return save_tensors(tensors, path, texts)


@contextmanager
def bind_motion(
    unet: UNet2DConditionModel, modules: MotionModules, num_frames: int, strength: float = 1.0
) -> Iterator[None]:
    """Context manager that binds motion modules to a diffusers UNet by forward hooks.

    Args:
        unet: of SD1.5's topology; its rows are to be whole clips, one after another.
        modules: of the UNet's widths.
        num_frames: of each clip, at most `modules.length`.
        strength: factor of what they add; 0 leaves the UNet as it is.

    Raises:
        InputError: more frames than the position encodings have, or a UNet of another shape.
    """
    check_frames(num_frames, modules.length)
    _check_unet(unet, modules)
    with ExitStack() as bound:
        for point in modules.points if strength else ():
            hook = _hook(modules.at(point), num_frames, strength)
            bound.callback(unet.get_submodule(point.diffusers).register_forward_hook(hook).remove)
        yield


def _check_unet(unet: UNet2DConditionModel, modules: MotionModules) -> None:
    widths = tuple(unet.config.block_out_channels)
    if widths != modules.widths:
        raise InputError(f"the motion modules are for blocks of {modules.widths} channels, the UNet has {widths}.")
    names = {name for name, _ in unet.named_modules()}
    missing = [point.diffusers for point in modules.points if point.diffusers not in names]
    if missing:
        raise InputError(f"the UNet has no {missing[0]}, after which a motion module acts; use one of SD1.5's shape.")


def _hook(module: MotionModule, num_frames: int, strength: float) -> Callable:
    kind = module.temporal_transformer.proj_in.weight.dtype

    def add_motion(_module: nn.Module, _inputs: tuple, output: Tensor | tuple) -> Tensor | tuple:
        x = output if isinstance(output, Tensor) else output[0]
        x = module(x.to(kind), num_frames, strength).to(x.dtype)
        return x if isinstance(output, Tensor) else (x, *output[1:])

    return add_motion
