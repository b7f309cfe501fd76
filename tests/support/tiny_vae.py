"""TAESD's two files with random weights, and a reference implementation of its encoder and decoder."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH = 64
# layers of the public files by number: convolutions (in, out, bias) and blocks of three; the rest holds no weights
DECODER = {1: (4, WIDTH, True), 7: (WIDTH, WIDTH, False), 12: (WIDTH, WIDTH, False), 17: (WIDTH, WIDTH, False)}
DECODER |= {19: (WIDTH, 3, True)}
DECODER_BLOCKS = (3, 4, 5, 8, 9, 10, 13, 14, 15, 18)
UPSAMPLED_BEFORE = (7, 12, 17)
ENCODER = {0: (3, WIDTH, True), 2: (WIDTH, WIDTH, False), 6: (WIDTH, WIDTH, False), 10: (WIDTH, WIDTH, False)}
ENCODER |= {14: (WIDTH, 4, True)}
ENCODER_BLOCKS = (1, 3, 4, 5, 7, 8, 9, 11, 12, 13)


def _half(convolutions: dict, blocks: tuple[int, ...], seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {f"{n}": shape for n, shape in convolutions.items()}
    shapes |= {f"{n}.conv.{i}": (WIDTH, WIDTH, True) for n in blocks for i in (0, 2, 4)}
    tensors = {}
    for name, (inside, outside, biased) in shapes.items():
        tensors[f"{name}.weight"] = torch.randn(outside, inside, 3, 3, generator=draw) * (9 * inside) ** -0.5
        if biased:
            tensors[f"{name}.bias"] = 0.1 * torch.randn(outside, generator=draw)
    return tensors


def decoder_tensors(seed: int = 0) -> dict[str, Tensor]:
    """Of taesd_decoder.safetensors."""
    return _half(DECODER, DECODER_BLOCKS, seed)


def encoder_tensors(seed: int = 1) -> dict[str, Tensor]:
    """Of taesd_encoder.safetensors."""
    return _half(ENCODER, ENCODER_BLOCKS, seed)


def write_taesd(folder: Path, encoder: bool = True) -> Path:
    """Write the files, in half precision as the public ones are; gives the decoder's path."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    halves = {"decoder": decoder_tensors()} | ({"encoder": encoder_tensors()} if encoder else {})
    for name, tensors in halves.items():
        save_file({key: tensor.half() for key, tensor in tensors.items()}, folder / f"taesd_{name}.safetensors")
    return folder / "taesd_decoder.safetensors"


def decoded(tensors: dict[str, Tensor], latents: Tensor) -> Tensor:
    """Pictures (B, 3, 8h, 8w) in 0..1 of latents (B, 4, h, w), scaled as the UNet knows them."""

    def convolved(x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"), padding=1)

    x = 3 * torch.tanh(latents / 3)
    for number in sorted((*DECODER, *DECODER_BLOCKS)):
        if number in DECODER_BLOCKS:
            inner = F.relu(convolved(x, f"{number}.conv.0"))
            inner = F.relu(convolved(inner, f"{number}.conv.2"))
            x = F.relu(convolved(inner, f"{number}.conv.4") + x)
            continue
        if number in UPSAMPLED_BEFORE:
            x = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
        x = convolved(x, str(number))
        x = F.relu(x) if number == 1 else x
    return x


def encoded(tensors: dict[str, Tensor], pictures: Tensor) -> Tensor:
    """Latents (B, 4, h, w), scaled, of pictures (B, 3, 8h, 8w) in 0..1."""

    def convolved(x: Tensor, name: str, stride: int = 1) -> Tensor:
        return F.conv2d(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"), stride=stride, padding=1)

    x = pictures
    for number in sorted((*ENCODER, *ENCODER_BLOCKS)):
        if number in ENCODER_BLOCKS:
            inner = F.relu(convolved(x, f"{number}.conv.0"))
            inner = F.relu(convolved(inner, f"{number}.conv.2"))
            x = F.relu(convolved(inner, f"{number}.conv.4") + x)
        else:
            x = convolved(x, str(number), 2 if number in (2, 6, 10) else 1)
    return x
