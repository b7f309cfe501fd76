"""A checkpoint with another UNet: the file that all programs read, after the UNet's own weights were trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..media.tensor_file import save_tensors
from ..weights.load import read_tensors
from .checkpoint import UNET_PREFIXES
from .ldm_names import network_name

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


def save_with_unet(
    base: Path, unet: UNet2DConditionModel, path: Path, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a copy of a checkpoint with the weights of a UNet in place of its own, in the file's layout and types.

    Args:
        base: the checkpoint that the UNet came from, one file.
        unet: of the same sizes.
        path: of the new file, safetensors.
        metadata: texts in its header.

    Raises:
        InputError: the checkpoint holds another UNet.
        OutputError: the file cannot be written.
    """
    tensors, weights = read_tensors(base), unet.state_dict()
    prefix = next(prefix for prefix in UNET_PREFIXES if any(name.startswith(prefix) for name in tensors))
    written = {}
    for name, tensor in tensors.items():
        inside = network_name(name.removeprefix(prefix)) if name.startswith(prefix) else ""
        if inside in weights:
            tensor = weights.pop(inside).reshape(tensor.shape).to(tensor.dtype)  # noqa: PLW2901
        written[f"model.{name}" if name.startswith("diffusion_model.") else name] = tensor
    if weights:
        raise InputError(
            f"{base.name} lacks {next(iter(weights))}, which the trained UNet has; is it another file now?"
        )
    return save_tensors(written, path, metadata)
