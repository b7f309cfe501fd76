"""Loading of SD1.5's image autoencoder from a separate file: a full VAE or TAESD.

Source: names in files: CompVis/stable-diffusion (ldm), diffusers, and madebyollin/taesd, whose two files number the
layers of a sequence; its decoder first bounds the latents, which is a layer there but not in diffusers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InputError, MissingDependency
from ..weights.load import read_tensors
from .checkpoint import empty_vae, filled_network, vae_part
from .latents import TinyVae

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

Tensors = dict[str, Tensor]
LATENTS = 4  # channels of SD1.5's
ENCODER, DECODER = "encoder.layers.", "decoder.layers."
_DECODER_ENTRY, _ENCODER_ENTRY = "1.weight", "0.weight"  # of TAESD's own two files
_ADVICE = "Give a VAE of SD1.5 (for example vae-ft-mse-840000-ema-pruned.safetensors) or taesd_decoder.safetensors."


def load_vae(
    path: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    fallback: AutoencoderKL | None = None,
) -> AutoencoderKL | TinyVae:
    """Load an image autoencoder of SD1.5, ready for inference.

    Args:
        path: a VAE, a full SD1.5 checkpoint, TAESD as diffusers has it, or TAESD's decoder, whose encoder is
            looked for in the same folder.
        device: of the autoencoder.
        dtype: of its weights.
        fallback: encodes where TAESD's encoder is not there; the checkpoint's.

    Raises:
        MissingDependency: no such file, or diffusers is not installed.
        InputError: damaged, no autoencoder, or one of another base model.
    """
    path = Path(path)
    tensors = read_tensors(path)
    try:
        import diffusers  # noqa: F401 - before anything is read further
    except ImportError as error:
        raise MissingDependency("diffusers is not installed; run: pip install diffusers") from error
    tiny = _tiny_part(tensors, path)
    if tiny:
        return _tiny(tiny, path.name, device, dtype, fallback).eval().requires_grad_(False)
    part = vae_part(tensors)
    if "decoder.conv_in.weight" not in part:
        first_name = next(iter(tensors), "nothing")
        raise InputError(f"{path.name} holds no VAE; its tensors are called {first_name} and so on. {_ADVICE}")
    _check_latents(part["decoder.conv_in.weight"].shape[1], path.name)
    network = filled_network(empty_vae(part, path.name), part, f"the VAE in {path.name}", device, dtype)
    return network.eval().requires_grad_(False)


def _check_latents(channels: int, source: str) -> None:
    if channels != LATENTS:
        raise InputError(f"{source} makes latents of {channels} channels, SD1.5's have {LATENTS}. {_ADVICE}")


def _tiny_part(tensors: Mapping[str, Tensor], path: Path) -> Tensors:
    """TAESD's tensors under diffusers' names; empty if the file is no TAESD."""
    if f"{DECODER}0.weight" in tensors:
        return dict(tensors)
    if not any(re.match(r"\d+\.conv\.0\.weight$", name) for name in tensors):
        return {}
    if _DECODER_ENTRY not in tensors or _ENCODER_ENTRY in tensors:
        raise InputError(f"{path.name} is an encoder of TAESD's; give its decoder, taesd_decoder.safetensors.")
    renamed = {DECODER + _earlier(name): tensor for name, tensor in tensors.items()}
    encoder_path = path.with_name(path.name.replace("decoder", "encoder"))
    if encoder_path != path and encoder_path.is_file():
        renamed |= {ENCODER + name: tensor for name, tensor in read_tensors(encoder_path).items()}
    return renamed


def _earlier(name: str) -> str:
    """A decoder layer's name with its index reduced by one: diffusers has no clamp layer before the first."""
    number, rest = name.split(".", 1)
    return f"{int(number) - 1}.{rest}"


def _tiny(
    tensors: Tensors, source: str, device: torch.device | str, dtype: torch.dtype, fallback: AutoencoderKL | None
) -> TinyVae:
    from diffusers import AutoencoderTiny

    entry = tensors[f"{DECODER}0.weight"]
    _check_latents(entry.shape[1], source)
    has_encoder = any(name.startswith(ENCODER) for name in tensors)
    if not has_encoder and fallback is None:
        raise InputError(f"{source} only decodes; put taesd_encoder.safetensors beside it, or use a full checkpoint.")
    with torch.device("meta"):
        tiny = AutoencoderTiny()
    if not has_encoder:
        del tiny.encoder
    return TinyVae(filled_network(tiny, tensors, source, device, dtype), None if has_encoder else fallback)
