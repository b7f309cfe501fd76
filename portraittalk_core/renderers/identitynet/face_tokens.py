"""Face projections: networks from a face embedding to tokens for the UNet's cross-attention.

Shapes: B faces, T tokens, C width of the text tokens (768), D width of CLIP's hidden states (1280).
Source: PortraitTalk, section 3.1; the layouts of IP-Adapter and its FaceID variants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...layers.perceiver import Perceiver


@dataclass(frozen=True)
class ProjectionInput:
    """Embeddings of B faces; a projection uses the parts that it needs."""

    face_embeds: Tensor | None = None  # (B, 512) of ArcFace, L2-normalised
    clip_states: Tensor | None = None  # (B, 257, D) of CLIP vision, last layer but one
    clip_embeds: Tensor | None = None  # (B, E) of CLIP vision, projected


class FaceProjection(nn.Module):
    """Projection of FaceID and portrait adapters: two linear layers."""

    needs: ClassVar[tuple[str, ...]] = ("face_embeds",)

    def __init__(self, hidden: int, width: int, num_tokens: int, embed: int = 512, ops: ModuleType = nn) -> None:
        super().__init__()
        self.proj = nn.Sequential(ops.Linear(embed, hidden), nn.GELU(), ops.Linear(hidden, width * num_tokens))
        self.norm = ops.LayerNorm(width)
        self.num_tokens = num_tokens

    def forward(self, faces: ProjectionInput) -> Tensor:
        """(B, T, C) tokens."""
        return self.norm(self.proj(faces.face_embeds).unflatten(1, (self.num_tokens, -1)))


class PlusFaceProjection(FaceProjection):
    """Projection of FaceID plus adapters: tokens attend to CLIP's hidden states of the face; v2 adds a shortcut."""

    needs: ClassVar[tuple[str, ...]] = ("face_embeds", "clip_states")

    def __init__(self, first: FaceProjection, perceiver: Perceiver, shortcut: bool) -> None:
        nn.Module.__init__(self)
        self.proj, self.norm, self.num_tokens = first.proj, first.norm, first.num_tokens
        self.perceiver_resampler = perceiver
        self.shortcut = shortcut  # v2
        self.structure = 1.0  # v2: how much of CLIP's view is added

    def forward(self, faces: ProjectionInput) -> Tensor:
        """(B, T, C) tokens."""
        tokens = super().forward(faces)
        attended = self.perceiver_resampler(tokens, faces.clip_states)
        return tokens + self.structure * attended if self.shortcut else attended


class ClipProjection(nn.Module):
    """Projection of plain IP-Adapters: one linear layer after CLIP's image embedding."""

    needs: ClassVar[tuple[str, ...]] = ("clip_embeds",)

    def __init__(self, embed: int, width: int, num_tokens: int, ops: ModuleType = nn) -> None:
        super().__init__()
        self.proj = ops.Linear(embed, width * num_tokens)
        self.norm = ops.LayerNorm(width)
        self.num_tokens = num_tokens

    def forward(self, faces: ProjectionInput) -> Tensor:
        """(B, T, C) tokens."""
        return self.norm(self.proj(faces.clip_embeds).unflatten(1, (self.num_tokens, -1)))


class PlusClipProjection(Perceiver):
    """Projection of IP-Adapter plus: learnt queries attend to CLIP's hidden states."""

    needs: ClassVar[tuple[str, ...]] = ("clip_states",)

    def __init__(self, num_tokens: int, states: int, width: int, sizes: tuple[int, int, int], ops: ModuleType = nn):
        super().__init__(states, width, *sizes, ops)
        self.latents = nn.Parameter(torch.zeros(1, num_tokens, width))
        self.num_tokens = num_tokens

    def forward(self, faces: ProjectionInput) -> Tensor:
        """(B, T, C) tokens."""
        states = faces.clip_states
        return super().forward(self.latents.to(states).expand(len(states), -1, -1), states)


def build_projection(layout: str, tensors: Mapping[str, Tensor], ops: ModuleType = nn) -> nn.Module:
    """A projection without weights, with the sizes of a file's tensors.

    Args:
        layout: "faceid", "portrait", "plus", "plusv2", "plain" or "clip_plus".
        tensors: of the file's projection, by name.
        ops: where Linear and LayerNorm come from; ComfyUI gives its own.
    """
    width = tensors["norm.weight" if "norm.weight" in tensors else "norm_out.weight"].shape[0]
    if layout == "plain":
        rows, embed = tensors["proj.weight"].shape
        return ClipProjection(embed, width, rows // width, ops)
    if layout == "clip_plus":
        states = tensors["proj_in.weight"].shape[1]
        num_tokens, inside = tensors["latents"].shape[1:]
        return PlusClipProjection(num_tokens, states, inside, (*_perceiver_sizes(tensors, ""), width), ops)
    hidden, embed = tensors["proj.0.weight"].shape
    first = FaceProjection(hidden, width, tensors["proj.2.weight"].shape[0] // width, embed, ops)
    if layout in ("faceid", "portrait"):
        return first
    prefix = "perceiver_resampler."
    states = tensors[f"{prefix}proj_in.weight"].shape[1]
    perceiver = Perceiver(states, width, *_perceiver_sizes(tensors, prefix), width, ops)
    return PlusFaceProjection(first, perceiver, layout == "plusv2")


def _perceiver_sizes(tensors: Mapping[str, Tensor], prefix: str) -> tuple[int, int]:
    """Inner width of the attention, and number of layers."""
    depth = sum(name.startswith(f"{prefix}layers.") and name.endswith(".0.to_q.weight") for name in tensors)
    return tensors[f"{prefix}layers.0.0.to_q.weight"].shape[0], depth
