"""Cross-attention from IdentityNet to AnimateNet's feature maps, in addition to or instead of adding them as residuals.

An experiment, off by default. Untrained, it adds exactly zero.

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
    """Keys and values of an AnimateNet feature map for a cross-attention of the UNet; values are initialised to zero.

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
        """Attention output (R, h · w, C) of queries (R, h · w, C) to a feature map (R, F, h, w)."""
        # where the queries are: ComfyUI's layers may have their weights elsewhere, and bring them
        pixels = feature.flatten(2).transpose(1, 2).to(queries.device, self.to_k_ft.weight.dtype)
        return attend(queries, self.to_k_ft(pixels).to(queries), self.to_v_ft(pixels).to(queries), heads)


@dataclass
class ControlFeatures:
    """The ControlNet's feature maps of the current pass."""

    maps: Sequence[Tensor] = ()  # thirteen residuals (R, F, h, w), the middle's last; empty for none

    def at(self, index: int) -> Tensor | None:
        """Feature map for a UNet site, by the site's index; None if there is none."""
        return self.maps[feature_number(index)] if self.maps else None


def feature_number(index: int) -> int:
    """Index of the ControlNet residual with a site's resolution: its own in down blocks, its skip's in up blocks."""
    if index < 6:
        return 1 + index + index // 2  # the first is conv_in's, each third a downsampler's
    return MIDDLE if index == 6 else 15 - index


class FeatureBranch:
    """Branch of a UNet cross-attention that attends to AnimateNet's feature map of the same resolution.

    Args:
        attention: weights of the site.
        features: the current maps, updated by the caller of the ControlNet.
        index: of the site, 0..15.
        strength: factor of the output; 0 is off.
    """

    def __init__(
        self, attention: FeatureAttention, features: ControlFeatures, index: int, strength: float = 1.0
    ) -> None:
        self.attention, self.features, self.index, self.strength = attention, features, index, strength

    def clear_cache(self) -> None:
        """Drop the feature maps, at the end of a run."""
        self.features.maps = ()

    def __call__(self, queries: Tensor, call: AttentionCall) -> Tensor | None:
        """Output that is added to the text's attention; None if there are no feature maps."""
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
    """Feature branches for the UNet's sixteen sites.

    Args:
        attentions: by number "1", "3", …, "31": an AnimateNet's `features`.
        features: the current maps of a `FeatureControl`.
        strength: factor of the output; 0 is off.

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
    """A FrameControl that exposes its feature maps to the UNet's cross-attentions.

    Args:
        network: of `load_controlnet`.
        hints: frame numbers → hint pictures.
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
        """Drop hints, residuals and feature maps, at the end of a run."""
        super().clear_cache()
        self.features.maps = ()

    def __call__(
        self, rows: Tensor, timestep: Tensor, text: Tensor, sigma: float
    ) -> tuple[list[Tensor], Tensor] | None:
        """Residuals as from FrameControl; None also if residuals are not to be added."""
        residuals = super().__call__(rows, timestep, text, sigma)
        self.features.maps = () if residuals is None else (*residuals[0], residuals[1])
        return residuals if self.add else None
