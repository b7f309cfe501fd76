"""A tiny diffusers UNet with SD1.5's sixteen cross-attentions, and motion modules for it."""

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


def random_motion():
    """Of version 3, with random weights where new ones have zeros."""
    from portraittalk_core.diffusion.motion_modules import MotionModules

    torch.manual_seed(7)
    modules = MotionModules((32, 64, 128, 128), "v3")
    with torch.no_grad():
        for name, weight in modules.named_parameters():
            if "proj_out" in name:
                weight.normal_(std=0.1)
    return modules.eval().requires_grad_(False)
