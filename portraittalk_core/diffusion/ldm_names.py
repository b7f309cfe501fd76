"""Conversion of SD1.x tensor names from single-file checkpoints (ldm) to diffusers.

Source: the layouts of CompVis/stable-diffusion and of diffusers' UNet2DConditionModel and AutoencoderKL.
"""

from __future__ import annotations

import re

NUM_LEVELS = 4  # of resolution, in UNet and VAE


def _names() -> list[tuple[re.Pattern, str]]:
    """Patterns of ldm's names and their replacements; the first match is used."""
    table: list[tuple[str, str]] = []
    for level in range(NUM_LEVELS):
        for i in range(3):
            inputs, outputs = f"input_blocks.{1 + 3 * level + i}", f"output_blocks.{3 * level + i}"
            table += [
                (f"{inputs}.0.op", f"down_blocks.{level}.downsamplers.0.conv"),
                (f"{inputs}.0", f"down_blocks.{level}.resnets.{i}"),
                (f"{inputs}.1", f"down_blocks.{level}.attentions.{i}"),
                (f"{outputs}.0", f"up_blocks.{level}.resnets.{i}"),
                (f"{outputs}.{1 if level == 0 else 2}.conv", f"up_blocks.{level}.upsamplers.0.conv"),
                (f"{outputs}.1", f"up_blocks.{level}.attentions.{i}"),
            ]
            table += [
                (f"encoder.down.{level}.block.{i}", f"encoder.down_blocks.{level}.resnets.{i}"),
                (f"decoder.up.{level}.block.{i}", f"decoder.up_blocks.{NUM_LEVELS - 1 - level}.resnets.{i}"),
            ]
        table += [
            (f"encoder.down.{level}.downsample", f"encoder.down_blocks.{level}.downsamplers.0"),
            (f"decoder.up.{level}.upsample", f"decoder.up_blocks.{NUM_LEVELS - 1 - level}.upsamplers.0"),
        ]
    for coder in ("encoder", "decoder"):
        table += [(f"{coder}.mid.block_{i}", f"{coder}.mid_block.resnets.{i - 1}") for i in (1, 2)]
        table += [(f"{coder}.mid.attn_1", f"{coder}.mid_block.attentions.0")]
        table += [(f"{coder}.norm_out", f"{coder}.conv_norm_out")]
    return [(re.compile(rf"{re.escape(old)}\."), f"{new}.") for old, new in (*_OUTSIDE.items(), *table)]


_OUTSIDE = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_INSIDE = {  # of a residual block, or of the VAE's attention
    "resnets": {
        "in_layers.0": "norm1",
        "in_layers.2": "conv1",
        "emb_layers.1": "time_emb_proj",
        "out_layers.0": "norm2",
        "out_layers.3": "conv2",
        "skip_connection": "conv_shortcut",
        "nin_shortcut": "conv_shortcut",
    },
    "coder.mid_block.attentions": {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"},
}
_NAMES = _names()
_WITHIN = re.compile(r"(.*(resnets|coder\.mid_block\.attentions)\.\d+)\.(.+)\.(weight|bias)$")


def network_name(name: str) -> str:
    """Diffusers' name of an ldm tensor; any other name is returned unchanged."""
    for old, new in _NAMES:
        if old.match(name):
            name = old.sub(new, name, count=1)
            break
    else:
        return name
    match = _WITHIN.match(name)
    if not match:
        return name
    block, kind, part, parameter = match.groups()
    return f"{block}.{_INSIDE[kind].get(part, part)}.{parameter}"
