"""Renaming of an identity adapter's LoRA to Kohya's names for SD1.5.

Source: `docs/design/identitynet.md` 3, 4.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ...diffusion.sites import SITES
from ...errors import InputError

PROJECTIONS = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out_0"}


def kohya_lora(lora: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An adapter's LoRA under Kohya's names, without alpha: its scale is 1.

    Args:
        lora: `IdentityAdapter.lora`, names such as "0.to_q_lora.down.weight".

    Returns:
        Names such as "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight".

    Raises:
        InputError: a number that SD1.5 has no attention for.
    """
    names = {site.adapter_key: site.attention(2) for site in SITES}
    names |= {site.self_attention_key: site.attention(1) for site in SITES}
    renamed = {}
    for name, tensor in lora.items():
        number, part, direction, _ = name.split(".")
        if number not in names:
            raise InputError(f"the adapter's LoRA has an attention number {number}, SD1.5 has 0 to {len(names) - 1}.")
        attention = names[number].replace(".", "_")
        projection = PROJECTIONS[part.removeprefix("to_").removesuffix("_lora")]
        renamed[f"lora_unet_{attention}_{projection}.lora_{direction}.weight"] = tensor
    return renamed
