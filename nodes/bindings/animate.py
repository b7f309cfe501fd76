"""Binding of AnimateNet's token and feature attention to a user's CONTROL_NET and MODEL.

ComfyUI tells a ControlNet's forward nothing of patches, so its cross-attentions are reached through PyTorch's hooks:
the queries of `to_q` are recorded, and the branches' output is added before `to_out`. What is made of the last finished
frame is added behind the first convolution. Hooks last for one call.
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
    FrameConditions,
    FrameTokens,
    check_fit,
    token_branches,
    track_conditions,
)
from ...portraittalk_core.renderers.animatenet.feature_attention import ControlFeatures, feature_branches
from ...portraittalk_core.renderers.animatenet.head_placement import FOLLOW_LIMIT, follow, place, placements
from ...portraittalk_core.renderers.animatenet.previous_frame import previous_hook, previous_placements
from ...portraittalk_core.types import LandmarkTrack
from .cursor import Cursor
from .unet import check_sd15, under_management, with_branches

_FIRST_LAYER = "input_blocks.0.0"  # of ComfyUI's ControlNets: the convolution of the noisy latents


class BoundAnimate:
    """An AnimateNet bound to a track: frame tokens for the CONTROL_NET, its feature maps for the UNet.

    Args:
        patcher: of `managed_animate`.
        track: on the picture that is painted.
        options: strengths of the tokens.
        features: holds the feature maps that the UNet attends to; see `with_features`.
        cursor: shared with the painter, for an AnimateNet that looks at the last finished frame.
        start: (6,) where the head stands before the first frame, for the same; as in the first frame if None.
    """

    def __init__(
        self,
        patcher: comfy.model_patcher.ModelPatcher,
        track: LandmarkTrack,
        options: AnimateOptions | None = None,
        features: ControlFeatures | None = None,
        cursor: Cursor | None = None,
        start: Tensor | None = None,
    ) -> None:
        self.patcher, self.features, self._frames = patcher, features or ControlFeatures(), ()
        net, cursor = patcher.model, cursor or Cursor()
        conditions = _clamped(track, _placed(net, track, start))
        self.tokens = FrameTokens(net, conditions, lambda: self._frames, options or AnimateOptions())
        self._branches = token_branches(self.tokens)
        self._look_back = None if net.previous_proj is None else previous_hook(net.previous_proj, lambda: cursor.last)

    @contextmanager
    def at(self, control_model: nn.Module, frames: Sequence[int]) -> Iterator[None]:
        """Context in which the model of a CONTROL_NET attends to these frames' tokens."""
        if not self._branches and self._look_back is None:
            yield
            return
        check_fit(self.patcher.model, control_keys(control_model))
        self._frames = tuple(frames)
        self.tokens.prepare()
        handles = []
        try:
            if self._look_back is not None:
                handles.append(control_model.get_submodule(_FIRST_LAYER).register_forward_hook(self._look_back))
            for index, branches in self._branches.items():
                handles += _add_hooks(control_model.get_submodule(_attention(index)), branches)
            yield
        finally:
            for handle in handles:
                handle.remove()

    def set_maps(self, control: dict | None) -> None:
        """Set the feature maps for the UNet's next call from a ControlNet's output; None for none."""
        self.features.maps = () if control is None else (*control["output"], *control["middle"])

    def clear_cache(self) -> None:
        """Drop everything cached for a run."""
        self.tokens.clear_cache()
        self.set_maps(None)


def managed_animate(net: AnimateNet) -> comfy.model_patcher.ModelPatcher:
    """An AnimateNet, built with `bindings.unet.OPERATIONS`, under ComfyUI's memory management."""
    return under_management(net)


def with_features(
    model: comfy.model_patcher.ModelPatcher,
    patcher: comfy.model_patcher.ModelPatcher,
    features: ControlFeatures,
    strength: float,
) -> comfy.model_patcher.ModelPatcher:
    """A clone of a MODEL with feature attention to a CONTROL_NET's maps in its cross-attentions.

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
    network = getattr(net, "control_model", None)
    if network is not None:  # a ControlLoRA's is made only when it runs
        check_fit(patcher.model, control_keys(network))


def control_keys(control_model: nn.Module) -> dict[str, Tensor]:
    """Key projection weights of a CONTROL_NET's cross-attentions, by number "1", "3", …, "31".

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


def rate_limited(track: LandmarkTrack, start: LandmarkTrack | None = None) -> LandmarkTrack:
    """A track with rate-limited head placement: at most `FOLLOW_LIMIT` of change a frame.

    Args:
        track: on a picture; followed from its first frame on, so that no chunk of it matters.
        start: where the head stands before it, on the same picture; the track's own first frame if None.
    """
    targets = placements(track)
    start_placement = targets[0] if start is None else placements(start)[0]
    return place(track, follow(start_placement, targets, FOLLOW_LIMIT))


def _attention(index: int) -> str:
    return f"{SITES[index].ldm}.transformer_blocks.0.attn2"


def _placed(net: AnimateNet, track: LandmarkTrack, start: Tensor | None) -> Tensor | None:
    """(T, 6) placements of the frames before, for a net that looks back; None for those of the frames themselves."""
    if net.previous_proj is None:
        return None
    targets = placements(track)
    return previous_placements(targets[0] if start is None else start, targets)


def _clamped(track: LandmarkTrack, placed: Tensor | None) -> FrameConditions:
    """The conditions of a track, with its last frame's for frames behind its end, as the hints have it."""
    conditions, last = track_conditions(track, placed), len(track) - 1
    return lambda frames: conditions([min(frame, last) for frame in frames])


def _add_hooks(attention: nn.Module, branches: Sequence[Branch]) -> list:
    """Hook branches into a cross-attention; the hooks' handles."""
    queries: list[Tensor] = []
    call = AttentionCall(attention.heads)

    def note(_: nn.Module, __: tuple, query: Tensor) -> None:
        queries[:] = [query]

    def add(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (out,), query = inputs, queries.pop()
        for branch in branches:
            out = out + branch(query, call)
        return (out,)

    return [attention.to_q.register_forward_hook(note), attention.to_out.register_forward_pre_hook(add)]
