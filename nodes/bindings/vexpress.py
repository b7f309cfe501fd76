"""V-Express's networks and a ComfyUI VAE under ComfyUI's memory management."""

from __future__ import annotations

import logging
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
from comfy.patcher_extension import CallbacksMP
from torch import Tensor, nn

from ...portraittalk_core.diffusion.latents import LATENT_SCALE
from ...portraittalk_core.errors import InputError
from ...portraittalk_core.renderers.vexpress.load import load_vexpress
from ...portraittalk_core.renderers.vexpress.pipeline import VExpressModels, VExpressOptions
from ...portraittalk_core.renderers.vexpress.unet import VExpress
from ...portraittalk_core.style.attention import FrameStyles, StyleConditioning
from . import convert

log = logging.getLogger(__name__)

OUT_OF_MEMORY = comfy.model_management.OOM_EXCEPTION
Styled = tuple[comfy.model_patcher.ModelPatcher, FrameStyles]
MEMORY = 0.01 * 1024**2  # bytes that a byte of SD1.5's latents asks for, as ComfyUI counts

# the networks used last, by their files and dtype, until ComfyUI frees their memory
_cached: dict[tuple, comfy.model_patcher.ModelPatcher] = {}


class VExpressNetworks(nn.Module):
    """All networks as one module."""

    def __init__(self, parts: VExpress) -> None:
        super().__init__()
        self.set_networks(parts)

    def set_networks(self, parts: VExpress) -> None:
        """Set the networks, as in the constructor."""
        self.parts: VExpress | None = parts
        self.networks = nn.ModuleList([parts.unet, parts.motion, parts.reference, parts.guider, parts.projection])

    def release(self) -> None:
        """Drop the references to the networks, so that unused weights are freed."""
        self.parts, self.networks = None, None


class ComfyLatentCodec:
    """ComfyUI's VAE as the core's LatentCodec."""

    def __init__(self, vae) -> None:
        self.vae = vae

    def encode(self, picture: Tensor) -> Tensor:
        """(1, 4, H/8, W/8) scaled latents of a picture (H, W, 3) uint8.

        Raises:
            InputError: the VAE is not SD1.5's.
        """
        latents = self.vae.encode(convert.to_image([picture]))
        expected = (1, 4, picture.shape[0] // 8, picture.shape[1] // 8)
        if tuple(latents.shape) != expected:
            raise InputError(
                f"the VAE gives latents {tuple(latents.shape)}, not {expected}; connect the VAE of an SD1.5."
            )
        return latents.float() * LATENT_SCALE

    def decode(self, latents: Tensor) -> Tensor:
        """A picture (H, W, 3) float 0..1 of scaled latents (1, 4, H/8, W/8)."""
        return self.vae.decode(latents / LATENT_SCALE)[0]


def models_of(
    weight_files: tuple[Path, list[Path]], vae, encoder, options: VExpressOptions, style: Styled | None = None
) -> VExpressModels:
    """The models of a V-Express run, for the core.

    Args:
        weight_files: the networks' folder and the weight files in it.
        vae: VAE.
        encoder: speech encoder.
        options: of the run.
        style: a style attention of `bindings.style.managed_style`, with the styles of all frames.
    """
    patcher = managed_networks(*weight_files)
    parts, more = patcher.model.parts, [] if style is None else [style[0]]
    conditioning = None if style is None else StyleConditioning(style[0].model, style[1])
    return VExpressModels(
        parts, ComfyLatentCodec(vae), encoder, conditioning, lambda: load_to_device([patcher, *more], parts, options)
    )


def managed_networks(folder: Path, files: list[Path]) -> comfy.model_patcher.ModelPatcher:
    """The networks of a folder, in the precision that ComfyUI chooses.

    They are kept for the next run until ComfyUI takes them off the device, as "Unload Models" does.

    Args:
        folder: where the files are.
        files: the weight files in it, which tell whether anything has changed.
    """
    device = comfy.model_management.get_torch_device()
    stored = comfy.model_management.unet_dtype(device)
    dtype = comfy.model_management.unet_manual_cast(stored, device) or stored
    stamps = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files]
    key = (dtype, *stamps)
    if key not in _cached or _cached[key].model.parts is None:
        _cached.clear()
        home = comfy.model_management.unet_offload_device()
        patcher = comfy.model_patcher.ModelPatcher(VExpressNetworks(load_vexpress([folder], home, dtype)), device, home)
        patcher.add_callback(CallbacksMP.ON_DETACH, _release)
        _cached[key] = patcher
        log.info("V-Express's networks are read from %s, as %s.", folder, dtype)
    return _cached[key]


def _release(patcher: comfy.model_patcher.ModelPatcher, for_good: bool) -> None:
    """Called by ComfyUI when it takes the networks off; not for good where it is about to load them anew.

    The patcher itself must stay: ComfyUI is going through the list of those that are alive.
    """
    if for_good:
        patcher.model.release()


def load_to_device(patchers: list[comfy.model_patcher.ModelPatcher], parts: VExpress, options: VExpressOptions) -> None:
    """Have ComfyUI free memory and load the networks, which come first, and the style attention."""
    patcher = patchers[0]
    if patcher.model.parts is None:  # the VAE took their place
        patcher.model.set_networks(parts)
    rows = options.length * (1 if options.guidance == 1 else 2)
    area = rows * (options.width // 8) * (options.height // 8)
    needed = area * next(patcher.model.parameters()).element_size() * MEMORY
    comfy.model_management.load_models_gpu(patchers, memory_required=needed, force_full_load=True)
    patcher.model.to(patcher.load_device)  # where little memory is allowed, ComfyUI leaves a part behind
