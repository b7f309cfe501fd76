"""Networks of lip renderers under ComfyUI's memory management."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.model_patcher
import torch
from torch import nn

from ...portraittalk_core.errors import InputError
from ...portraittalk_core.renderers.devices import DTYPES
from ...portraittalk_core.renderers.lip.files import open_lip_model
from .keypoints import OUT_OF_MEMORY, chosen_dtype, interruptible, managed, on_device
from .paths import fingerprint

if TYPE_CHECKING:
    from ...portraittalk_core.renderers.lip.contract import LipModel

FRAME_BYTES = 60 * 1024**2  # about what painting one frame of 128x128 in fp32 needs beside the weights
SIDE = 128  # of that frame


class Networks(nn.Module):
    """A lip model inside a module of its own, whose device and dtype ComfyUI may set."""

    def __init__(self, lips: LipModel) -> None:
        super().__init__()
        self.lips = lips

    def get_dtype(self) -> torch.dtype:
        """Of the weights, as ComfyUI asks for it."""
        return self.lips.dtype


@dataclass(frozen=True)
class LipNetworks:
    """What PORTRAITTALK_LIP_RENDERER sockets carry."""

    patcher: comfy.model_patcher.ModelPatcher  # of `Networks`
    files: str = ""  # changes with the files

    @property
    def model(self) -> LipModel:
        """The lip model."""
        return self.patcher.model.lips

    @property
    def name(self) -> str:
        """Which family it is, the side of its crops, and in which numbers."""
        dtype = next(name for name, dtype in DTYPES.items() if dtype == self.model.dtype)
        side = self.model.crop.size
        return f"{self.model.name}, {side}×{side}, {dtype}"

    @contextmanager
    def on_device(self, frames: int) -> Iterator[LipModel]:
        """The model on ComfyUI's device, with memory for so many frames at once.

        Raises:
            InputError: there is not enough memory.
        """
        side = self.model.crop.size
        share = torch.finfo(self.model.dtype).bits / 32 * (side / SIDE) ** 2
        with on_device(self.patcher, int(frames * share * FRAME_BYTES)):
            try:
                yield self.model
            except OUT_OF_MEMORY as error:
                raise InputError(
                    f"there is not enough memory to paint {frames} mouths of {side} pixels at once; lower batch_size, "
                    "or choose fp16 in Load Lip Renderer."
                ) from error


def open_networks(path: Path, family: str, precision: str, **beside: Path | None) -> LipNetworks:
    """Read a lip renderer.

    Args:
        path: its file.
        family: lips, iplap or musetalk.
        precision: fp32, fp16 or bf16; auto is what ComfyUI takes for such a model.
        beside: files that go with it, as arguments of `open_lip_model`.

    Raises:
        InputError: damaged, or of another family.
        MissingDependency: something that goes with it is not there.
    """
    device, home = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    given = {name: file for name, file in beside.items() if file is not None}
    model = open_lip_model(path, home, chosen_dtype(device, precision), name=family, **given)
    networks = Networks(model)
    interruptible(networks)
    return LipNetworks(managed(networks), fingerprint([path, *given.values()]))
