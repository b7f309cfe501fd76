"""Opening of MuseTalk 1.5's UNet, with the user's image autoencoder of SD1.5 and whisper-tiny."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ....diffusion.checkpoint import filled_network
from ....diffusion.ldm_names import NUM_LEVELS
from ....errors import InputError, MissingDependency
from ....weights.catalog import SUFFIXES
from ....weights.crop_size import INPUT_SIZE, crop_size
from ....weights.headers import read_shapes, shortened
from ....weights.load import read_tensors
from ..sizes import MAX_SIDE
from .model import SIZE, WHISPER_ADVICE, MuseTalk, build_unet
from .speech import open_whisper

_CONTEXT = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
VAE_MARKS = frozenset({"decoder.conv_in.weight", "post_quant_conv.weight", "encoder.conv_in.weight"})
WHISPER_MARKS = frozenset({"encoder.conv1.weight", "encoder.embed_positions.weight"})
VAE_ADVICE = "stabilityai/sd-vae-ft-mse's diffusion_pytorch_model.safetensors, or any other"


def open_musetalk(
    path: Path,
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    vae: Path | None = None,
    speech_encoder: Path | None = None,
) -> MuseTalk:
    """Open MuseTalk for inference.

    Args:
        path: musetalkV15/unet.pth under any name.
        device: of the networks.
        dtype: of their weights.
        vae: file of SD1.5's image autoencoder; None: one in the same folder, or in a folder sd-vae… beside it.
        speech_encoder: file of whisper-tiny; None: one in the same folder, or in a folder whisper… beside it.

    Raises:
        MissingDependency: diffusers, the autoencoder or whisper is not there.
        InputError: damaged, not whole, or of another model.
    """
    from ....diffusion.vae import load_vae

    vae = vae or _beside(path, "sd-vae*", VAE_MARKS)
    speech_encoder = speech_encoder or _beside(path, "whisper*", WHISPER_MARKS)
    for found, what, advice in (
        (vae, "`vae`", f"an image autoencoder of SD1.5 ({VAE_ADVICE})"),
        (speech_encoder, "`speech_encoder`", WHISPER_ADVICE),
    ):
        if found is None:
            raise MissingDependency(
                f"MuseTalk needs {advice}, and there is none beside {path.name}: put it into its folder, or give it "
                f"with {what}."
            )
    tensors = read_tensors(path)
    size = crop_size(tensors, path.name, SIZE, MAX_SIDE)
    tensors.pop(INPUT_SIZE, None)
    widths = tuple(_size(tensors, f"down_blocks.{i}.resnets.0.conv1.weight", 0, path) for i in range(NUM_LEVELS))
    with torch.device("meta"):  # no random weights that would be replaced at once
        empty = build_unet(widths, _size(tensors, _CONTEXT, 1, path), size)
    unet = filled_network(empty, tensors, path.name, device, dtype)
    encoder = open_whisper(speech_encoder, unet.config.cross_attention_dim, device)
    model = MuseTalk(unet, load_vae(vae, device, dtype), encoder, size)
    return model.eval().requires_grad_(False)


def _size(tensors: Mapping[str, Tensor], name: str, dimension: int, path: Path) -> int:
    if name not in tensors or tensors[name].ndim <= dimension:
        raise InputError(f"{path.name} is not MuseTalk's whole UNet: it lacks {name}; download it again.")
    return tensors[name].shape[dimension]


def _beside(path: Path, folders: str, marks: frozenset[str]) -> Path | None:
    """A file with certain tensors in the folder of a UNet, or where MuseTalk's own layout has it."""
    for folder in (path.parent, *sorted(path.parent.parent.glob(folders))):
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        for file in files:
            if file == path or file.suffix.lower() not in SUFFIXES or not file.is_file():
                continue
            if marks <= {shortened(name.split(".")) for name in read_shapes(file)}:
                return file
    return None
