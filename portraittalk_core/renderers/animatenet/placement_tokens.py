"""Landmark and head placement tokens, and AnimateNet's cross-attention branches to them.

AnimateNet's cross-attention branches are parallel to the text's in the ControlNet's seven attentions, numbered 1,
3, 5, 7, 9, 11 and 31 as in identity adapters. Untrained they add exactly nothing.

Shapes: B rows of a batch, N queries (pixels), T tokens, C channels of a site, E width of the tokens (768).
Source: PortraitTalk, section 3.2; sizes are this project's own.
"""

from __future__ import annotations

from types import ModuleType

from torch import Tensor, nn

from ...checks import check_choice, check_shape
from ...layers.attention import attend
from ...types import NUM_LANDMARKS
from .head_placement import NUM_PLACEMENT

KINDS = ("lm", "hp")  # landmarks, head placement: as the checkpoint names them
SITES = ("1", "3", "5", "7", "9", "11", "31")  # the ControlNet's cross-attentions, by the checkpoint's numbers


def centred(points_px: Tensor) -> Tensor:
    """(B, 478, 2) points normalised for position and size: mean 0, root mean square distance 1.

    Args:
        points_px: (B, 478, 2 or more) in pixels, so that the picture's shape does not matter.
    """
    points = points_px[..., :2] - points_px[..., :2].mean(1, keepdim=True)
    size = points.square().sum(2).mean(1).sqrt()
    return points / size.clamp(min=1e-6)[:, None, None]


class _Tokens(nn.Module):
    """Token projection: two linear layers and a layer norm."""

    def __init__(self, sizes: tuple[int, int], width: int, num_tokens: int, ops: ModuleType) -> None:
        super().__init__()
        num_inputs, hidden = sizes
        self.proj = nn.Sequential(ops.Linear(num_inputs, hidden), nn.GELU(), ops.Linear(hidden, width * num_tokens))
        self.norm = ops.LayerNorm(width)
        self.num_tokens = num_tokens

    def _tokens(self, numbers: Tensor) -> Tensor:
        return self.norm(self.proj(numbers).unflatten(1, (self.num_tokens, -1)))


class LandmarkTokens(_Tokens):
    """Landmark tokens: the face's shape, normalised for position and size.

    Args:
        width: of a token.
        num_tokens: of a face.
        hidden: between the layers.
        ops: where Linear and LayerNorm come from; ComfyUI gives its own.
    """

    def __init__(self, width: int = 768, num_tokens: int = 8, hidden: int = 1024, ops: ModuleType = nn) -> None:
        super().__init__((2 * NUM_LANDMARKS, hidden), width, num_tokens, ops)

    def forward(self, points_px: Tensor) -> Tensor:
        """(B, T, E) tokens of points (B, 478, 2 or 3) in pixels."""
        check_shape(points_px, f"B {NUM_LANDMARKS} {points_px.shape[-1]}", "the landmarks")
        return self._tokens(centred(points_px).flatten(1))


class PlacementTokens(_Tokens):
    """Head placement tokens; see `head_placement`.

    Args:
        width: of a token.
        num_tokens: of a placement.
        hidden: between the layers.
        ops: where Linear and LayerNorm come from.
    """

    def __init__(self, width: int = 768, num_tokens: int = 4, hidden: int = 256, ops: ModuleType = nn) -> None:
        super().__init__((NUM_PLACEMENT, hidden), width, num_tokens, ops)

    def forward(self, placements: Tensor) -> Tensor:
        """(B, T, E) tokens of placements (B, 6)."""
        return self._tokens(check_shape(placements, f"B {NUM_PLACEMENT}", "the placements"))


class ZeroBranch(nn.Module):
    """Keys and values of one kind of tokens at one site; values are initialised to zero.

    Args:
        width: channels of the site.
        token_width: of the tokens.
        kind: "lm" or "hp"; its weights are called `to_k_lm`, `to_v_lm`, ….
        ops: where Linear comes from.
    """

    def __init__(self, width: int, token_width: int = 768, kind: str = "lm", ops: ModuleType = nn) -> None:
        super().__init__()
        self.kind = check_choice(kind, KINDS, "the kind of tokens")
        for part in "kv":
            self.add_module(f"to_{part}_{kind}", ops.Linear(token_width, width, bias=False))
        keys, values = self._layers()
        # ComfyUI's layers leave their memory as it was, and zero times NaN is not zero
        nn.init.normal_(keys.weight, std=token_width**-0.5)
        nn.init.zeros_(values.weight)

    def _layers(self) -> tuple[nn.Module, nn.Module]:
        return self.get_submodule(f"to_k_{self.kind}"), self.get_submodule(f"to_v_{self.kind}")

    def keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, T, C) of tokens (B, T, E)."""
        keys, values = self._layers()
        return keys(tokens), values(tokens)

    def forward(self, queries: Tensor, tokens: Tensor, heads: int) -> Tensor:
        """Attention to the tokens, to be added to the text's attention.

        Args:
            queries: (B, N, C) of the text's attention.
            tokens: (B, T, E), of each row its own frame.
            heads: of the site.

        Returns:
            (B, N, C).
        """
        return attend(queries, *self.keys_values(tokens), heads)
