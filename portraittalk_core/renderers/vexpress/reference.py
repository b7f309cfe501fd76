"""Reference attention: a reference UNet's features of one picture (the bank) are attended to by the denoising UNet.

Shapes: R rows of the batch, N tokens of a site, C its width.
Source: V-Express (Wang et al. 2024), section 3.1; AnimateAnyone (Hu et al. 2023); `docs/design/vexpress.md` 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...diffusion.sites import SITES
from ...errors import InputError
from ...layers.attention import POSITIVE, attend

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention import BasicTransformerBlock

Bank = tuple[Tensor, ...]  # (1 or R, N, C) of each site, in the order of SITES


@dataclass
class Reading:
    """Conditioning of the reader blocks in the current UNet call; the caller sets it before every call."""

    labels: Sequence[int] = (POSITIVE,)  # of equal parts of the batch; parts that are not positive see an empty bank
    reference_weight: float = 1.0  # factor of what the reference adds
    audio_weight: float = 1.0  # factor of what the audio adds
    kps: Tensor | None = None  # (R, C, h, w) to be added behind the first convolution


class ReferenceAttention(nn.Module):
    """Cross-attention to a bank."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self._read: tuple[Tensor, Tensor] | None = None

    def read(self, bank: Tensor | None) -> None:
        """Cache keys and values of a bank (1, N, C) for later calls; None drops them."""
        self._read = None if bank is None else (self.to_k(bank), self.to_v(bank))

    def forward(self, x: Tensor, labels: Sequence[int]) -> Tensor:
        """Attention output of normalised tokens (R, N, C) to the bank.

        An empty bank's values are zeros, whatever the tokens ask: what it adds is the output's bias.
        """
        if self._read is None:
            raise InputError("the UNet has no reference to read; show it one (`read_bank`) before it is called.")
        out = self.to_out[0]
        parts = []
        for label, rows in zip(labels, x.chunk(len(labels)), strict=True):
            if label == POSITIVE:
                keys, values = (cached.expand(len(rows), -1, -1) for cached in self._read)
                parts.append(out(attend(self.to_q(rows), keys, values, self.heads)))
            else:
                parts.append(out.bias.expand_as(rows))
        return torch.cat(parts)


class ReaderBlock(nn.Module):
    """SD1.5 transformer block with reference attention between self-attention and audio cross-attention.

    Its names are those of V-Express's files.

    Args:
        block: diffusers', whose layers it takes over.
        reading: the reference's and the audio's weights, and the CFG labels.
    """

    def __init__(self, block: BasicTransformerBlock, reading: Reading) -> None:
        super().__init__()
        self.norm1, self.attn1 = block.norm1, block.attn1
        width = block.norm1.normalized_shape[0]
        self.norm1_5, self.attn1_5 = nn.LayerNorm(width), ReferenceAttention(width, block.attn1.heads)
        self.norm2, self.attn2 = block.norm2, block.attn2
        self.norm3, self.ff = block.norm3, block.ff
        self.reading = reading

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: object) -> Tensor:
        """Output tokens (R, N, C) of the block."""
        reading, x = self.reading, hidden_states
        x = x + self.attn1(self.norm1(x))
        x = x + reading.reference_weight * self.attn1_5(self.norm1_5(x), reading.labels)
        x = x + reading.audio_weight * self.attn2(self.norm2(x), encoder_hidden_states=encoder_hidden_states)
        return x + self.ff(self.norm3(x))


def blocks_of(unet: UNet2DConditionModel) -> list[nn.Module]:
    """The transformer block of each site, in the order of SITES."""
    return [unet.get_submodule(f"{site.diffusers}.transformer_blocks.0") for site in SITES]


@torch.no_grad()
def write_bank(network: UNet2DConditionModel, latents: Tensor) -> Bank:
    """Bank of a reference network without gradients; see `bank_of`."""
    return bank_of(network, latents)


def bank_of(network: UNet2DConditionModel, latents: Tensor) -> Bank:
    """Bank of a reference network: each site's tokens before its cross-attention.

    Args:
        network: SD1.5's UNet; it is called at timestep 0 with one zero text token.
        latents: (R, 4, h, w) clean, scaled; one for all rows of the reading UNet, or one for each.

    Returns:
        The bank, of the network's type and device.
    """
    like = next(network.parameters())
    tokens: dict[int, Tensor] = {}

    def store(index: int) -> Callable:
        return lambda _module, _inputs, output: tokens.__setitem__(index, output)

    hooks = [block.norm2.register_forward_hook(store(index)) for index, block in enumerate(blocks_of(network))]
    try:
        text = torch.zeros(len(latents), 1, network.config.cross_attention_dim).to(like)
        network(latents.to(like), torch.zeros((), device=like.device), text, return_dict=False)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(tokens[index] for index in range(len(hooks)))


@torch.no_grad()
def read_bank(unet: UNet2DConditionModel, bank: Bank | None) -> None:
    """Set the bank of a UNet's reader blocks for later calls, without gradients; None drops it."""
    set_bank(unet, bank)


def set_bank(unet: UNet2DConditionModel, bank: Bank | None) -> None:
    """Set the bank of a UNet's reader blocks for later calls, with gradients; None drops it.

    Raises:
        InputError: a bank of another number of sites.
    """
    blocks = blocks_of(unet)
    if bank is not None and len(bank) != len(blocks):
        raise InputError(
            f"a bank of {len(bank)} sites does not fit a UNet of {len(blocks)}; write it with `write_bank`."
        )
    for number, block in enumerate(blocks):
        layer = block.attn1_5
        layer.read(None if bank is None else bank[number].to(layer.to_k.weight))
