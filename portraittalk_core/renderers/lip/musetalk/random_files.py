"""MuseTalk with random weights, for tests and measurements, and its files."""

from __future__ import annotations

from pathlib import Path

import torch

from ....errors import MissingDependency
from ....media.tensor_file import save_tensors
from ....speech.encoders import WhisperEncoder
from ....weights.crop_size import INPUT_SIZE
from .model import SIZE, MuseTalk, build_unet
from .speech import STATES

TINY_SIZE = 64  # whose latents the UNet brings down to one pixel
ROW_WIDTH = 384  # of whisper-tiny
WIDTHS = {"tiny": (32, 32, 64, 64), "public": (320, 640, 1280, 1280)}
FEED_WIDTHS = {"tiny": 16, "public": 1536}
VAE_WIDTHS = {"tiny": (32, 32, 32, 32), "public": (128, 256, 512, 512)}


def random_musetalk(size: str, seed: int) -> MuseTalk:
    """MuseTalk with random weights, ready for inference; "tiny" or "public".

    Raises:
        MissingDependency: diffusers or transformers is not installed.
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
        unet, encoder = build_unet(WIDTHS[size], ROW_WIDTH, side), _random_whisper(FEED_WIDTHS[size])
    return MuseTalk(unet, vae, encoder, side).eval().requires_grad_(False)


def _random_whisper(feed_width: int) -> WhisperEncoder:
    """An encoder of whisper-tiny's width and layers."""
    try:
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder as Network
    except ImportError as error:
        raise MissingDependency("MuseTalk needs transformers: pip install transformers") from error
    config = WhisperConfig(
        d_model=ROW_WIDTH, encoder_layers=STATES - 1, encoder_attention_heads=6, encoder_ffn_dim=feed_width,
        num_mel_bins=80,
    )  # fmt: skip
    return WhisperEncoder(Network(config).eval().requires_grad_(False), "whisper-tiny")


def write_random_musetalk(folder: Path, size: str, seed: int, form: str) -> list[Path]:
    """Write unet.pth or unet.safetensors, and the autoencoder and whisper beside it.

    Raises:
        OutputError: a file cannot be written.
    """
    model = random_musetalk(size, seed)
    tensors = dict(model.unet.state_dict())
    if size == "tiny":
        tensors[INPUT_SIZE] = torch.tensor(TINY_SIZE)
    vae = save_tensors(model.vae.state_dict(), folder / "random-vae.safetensors")
    heard = {f"encoder.{name}": tensor for name, tensor in model.encoder.network.state_dict().items()}
    whisper = save_tensors(heard, folder / "random-whisper.safetensors")
    return [_written(tensors, folder, form), vae, whisper]


def _written(tensors: dict[str, torch.Tensor], folder: Path, form: str) -> Path:
    if form == "safetensors":
        return save_tensors(tensors, folder / "unet.safetensors")
    torch.save(tensors, folder / "unet.pth")
    return folder / "unet.pth"
