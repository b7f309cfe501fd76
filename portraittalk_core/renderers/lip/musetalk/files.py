"""Opening of MuseTalk 1.5's UNet, with the user's image autoencoder of SD1.5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ....diffusion.checkpoint import filled_network
from ....diffusion.ldm_names import NUM_LEVELS
from ....errors import InputError, MissingDependency
from ....weights.catalog import SUFFIXES
from ....weights.headers import read_shapes
from ....weights.load import read_tensors
from .model import SIZE, MuseTalk, build_unet

_CONTEXT = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
_VAE_MARKS = "decoder.conv_in.weight", "post_quant_conv.weight", "encoder.conv_in.weight"
_VAE_FOLDERS = "sd-vae*"  # beside the folder of the UNet in MuseTalk's own layout
VAE_ADVICE = "stabilityai/sd-vae-ft-mse's diffusion_pytorch_model.safetensors, or any VAE of SD1.5"
INPUT_SIZE = "input_size"  # a number that our files of random weights hold besides: the side of the crops


def open_musetalk(path: Path, device: torch.device | str, dtype: torch.dtype, *, vae: Path | None = None) -> MuseTalk:
    """Open MuseTalk for inference.

    Args:
        path: musetalkV15/unet.pth under any name.
        device: of the networks.
        dtype: of their weights.
        vae: file of SD1.5's image autoencoder; None: one in the same folder, or in a folder sd-vae… beside it.

    Raises:
        MissingDependency: diffusers or the autoencoder is not there.
        InputError: damaged, not whole, or of another model.
    """
    from ....diffusion.vae import load_vae

    chosen = vae if vae is not None else next(_vaes_beside(path), None)
    if chosen is None:
        raise MissingDependency(
            f"MuseTalk needs an image autoencoder of SD1.5, and there is none beside {path.name}: put {VAE_ADVICE}, "
            "into its folder, or give it with `vae`."
        )
    tensors = read_tensors(path)
    size = tensors.pop(INPUT_SIZE, torch.tensor(SIZE))
    widths = tuple(_size(tensors, f"down_blocks.{i}.resnets.0.conv1.weight", 0, path) for i in range(NUM_LEVELS))
    with torch.device("meta"):  # no random weights that would be replaced at once
        empty = build_unet(widths, _size(tensors, _CONTEXT, 1, path), int(size))
    unet = filled_network(empty, tensors, path.name, device, dtype)
    model = MuseTalk(unet, load_vae(chosen, device, dtype), int(size))
    return model.eval().requires_grad_(False)


def _size(tensors: Mapping[str, Tensor], name: str, dimension: int, path: Path) -> int:
    if name not in tensors or tensors[name].ndim <= dimension:
        raise InputError(f"{path.name} is not MuseTalk's whole UNet: it lacks {name}; download it again.")
    return tensors[name].shape[dimension]


def _vaes_beside(path: Path) -> Iterator[Path]:
    """Files of autoencoders in the folder of a UNet, and where MuseTalk's own layout has them."""
    for folder in (path.parent, *sorted(path.parent.parent.glob(_VAE_FOLDERS))):
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        for file in files:
            if file.suffix.lower() in SUFFIXES and file.is_file() and set(_VAE_MARKS) <= read_shapes(file).keys():
                yield file
