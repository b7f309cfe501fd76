"""MuseTalk with random weights, for tests and measurements, and its files."""

from __future__ import annotations

from pathlib import Path

import torch

from ....errors import MissingDependency
from ....media.tensor_file import save_tensors
from .files import INPUT_SIZE
from .model import SIZE, MuseTalk, build_unet

TINY_SIZE = 64  # whose latents the UNet brings down to one pixel
ROW_WIDTH = 384  # of whisper-tiny
WIDTHS = {"tiny": (32, 32, 64, 64), "public": (320, 640, 1280, 1280)}
VAE_WIDTHS = {"tiny": (32, 32, 32, 32), "public": (128, 256, 512, 512)}


def random_musetalk(size: str, seed: int) -> MuseTalk:
    """MuseTalk with random weights, ready for inference; "tiny" or "public".

    Raises:
        MissingDependency: diffusers is not installed.
    """
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise MissingDependency("MuseTalk needs diffusers: pip install diffusers") from error
    side = TINY_SIZE if size == "tiny" else SIZE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=VAE_WIDTHS[size],
            layers_per_block=2,
            latent_channels=4,
        )
        model = MuseTalk(build_unet(WIDTHS[size], ROW_WIDTH, side), vae, side)
    return model.eval().requires_grad_(False)


def write_random_musetalk(folder: Path, size: str, seed: int, form: str) -> list[Path]:
    """Write unet.pth or unet.safetensors, and the autoencoder beside it.

    Raises:
        OutputError: a file cannot be written.
    """
    model = random_musetalk(size, seed)
    tensors = dict(model.unet.state_dict())
    if size == "tiny":
        tensors[INPUT_SIZE] = torch.tensor(TINY_SIZE)
    vae = save_tensors(model.vae.state_dict(), folder / "random-vae.safetensors")
    return [_written(tensors, folder, form), vae]


def _written(tensors: dict[str, torch.Tensor], folder: Path, form: str) -> Path:
    if form == "safetensors":
        return save_tensors(tensors, folder / "unet.safetensors")
    torch.save(tensors, folder / "unet.pth")
    return folder / "unet.pth"
