"""Motion modules in a ComfyUI MODEL, and sliding windows over longer videos, through public hooks only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import comfy.model_management
import comfy.model_patcher
import torch
from comfy.patcher_extension import PatcherInjection, WrappersMP
from torch import Tensor, nn

from ...portraittalk_core.diffusion.motion_modules import MotionModules
from ...portraittalk_core.diffusion.schedule import COMFY_NAMES, IMAGES
from ...portraittalk_core.diffusion.windowed import VideoOptions
from ...portraittalk_core.diffusion.windows import fuse, static_windows, weights_of
from ...portraittalk_core.layers.temporal import MotionModule, check_frames
from .cursor import window_frames
from .unet import OWNER, check_sd15, under_management

KEY = f"{OWNER}_motion"  # under which ComfyUI keeps what is ours


@dataclass
class _Rows:
    """Number of clips in the UNet's batch; written before every call."""

    chunks: int = 1


class _MotionLayer(nn.Module):
    """A motion module between two layers of a UNet's block."""

    def __init__(self, module: MotionModule, rows: _Rows, strength: float) -> None:
        super().__init__()
        self.module, self.rows, self.strength = module, rows, strength

    def forward(self, x: Tensor) -> Tensor:
        """(chunks · F, C, H, W), each chunk a clip."""
        return self.module(x, len(x) // self.rows.chunks, self.strength)


def managed_motion(modules: MotionModules) -> comfy.model_patcher.ModelPatcher:
    """Motion modules, built with `bindings.unet.OPERATIONS`, under ComfyUI's memory management."""
    return under_management(modules)


def with_motion(
    model: comfy.model_patcher.ModelPatcher, motion: comfy.model_patcher.ModelPatcher, strength: float = 1.0
) -> comfy.model_patcher.ModelPatcher:
    """A clone of a MODEL with motion modules and the noise schedule they were trained on.

    Args:
        model: SD1.5.
        motion: of `managed_motion`.
        strength: factor of what they add; 0 gives the MODEL itself.

    Raises:
        InputError: the MODEL is not SD1.5.
    """
    if strength == 0:
        return model
    check_sd15(model, model.model.model_config.unet_config.get("context_dim", 768))
    modules, rows = motion.model, _Rows()
    layers = {point: _MotionLayer(modules.at(point), rows, strength) for point in modules.points}
    clone = model.clone()
    clone.set_additional_models(KEY, [motion])
    clone.set_injections(KEY, [PatcherInjection(_inject(layers), _eject(layers))])
    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, _counting(rows))
    if modules.betas != IMAGES:
        sampling = model.get_model_object("model_sampling")
        settings = SimpleNamespace(sampling_settings={"beta_schedule": COMFY_NAMES[modules.betas]})
        clone.add_object_patch("model_sampling", type(sampling)(settings))  # of the same kind: LCM's stays LCM's
    return clone


def _block(patcher: comfy.model_patcher.ModelPatcher, point) -> nn.Sequential:
    network, (block, number) = patcher.model.diffusion_model, point.block
    return network.middle_block if block == "middle" else getattr(network, f"{block}_blocks")[number]


def _inject(layers: dict) -> Callable:
    def inject(patcher: comfy.model_patcher.ModelPatcher) -> None:
        for point, layer in layers.items():
            _block(patcher, point).insert(point.index + 1, layer)

    return inject


def _eject(layers: dict) -> Callable:
    def eject(patcher: comfy.model_patcher.ModelPatcher) -> None:
        for point, layer in layers.items():
            block = _block(patcher, point)
            for place in reversed([i for i, module in enumerate(block) if module is layer]):
                del block[place]

    return eject


def _counting(rows: _Rows) -> Callable:
    """A wrapper of the UNet's call that records the number of clips in its batch."""

    def call(executor: Callable, x: Tensor, timesteps: Tensor, context=None, y=None, control=None,
             transformer_options=None, **more: object) -> Tensor:  # fmt: skip
        rows.chunks = len((transformer_options or {}).get("cond_or_uncond", [0]))
        return executor(x, timesteps, context, y, control, transformer_options or {}, **more)

    return call


def with_windows(
    model: comfy.model_patcher.ModelPatcher, options: VideoOptions, positions: int
) -> comfy.model_patcher.ModelPatcher:
    """A clone of a MODEL that denoises more frames than a window in overlapping windows, fused at every step.

    Args:
        model: with motion modules.
        options: length and overlap of the windows.
        positions: frames that the motion modules know.

    Raises:
        InputError: a window longer than that.
    """
    check_frames(options.length, positions)

    def run(executor: Callable, inner, conds: list, x: Tensor, timestep: Tensor, model_options: dict) -> list[Tensor]:
        windows = static_windows(len(x), options.length, options.overlap)
        if len(windows) == 1:
            return executor(inner, conds, x, timestep, model_options)
        weights = [weight.to(x.device) for weight in weights_of(windows, len(x), options.fusing, options.overlap)]
        outputs, outer = [], window_frames(model_options["transformer_options"])
        for window in windows:
            comfy.model_management.throw_exception_if_processing_interrupted()
            named = [outer[index] for index in window] if len(outer) == len(x) else list(window)
            context = {"context_window": SimpleNamespace(index_list=named)}
            window_options = {**model_options, "transformer_options": model_options["transformer_options"] | context}
            part = slice(window.start, window.stop)
            outputs.append(executor(inner, conds, x[part], timestep[part], window_options))
        return [fuse(parts, windows, weights, len(x)) if torch.is_tensor(parts[0]) else None
                for parts in zip(*outputs, strict=True)]  # fmt: skip

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, run)
    return clone
