"""Tiny V-Express networks with random weights, where even layers that start at zero do something."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

WIDTHS, CONTEXT = (32, 64, 64, 64), 64


def randomise(network: nn.Module, seed: int) -> nn.Module:
    """Draw every weight anew; norms stay near 1."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            fan_in = weight[0].numel() if weight.ndim > 1 else 25
            weight.copy_(torch.randn(weight.shape, generator=draw) / fan_in**0.5)
        for module in network.modules():
            if isinstance(module, nn.LayerNorm | nn.GroupNorm):
                module.weight += 1
    return network.eval().requires_grad_(False)


def tiny_vexpress(features: int = 64):
    """A VExpress whose UNets have 32 to 64 channels; audio features are `features` wide."""
    from portraittalk_core.diffusion.motion_modules import MotionModules
    from portraittalk_core.renderers.vexpress.audio_projection import AudioProjection, AudioSizes
    from portraittalk_core.renderers.vexpress.kps_guider import KpsGuider
    from portraittalk_core.renderers.vexpress.unet import UNetSizes, VExpress, build_reading_unet, build_reference_net

    sizes = UNetSizes(WIDTHS, CONTEXT)
    unet, reading = build_reading_unet(sizes)
    motion = MotionModules(WIDTHS, "v2")
    projection = AudioProjection(AudioSizes(features=features, width=64, out=CONTEXT, inner=64, depth=1))
    return VExpress(
        randomise(unet, 1),
        reading,
        randomise(motion, 2),
        randomise(build_reference_net(sizes), 3),
        randomise(KpsGuider(WIDTHS[0], (4, 4, 8, 8)), 4),
        randomise(projection, 5),
    )


def public_files(networks) -> dict[str, dict[str, torch.Tensor]]:
    """State dicts under the public files' names, laid out as they are."""
    motion = networks.motion.state_dict()
    width = networks.unet.config.block_out_channels[0]
    reference = networks.reference.state_dict()
    reference |= {"conv_out.weight": torch.zeros(4, width, 3, 3), "conv_out.bias": torch.zeros(4)}
    stale = {name: torch.zeros_like(tensor) for name, tensor in motion.items()}
    return {
        "denoising_unet.bin": {**networks.unet.state_dict(), **stale},  # its own motion modules are replaced
        "reference_net.bin": reference,
        "motion_module.bin": motion,
        "v_kps_guider.bin": networks.guider.state_dict(),
        "audio_projection.bin": networks.projection.state_dict(),
    }


def write_vexpress(folder: Path, features: int = 64) -> Path:
    """The five files of `tiny_vexpress` in half precision, as the public ones are; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in public_files(tiny_vexpress(features)).items():
        torch.save({key: tensor.half() for key, tensor in tensors.items()}, folder / name)
    return folder


def write_wav2vec(path: Path, width: int = 64) -> Path:
    """A small wav2vec 2.0 with random weights."""
    from safetensors.torch import save_file
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=width, num_hidden_layers=1, num_attention_heads=width // 64, intermediate_size=64,
        conv_dim=(32,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        tensors = Wav2Vec2Model(config).state_dict()
    save_file({f"wav2vec2.{name}": tensor for name, tensor in tensors.items()}, path)
    return path


def write_whisper(path: Path, width: int = 384, layers: int = 1) -> Path:
    """A small Whisper encoder with random weights; 384 channels are Whisper tiny's."""
    from safetensors.torch import save_file
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(
        d_model=width, encoder_layers=layers, encoder_attention_heads=width // 64, encoder_ffn_dim=64,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        tensors = WhisperEncoder(config).state_dict()
    save_file({f"model.encoder.{name}": tensor for name, tensor in tensors.items()}, path)
    return path
