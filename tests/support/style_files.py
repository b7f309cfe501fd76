"""A style attention for the tiny UNet, with random weights where new ones have zeros."""

from __future__ import annotations

import torch

WIDTHS, SPACE = (32, 64, 128, 128), "extractor:test"


def style_attention(
    style_width: int = 8, token_width: int = 48, trained: bool = True, widths: tuple = WIDTHS, space: str = SPACE
):
    """For `tiny_unet.tiny_unet`, or for a UNet whose levels have other widths."""
    from portraittalk_core.diffusion.sites import SITES
    from portraittalk_core.style.attention_files import StyleSizes
    from portraittalk_core.style.projection import new_style_attention

    level = {320: 0, 640: 1, 1280: 3}
    of_sites = {site.adapter_key: widths[level[site.width]] for site in SITES}
    net = new_style_attention(StyleSizes(of_sites, space, style_width, token_width), seed=3)
    if trained:
        torch.manual_seed(4)
        with torch.no_grad():
            for number in of_sites:
                net.site(number).to_out.weight.normal_(std=0.3)
                net.site(number).norm.weight.normal_(mean=1.0, std=0.1)
    return net.eval().requires_grad_(False)
