"""Keypoint networks under ComfyUI's memory management, and the keypoint nodes' calls of the core."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.model_patcher
import torch
from torch import Tensor, nn

from ...portraittalk_core.errors import InputError, MissingDependency
from ...portraittalk_core.motion.keypoint_time import join
from ...portraittalk_core.renderers.devices import DTYPES
from ...portraittalk_core.renderers.implicit.compiled import compile_networks
from ...portraittalk_core.renderers.implicit.files import open_keypoint_model
from ...portraittalk_core.renderers.implicit.options import KeypointRenderOptions
from ...portraittalk_core.renderers.implicit.renderer import ImplicitRenderer
from ...portraittalk_core.types import KeypointTrack, LandmarkTrack, Portrait, Speech
from . import convert
from .progress import Progress, check_interrupted, counted

if TYPE_CHECKING:
    from ...portraittalk_core.renderers.implicit.contract import KeypointModel, Retargeting

log = logging.getLogger(__name__)

OUT_OF_MEMORY = comfy.model_management.OOM_EXCEPTION
SPAN = 16  # frames of landmarks that a bridge takes at once
FRAME_BYTES = 600 * 1024**2  # about what rendering one frame of 512x512 in fp32 needs beside the weights


class Networks(nn.Module):
    """A keypoint model and the small networks beside it as one module, which ComfyUI moves."""

    def __init__(self, model: KeypointModel, retargeting: Retargeting | None) -> None:
        super().__init__()
        self.model, self.retargeting = model, retargeting


@dataclass(frozen=True)
class KeypointNetworks:
    """What PORTRAITTALK_KEYPOINT_RENDERER sockets carry."""

    patcher: comfy.model_patcher.ModelPatcher  # of `Networks`

    @property
    def model(self) -> KeypointModel:
        """The keypoint model."""
        return self.patcher.model.model

    @property
    def retargeting(self) -> Retargeting | None:
        """The networks for lips, eyes and borders; None where the files hold none."""
        return self.patcher.model.retargeting

    @property
    def name(self) -> str:
        """Which family it is, in which numbers, and what else the files hold."""
        dtype = next(name for name, dtype in DTYPES.items() if dtype == self.model.dtype)
        extras = "" if self.retargeting is None else ", with stitching and retargeting"
        return f"{self.model.layout}, {dtype}{extras}"

    def renderer(self, alpha: float | Tensor, **options: object) -> ImplicitRenderer:
        """The renderer of these networks, with options of `KeypointRenderOptions`.

        Raises:
            InputError: the bridge lips, without the network for it.
        """
        render_options = KeypointRenderOptions(**options)
        if render_options.bridge == "lips":
            self.check_lips()
        return ImplicitRenderer(self.model, self.retargeting, render_options, alpha=alpha)

    def check_lips(self) -> None:
        """Check that the small networks are there.

        Raises:
            InputError: they are not.
        """
        if self.retargeting is None:
            raise InputError(
                f"the bridge lips needs LivePortrait's stitching_retargeting_module, which these {self.model.layout} "
                "networks lack; put it beside the other files, or take warp."
            )

    @contextmanager
    def on_device(self, frames: int = 1) -> Iterator[KeypointModel]:
        """The model on ComfyUI's device, with memory for so many frames at once.

        Raises:
            InputError: there is not enough memory.
        """
        share = torch.finfo(self.model.dtype).bits / 32 * (self.model.output_size / 512) ** 2
        with on_device(self.patcher, int(frames * share * FRAME_BYTES)):
            try:
                yield self.model
            except OUT_OF_MEMORY as error:
                raise InputError(
                    f"there is not enough memory for {frames} frames of {self.model.output_size} pixels at once; lower "
                    "batch_size, or choose fp16 in Load Keypoint Renderer."
                ) from error


def managed(module: nn.Module) -> comfy.model_patcher.ModelPatcher:
    """A module under ComfyUI's memory management."""
    device, home = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    return comfy.model_patcher.ModelPatcher(module, device, home)


@contextmanager
def on_device(patcher: comfy.model_patcher.ModelPatcher, needed: int) -> Iterator[None]:
    """Have ComfyUI free memory and load a module.

    Args:
        patcher: of `managed`.
        needed: bytes beside the weights.
    """
    comfy.model_management.load_models_gpu([patcher], memory_required=needed, force_full_load=True)
    patcher.model.to(patcher.load_device)  # where little memory is allowed, ComfyUI leaves a part behind
    yield


def open_networks(folder: Path, precision: str, size: int | None, compiled: bool) -> KeypointNetworks:
    """Read the networks of a folder.

    Args:
        folder: with their files.
        precision: fp32, fp16 or bf16; auto is what ComfyUI takes for such a model.
        size: side of the crops; None is what the files say.
        compiled: whether torch.compile is to be used.
    """
    device, home = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    model, retargeting = open_keypoint_model(folder, home, chosen_dtype(device, precision), input_size=size)
    networks = Networks(model, retargeting)
    if compiled:
        compile_networks(model)
    else:  # a hook would break a compiled graph in pieces
        interruptible(networks)
    return KeypointNetworks(managed(networks))


def chosen_dtype(device: torch.device, precision: str) -> torch.dtype:
    """The numbers that networks compute with: fp32, fp16 or bf16; auto is what ComfyUI takes on a device."""
    if precision != "auto":
        return DTYPES[precision]
    return torch.float16 if comfy.model_management.should_use_fp16(device) else torch.float32


def interruptible(networks: nn.Module) -> None:
    """Let the user's Interrupt stop networks within a frame: it is checked before every layer with weights."""
    for module in networks.modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_pre_hook(lambda *_: check_interrupted())


def plot_of(track: KeypointTrack, speech: Speech | None = None, title: str = "") -> Tensor:
    """A keypoint track's curves as an IMAGE; a small grey picture where matplotlib is not installed."""
    from ...portraittalk_core.plots.keypoints import plot_keypoints

    try:
        return convert.to_image([plot_keypoints(track, speech, title)])
    except MissingDependency as error:
        log.warning("no plot: %s", error)
        return no_plot()


def no_plot() -> Tensor:
    """The IMAGE of a plot that is not there."""
    return torch.full((1, 64, 64, 3), 0.5)


def keypoints_of_pictures(
    networks: KeypointNetworks, pictures: Iterable[Tensor], landmarks: LandmarkTrack, **how: object
) -> KeypointTrack:
    """Keypoints of the face in pictures, whose landmarks are known; `how` as of `extract.keypoint_track_of_film`."""
    from ...portraittalk_core.renderers.implicit.extract import keypoint_track_of_film

    with networks.on_device() as model:
        return keypoint_track_of_film(model, pictures, landmarks, **how)


def keypoints_of_landmarks(
    networks: KeypointNetworks, face: Portrait, landmarks: LandmarkTrack, bridge: str, progress: Progress
) -> KeypointTrack:
    """Keypoints of the motion of landmarks on a portrait's picture."""
    from ...portraittalk_core.renderers.implicit import bridges

    if bridge == "lips":
        networks.check_lips()
    spans = [landmarks.slice(start, start + SPAN) for start in range(0, len(landmarks), SPAN)]
    with networks.on_device() as model, torch.inference_mode():
        if bridge == "lips":
            tracks = bridges.keypoints_of_lips(model, networks.retargeting, face, spans)
        else:
            tracks = bridges.keypoints_of_landmarks(model, face, spans)
        return join(list(counted(tracks, len(spans), progress)))
