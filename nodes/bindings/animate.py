"""AnimateNet's own modules beside a user's CONTROL_NET in ComfyUI.

ComfyUI tells a ControlNet's forward nothing of patches, so its cross-attentions are reached through PyTorch's hooks:
what `to_q` has made is noted, and what the tokens add is put before `to_out`. Hooks hang for one call only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import comfy.controlnet
import comfy.model_patcher
from torch import Tensor, nn

from ...portraittalk_core.diffusion.sites import SITES
from ...portraittalk_core.errors import InputError
from ...portraittalk_core.layers.attention import AttentionCall, Branch
from ...portraittalk_core.renderers.animatenet.animate_net import (
    CONTROL_SITES,
    AnimateNet,
    AnimateOptions,
    Cues,
    FrameTokens,
    check_fit,
    token_branches,
    track_conditions,
)
from ...portraittalk_core.renderers.animatenet.feature_attention import ControlFeatures, feature_branches
from ...portraittalk_core.renderers.animatenet.head_placement import FOLLOW_LIMIT, follow, place, placements
from ...portraittalk_core.types import LandmarkTrack
from .unet import check_sd15, under_management, with_branches


class BoundAnimate:
    """An AnimateNet that tells a CONTROL_NET of the frames at hand, and the UNet of that net's maps.

    Args:
        patcher: of `managed_animate`.
        track: on the picture that is painted.
        options: strengths of the tokens.
        features: where the UNet looks for the maps; see `with_features`.
    """

    def __init__(
        self,
        patcher: comfy.model_patcher.ModelPatcher,
        track: LandmarkTrack,
        options: AnimateOptions | None = None,
        features: ControlFeatures | None = None,
    ) -> None:
        self.patcher, self.features, self._frames = patcher, features or ControlFeatures(), ()
        self.tokens = FrameTokens(patcher.model, _clamped(track), lambda: self._frames, options or AnimateOptions())
        self._branches = token_branches(self.tokens)

    @contextmanager
    def at(self, control_model: nn.Module, frames: Sequence[int]) -> Iterator[None]:
        """Let the model of a CONTROL_NET look at these frames' tokens for as long as the context lasts."""
        if not self._branches:
            yield
            return
        check_fit(self.patcher.model, control_keys(control_model))
        self._frames = tuple(frames)
        self.tokens.prepare()
        handles = []
        try:
            for index, branches in self._branches.items():
                handles += _hooked(control_model.get_submodule(_attention(index)), branches)
            yield
        finally:
            for handle in handles:
                handle.remove()

    def look_at(self, control: dict | None) -> None:
        """The maps that the UNet's next call sees: what a ControlNet has just given; None for none."""
        self.features.maps = () if control is None else (*control["output"], *control["middle"])

    def clear_cache(self) -> None:
        """Drop everything that was made for a run."""
        self.tokens.clear_cache()
        self.look_at(None)


def managed_animate(net: AnimateNet) -> comfy.model_patcher.ModelPatcher:
    """An AnimateNet, built with `comfy_unet.OPERATIONS`, under ComfyUI's memory management."""
    return under_management(net)


def with_features(
    model: comfy.model_patcher.ModelPatcher,
    patcher: comfy.model_patcher.ModelPatcher,
    features: ControlFeatures,
    strength: float,
) -> comfy.model_patcher.ModelPatcher:
    """A clone of a MODEL whose cross-attentions look at a CONTROL_NET's maps.

    Args:
        model: SD1.5.
        patcher: of `managed_animate`.
        features: the maps at hand, of a `BoundAnimate`.
        strength: factor of what is added; 0, or an AnimateNet without that option, gives the MODEL itself.

    Raises:
        InputError: the MODEL is not SD1.5.
    """
    attentions = patcher.model.features
    if strength == 0 or not len(attentions):
        return model
    check_sd15(model, model.model.model_config.unet_config.get("context_dim", 768))
    branches = feature_branches(attentions, features, strength)
    return with_branches(model, {index: [branch] for index, branch in branches.items()})


def check_animate(patcher: comfy.model_patcher.ModelPatcher, net: comfy.controlnet.ControlNet | None) -> None:
    """Refuse an AnimateNet without the CONTROL_NET it works in, or with one that it does not fit.

    Raises:
        InputError: saying which.
    """
    if net is None:
        raise InputError("an AnimateNet works inside a ControlNet; connect control_net, or set animate_net to none.")
    if net.control_model is not None:  # a ControlLoRA's is made only when it runs
        check_fit(patcher.model, control_keys(net.control_model))


def control_keys(control_model: nn.Module) -> dict[str, Tensor]:
    """Weights that make keys of the text in a CONTROL_NET's cross-attentions, by number "1", "3", …, "31".

    Raises:
        InputError: it has no such attentions.
    """
    try:
        return {
            site.adapter_key: control_model.get_submodule(_attention(site.index)).to_k.weight for site in CONTROL_SITES
        }
    except AttributeError as error:
        kind = type(control_model).__name__
        raise InputError(f"the CONTROL_NET's {kind} is not built as SD1.5's; AnimateNet needs one that is.") from error


def following(track: LandmarkTrack, start: LandmarkTrack | None = None) -> LandmarkTrack:
    """A track whose head keeps to its placement, frame by frame no farther than `FOLLOW_LIMIT` from the one before.

    Args:
        track: on a picture; followed from its first frame on, so that no chunk of it matters.
        start: where the head stands before it, on the same picture; the track's own first frame if None.
    """
    wanted = placements(track)
    before = wanted[0] if start is None else placements(start)[0]
    return place(track, follow(before, wanted, FOLLOW_LIMIT))


def _attention(index: int) -> str:
    return f"{SITES[index].ldm}.transformer_blocks.0.attn2"


def _clamped(track: LandmarkTrack) -> Cues:
    """Frames behind the track's end are told its last, as they are drawn."""
    conditions, last = track_conditions(track), len(track) - 1
    return lambda frames: conditions([min(frame, last) for frame in frames])


def _hooked(attention: nn.Module, branches: Sequence[Branch]) -> list:
    """Handles of the hooks that add branches to a cross-attention."""
    queries: list[Tensor] = []
    call = AttentionCall(attention.heads)

    def note(_: nn.Module, __: tuple, made: Tensor) -> None:
        queries[:] = [made]

    def add(_: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        (out,), query = given, queries.pop()
        for branch in branches:
            out = out + branch(query, call)
        return (out,)

    return [attention.to_q.register_forward_hook(note), attention.to_out.register_forward_pre_hook(add)]
