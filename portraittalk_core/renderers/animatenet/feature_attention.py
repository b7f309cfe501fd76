"""Cross-attention from IdentityNet to AnimateNet's feature maps, beside or instead of adding them.

An experiment, off by default. Untrained it adds exactly nothing.

Shapes: R rows of a batch, N = h · w queries (pixels), C channels of a site, F channels of a map.
Source: PortraitTalk, section 3.2, "injected via cross-attention"; `docs/design/animatenet.md` 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ...checks import check_range
from ...diffusion.sites import SITES
from ...errors import InputError
from ...layers.attention import AttentionCall, attend
from .control import ControlOptions, FrameControl
from .hints import Hints
from .mouth_weight import Maps

if TYPE_CHECKING:
    from diffusers import ControlNetModel

MIDDLE = 12  # number of the middle's residual, behind those of the down blocks


class FeatureAttention(nn.Module):
    """Keys and values that a cross-attention of the UNet makes of a map of AnimateNet's; values start at zero.

    Args:
        width: channels of the UNet's site.
        feature_width: of the map.
        ops: where Linear comes from.
    """

    def __init__(self, width: int, feature_width: int, ops: ModuleType = nn) -> None:
        super().__init__()
        self.to_k_ft = ops.Linear(feature_width, width, bias=False)
        self.to_v_ft = ops.Linear(feature_width, width, bias=False)
        nn.init.normal_(self.to_k_ft.weight, std=feature_width**-0.5)
        nn.init.zeros_(self.to_v_ft.weight)

    def forward(self, queries: Tensor, feature: Tensor, heads: int) -> Tensor:
        """What a map (R, F, h, w) adds to the text's attention of queries (R, h · w, C)."""
        # where the queries are: ComfyUI's layers may have their weights elsewhere, and bring them
        pixels = feature.flatten(2).transpose(1, 2).to(queries.device, self.to_k_ft.weight.dtype)
        return attend(queries, self.to_k_ft(pixels).to(queries), self.to_v_ft(pixels).to(queries), heads)


@dataclass
class ControlFeatures:
    """The ControlNet's maps of the pass at hand."""

    maps: Sequence[Tensor] = ()  # thirteen residuals (R, F, h, w), the middle's last; empty: nothing to look at

    def at(self, index: int) -> Tensor | None:
        """The map of a UNet's site's resolution, by the site's index; None where there is none."""
        return self.maps[feature_number(index)] if self.maps else None


def feature_number(index: int) -> int:
    """Which of the ControlNet's residuals has the resolution of a site: its own on the way down, its skip's up."""
    if index < 6:
        return 1 + index + index // 2  # the first is conv_in's, each third a downsampler's
    return MIDDLE if index == 6 else 15 - index


class FeatureBranch:
    """A cross-attention of the UNet that looks at AnimateNet's map of the same resolution.

    Args:
        attention: weights of the site.
        features: the maps at hand; whoever runs the ControlNet keeps them up to date.
        index: of the site, 0..15.
        strength: factor of what is added; 0 adds nothing at all.
    """

    def __init__(
        self, attention: FeatureAttention, features: ControlFeatures, index: int, strength: float = 1.0
    ) -> None:
        self.attention, self.features, self.index, self.strength = attention, features, index, strength

    def clear_cache(self) -> None:
        """Drop the maps, at the end of a run."""
        self.features.maps = ()

    def __call__(self, queries: Tensor, call: AttentionCall) -> Tensor | None:
        """What to add to the text's attention; None where there is nothing to look at."""
        feature = self.features.at(self.index)
        if feature is None or self.strength == 0:
            return None
        rows, _, height, width = feature.shape
        if (rows, height * width) != tuple(queries.shape[:2]):
            raise InputError(
                f"site {self.index} has {len(queries)} rows of {queries.shape[1]} pixels, AnimateNet's map has {rows} "
                f"of {height}x{width}; run the ControlNet on the same latents."
            )
        return self.strength * self.attention(queries, feature, call.heads)


def feature_branches(
    attentions: Mapping[str, FeatureAttention], features: ControlFeatures, strength: float = 1.0
) -> dict[int, FeatureBranch]:
    """A branch for each of the UNet's sixteen sites, to be bound to the UNet.

    Args:
        attentions: by number "1", "3", …, "31": an AnimateNet's `features`.
        features: the maps at hand, of a `FeatureControl`.
        strength: factor of what is added; 0 adds nothing at all.

    Returns:
        By the site's index.

    Raises:
        InputError: the net was made without that option.
    """
    if not attentions:
        raise InputError("this AnimateNet has no attention to features; train one with it, or switch the option off.")
    check_range(strength, -1, 3, "the strength of features")
    return {site.index: FeatureBranch(attentions[site.adapter_key], features, site.index, strength) for site in SITES}


class FeatureControl(FrameControl):
    """A FrameControl whose maps the UNet's cross-attentions may look at.

    Args:
        network: of `load_controlnet`.
        hints: draws the frames that are asked for.
        options: strength and part of the schedule.
        maps: factors for places, as of FrameControl.
        add: whether the maps are added to the UNet as well, as a ControlNet's always are.
    """

    def __init__(
        self,
        network: ControlNetModel,
        hints: Hints,
        options: ControlOptions | None = None,
        maps: Maps | None = None,
        *,
        add: bool = True,
    ) -> None:
        super().__init__(network, hints, options, maps)
        self.features, self.add = ControlFeatures(), add

    def clear_cache(self) -> None:
        """Drop drawings, residuals and maps, at the end of a run."""
        super().clear_cache()
        self.features.maps = ()

    def __call__(
        self, rows: Tensor, timestep: Tensor, text: Tensor, sigma: float
    ) -> tuple[list[Tensor], Tensor] | None:
        """As of FrameControl; None also where nothing shall be added."""
        made = super().__call__(rows, timestep, text, sigma)
        self.features.maps = () if made is None else (*made[0], made[1])
        return made if self.add else None
