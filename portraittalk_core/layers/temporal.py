"""Temporal attention: AnimateDiff's motion module.

Shapes: B clips of F frames, C channels, H and W latent pixels, N = B·H·W, L most frames at once.
Source: AnimateDiff (Guo et al. 2023), section 4.2, as guoyww/AnimateDiff computes it; `docs/design/animatenet.md` 2.
"""

from __future__ import annotations

import math
from types import ModuleType

import torch
from einops import rearrange
from torch import Tensor, nn

from ..checks import check_shape
from ..errors import InputError
from .attention import attend

HEADS, GROUPS, NORM_EPS = 8, 32, 1e-6
PERIOD = 10000.0  # longest wave of the positions, over 2 pi


def positions(length: int, width: int) -> Tensor:
    """Sinusoidal positional encoding (1, length, width): sine on even channels, cosine on odd ones."""
    frames = torch.arange(length, dtype=torch.float32)[:, None]
    waves = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(PERIOD) / width))
    return torch.stack([torch.sin(frames * waves), torch.cos(frames * waves)], 2).reshape(1, length, width)


class _Positions(nn.Module):
    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("pe", positions(length, width))
        self._copy: tuple[tuple, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (N, F, C) with the positional encoding of their frames added."""
        return x + self._like(x)[:, : x.shape[1]]

    def _like(self, x: Tensor) -> Tensor:
        if self.pe.device == x.device:
            return self.pe.to(x.dtype)
        # weights may wait in another memory than x; a copy at every step would make the host wait
        kind = (x.device, x.dtype, self.pe.data_ptr(), self.pe._version)
        if self._copy is None or self._copy[0] != kind:
            self._copy = kind, self.pe.to(x)
        return self._copy[1]


class _TimeAttention(nn.Module):
    """Self-attention of each pixel over its frames."""

    def __init__(self, width: int, length: int, heads: int, ops: ModuleType) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = ops.Linear(width, width, bias=False)
        self.to_k = ops.Linear(width, width, bias=False)
        self.to_v = ops.Linear(width, width, bias=False)
        self.to_out = nn.ModuleList([ops.Linear(width, width)])
        self.pos_encoder = _Positions(length, width)

    def forward(self, x: Tensor) -> Tensor:
        """From tokens (N, F, C), normalised, to as many."""
        x = self.pos_encoder(x)
        return self.to_out[0](attend(self.to_q(x), self.to_k(x), self.to_v(x), self.heads))


class _GatedLinear(nn.Module):
    def __init__(self, width: int, ops: ModuleType) -> None:
        super().__init__()
        self.proj = ops.Linear(width, 8 * width)

    def forward(self, x: Tensor) -> Tensor:
        values, gates = self.proj(x).chunk(2, -1)
        return values * nn.functional.gelu(gates)


class _FeedForward(nn.Module):
    def __init__(self, width: int, ops: ModuleType) -> None:
        super().__init__()
        self.net = nn.ModuleList([_GatedLinear(width, ops), nn.Identity(), ops.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class _TimeBlock(nn.Module):
    def __init__(self, width: int, length: int, heads: int, ops: ModuleType) -> None:
        super().__init__()
        self.attention_blocks = nn.ModuleList([_TimeAttention(width, length, heads, ops) for _ in range(2)])
        self.norms = nn.ModuleList([ops.LayerNorm(width) for _ in range(2)])
        self.ff = _FeedForward(width, ops)
        self.ff_norm = ops.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        for attention, norm in zip(self.attention_blocks, self.norms, strict=True):
            x = x + attention(norm(x))
        return x + self.ff(self.ff_norm(x))


class _TimeTransformer(nn.Module):
    def __init__(self, width: int, length: int, heads: int, groups: int, ops: ModuleType) -> None:
        super().__init__()
        self.norm = ops.GroupNorm(groups, width, eps=NORM_EPS)
        self.proj_in = ops.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([_TimeBlock(width, length, heads, ops)])
        self.proj_out = ops.Linear(width, width)

    def forward(self, x: Tensor, num_frames: int, norm_joint: bool) -> Tensor:
        """What is to be added to x (B·F, C, H, W)."""
        if norm_joint:
            clips = rearrange(x, "(b f) c h w -> b c f h w", f=num_frames)
            tokens = rearrange(self.norm(clips), "b c f h w -> (b h w) f c")
        else:
            tokens = rearrange(self.norm(x), "(b f) c h w -> (b h w) f c", f=num_frames)
        # the one copy of the way in: from here on every Linear gets its tokens in one piece, and copies nothing
        tokens = tokens.contiguous()  # of one clip, rearrange alone gives a strided view
        tokens = self.proj_out(self.transformer_blocks[0](self.proj_in(tokens)))
        return rearrange(tokens, "(b h w) f c -> (b f) c h w", h=x.shape[2], w=x.shape[3])


class MotionModule(nn.Module):
    """One motion module.

    Args:
        width: channels C.
        length: most frames at once, L.
        heads: of its attentions.
        groups: of its first norm.
        norm_joint: normalise all frames of a clip together, as diffusers does; else each frame by itself, as the
            public weights were trained.
        ops: makes the layers; ComfyUI has its own.
    """

    def __init__(
        self,
        width: int,
        length: int = 32,
        heads: int = HEADS,
        groups: int = GROUPS,
        norm_joint: bool = False,
        ops: ModuleType = nn,
    ) -> None:
        super().__init__()
        self.width, self.length, self.norm_joint = width, length, norm_joint
        self.temporal_transformer = _TimeTransformer(width, length, heads, groups, ops)

    def forward(self, x: Tensor, num_frames: int, strength: float | Tensor = 1.0) -> Tensor:
        """Temporal attention between the frames of a clip.

        Args:
            x: (B·F, C, H, W), the frames of a clip one after another.
            num_frames: F, at most `length`.
            strength: factor of what is added; 0 returns x itself.

        Returns:
            (B·F, C, H, W).

        Raises:
            InputError: more frames than the module has positions for, or rows that are no whole clips.
        """
        if isinstance(strength, (int, float)) and strength == 0:
            return x
        check_frames(num_frames, self.length)
        check_shape(x, f"R {self.width} H W", "motion module input")
        if len(x) % num_frames:
            raise InputError(
                f"{len(x)} rows are not whole clips of {num_frames} frames; give every clip all its frames."
            )
        added = self.temporal_transformer(x, num_frames, self.norm_joint)
        return x + (added if isinstance(strength, (int, float)) and strength == 1 else strength * added)


def check_frames(num_frames: int, length: int) -> None:
    """Check that a window is not longer than a motion module's positions.

    Raises:
        InputError: with both lengths.
    """
    if not 1 <= num_frames <= length:
        raise InputError(
            f"a window of {num_frames} frames does not fit the motion module, which knows 1 to {length} at once; "
            f"choose a window of at most {length}."
        )
