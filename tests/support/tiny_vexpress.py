"""Tiny V-Express networks with random weights, where even layers that start at zero do something."""

from __future__ import annotations

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
    from portraittalk_core.animate.temporal import MotionModules
    from portraittalk_core.vexpress.audio_projection import AudioProjection, AudioSizes
    from portraittalk_core.vexpress.kps_guider import KpsGuider
    from portraittalk_core.vexpress.unet import UNetSizes, VExpress, build_reading_unet, build_reference_net

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
