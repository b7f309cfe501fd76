"""Trained networks of AnimateNet: initial weights, and the ControlNet's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ...diffusion.motion_modules import MotionModules, load_motion_modules, new_motion_modules
from ...errors import InputError
from ...media.tensor_file import save_tensors
from ...renderers.animatenet.animate_net import AnimateNet, extended, load_animate_net, new_animate_net
from ...renderers.animatenet.control import load_controlnet
from .config import AnimateTraining

if TYPE_CHECKING:
    from diffusers import ControlNetModel


@dataclass(frozen=True)
class AnimateParts:
    """The trained networks."""

    controlnet: ControlNetModel
    net: AnimateNet
    motion: MotionModules | None = None  # of the joint stage


def make_parts(unet: nn.Module, config: AnimateTraining) -> AnimateParts:
    """Initial networks of a stage: from files where configured, else new ones for a UNet.

    Raises:
        InputError: the joint stage without a ControlNet, or files that do not fit.
    """
    if config.stage == "joint" and (config.controlnet is None or config.animate_net is None):
        raise InputError(
            "the joint stage goes on from the first one: give its controlnet and animate_net, the files that "
            "stage = 'spatial' has made."
        )
    seed = config.trainer.seed
    if config.controlnet is not None:
        controlnet = load_controlnet(config.controlnet)
    else:
        from diffusers import ControlNetModel

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # of the layers that read the drawing, which the UNet has none of
            controlnet = ControlNetModel.from_unet(unet).eval()
    extras = {"features": config.features, "previous": config.previous}
    if config.animate_net is None:
        net = new_animate_net(controlnet, seed, **extras)
    else:
        net = extended(load_animate_net(config.animate_net), controlnet, seed, **extras)
    if config.stage != "joint":
        return AnimateParts(controlnet, net)
    widths = tuple(unet.config.block_out_channels)
    if config.motion is not None:
        return AnimateParts(controlnet, net, load_motion_modules(config.motion, widths=widths))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AnimateParts(controlnet, net, new_motion_modules(widths, config.motion_version, betas=config.betas))


def check_options(parts: AnimateParts, config: AnimateTraining) -> None:
    """Check that AnimateNet has the parts of the options, and no part that must be shown something without one."""
    if config.features and not parts.net.features:
        raise InputError("features = true needs an AnimateNet with attention to features.")
    if (parts.net.previous_proj is not None) != config.previous:
        raise InputError(
            "this AnimateNet was made with previous = true, and goes on so; set it."
            if not config.previous
            else "previous = true needs an AnimateNet that looks at the last frame."
        )


def save_controlnet(network: ControlNetModel, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a ControlNet as safetensors in diffusers' names, which ComfyUI reads too, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    return save_tensors(network.state_dict(), path, {"base": "SD1.5", **(metadata or {})})
