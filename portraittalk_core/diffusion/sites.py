"""SD1.5's sixteen cross-attention sites in running order, with their names in diffusers, ldm, ComfyUI and adapters.

Source: diffusers' UNet2DConditionModel and ComfyUI's UNetModel for SD1.5; the adapter's numbering is the position in
diffusers' list of attention processors (down, up, middle last; self-attention even, cross-attention odd).
"""

from __future__ import annotations

from dataclasses import dataclass

HEADS = 8  # of every site in SD1.x
CONTEXT_WIDTH = 768  # of SD1.5's text tokens


@dataclass(frozen=True)
class AttentionSite:
    """Names and sizes of one spatial transformer and its cross-attention."""

    index: int  # in the order they run; ComfyUI's transformer_index
    block: tuple[str, int]  # ComfyUI's block name and number, as its patches want them
    ldm: str  # prefix in single-file checkpoints, behind model.diffusion_model.
    diffusers: str  # prefix in diffusers
    adapter_key: str  # number of its cross-attention in IP-Adapter files
    width: int  # channels in SD1.5
    shrink: int  # latent pixels per token of this site, along one side

    @property
    def self_attention_key(self) -> str:
        """Number of its self-attention in IP-Adapter files."""
        return str(int(self.adapter_key) - 1)

    def attention(self, which: int) -> str:
        """Diffusers' name of the self- (1) or cross-attention (2)."""
        return f"{self.diffusers}.transformer_blocks.0.attn{which}"


def _sites() -> tuple[AttentionSite, ...]:
    inputs = [(number, f"down_blocks.{i // 2}.attentions.{i % 2}") for i, number in enumerate((1, 2, 4, 5, 7, 8))]
    outputs = [(3 + i, f"up_blocks.{1 + i // 3}.attentions.{i % 3}") for i in range(9)]
    listed = [name for _, name in inputs + outputs] + ["mid_block.attentions.0"]  # diffusers' order
    run = [("input", *site) for site in inputs] + [("middle", 0, listed[-1])] + [("output", *site) for site in outputs]
    widths = (320, 320, 640, 640, 1280, 1280, 1280, 1280, 1280, 1280, 640, 640, 640, 320, 320, 320)
    shrinks = (1, 1, 2, 2, 4, 4, 8, 4, 4, 4, 2, 2, 2, 1, 1, 1)
    return tuple(
        AttentionSite(
            index,
            (block, number),  # ComfyUI calls the middle's one transformer ("middle", 0), though it is middle_block.1
            "middle_block.1" if block == "middle" else f"{block}_blocks.{number}.1",
            name,
            str(2 * listed.index(name) + 1),
            width,
            shrink,
        )
        for index, ((block, number, name), width, shrink) in enumerate(zip(run, widths, shrinks, strict=True))
    )


SITES = _sites()
