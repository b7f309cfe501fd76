"""A tiny diffusers UNet with SD1.5's sixteen cross-attentions."""

from __future__ import annotations

import torch


def tiny_unet(seed: int = 0, context: int = 48):
    """Random weights; 32 to 128 channels, eight heads."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64, 128, 128),
        cross_attention_dim=context,
        attention_head_dim=8,
        norm_num_groups=32,
    )
    return unet.eval().requires_grad_(False)
