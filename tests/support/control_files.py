"""A tiny random ControlNet, and its file in ldm's layout."""

from __future__ import annotations

import torch
from torch import Tensor


def tiny_controlnet(seed: int = 0, context: int = 48):
    """Of SD1.5's topology; its zero convolutions are not zero, so that it does something."""
    from diffusers import ControlNetModel

    torch.manual_seed(seed)
    network = ControlNetModel(
        block_out_channels=(32, 64, 128, 128),
        cross_attention_dim=context,
        attention_head_dim=8,
        conditioning_embedding_out_channels=(16, 32, 96, 256),
    )
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "controlnet_" in name and not weight.any():
                weight.normal_(std=0.1)
    return network.eval().requires_grad_(False)


def ldm_tensors(network) -> dict[str, Tensor]:
    """Its tensors under the names of single files, written out from the layout's description."""
    levels = [(1, 0, 0), (2, 0, 1), (4, 1, 0), (5, 1, 1), (7, 2, 0), (8, 2, 1), (10, 3, 0), (11, 3, 1)]
    places = {f"down_blocks.{level}.resnets.{i}.": f"input_blocks.{n}.0." for n, level, i in levels}
    places |= {f"down_blocks.{level}.attentions.{i}.": f"input_blocks.{n}.1." for n, level, i in levels if level < 3}
    places |= {f"down_blocks.{level}.downsamplers.0.conv.": f"input_blocks.{3 * level + 3}.0.op." for level in range(3)}
    places |= {"conv_in.": "input_blocks.0.0.", "time_embedding.linear_1.": "time_embed.0."}
    places |= {"time_embedding.linear_2.": "time_embed.2.", "mid_block.resnets.0.": "middle_block.0."}
    places |= {"mid_block.attentions.0.": "middle_block.1.", "mid_block.resnets.1.": "middle_block.2."}
    places |= {f"controlnet_down_blocks.{i}.": f"zero_convs.{i}.0." for i in range(12)}
    places |= {"controlnet_mid_block.": "middle_block_out.0."}
    hints = ["conv_in", *(f"blocks.{i}" for i in range(6)), "conv_out"]
    places |= {f"controlnet_cond_embedding.{hint}.": f"input_hint_block.{2 * i}." for i, hint in enumerate(hints)}
    inside = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0"}
    inside |= {"conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    renamed = {}
    for name, tensor in network.state_dict().items():
        old = max((place for place in places if name.startswith(place)), key=len)
        rest = name[len(old) :]
        if ".resnets." in f".{old}":
            part, _, parameter = rest.rpartition(".")
            rest = f"{inside[part]}.{parameter}"
        renamed[f"control_model.{places[old]}{rest}"] = tensor
    return renamed
