"""AnimateNet: cross-attentions to landmark and head placement tokens in a ControlNet, parallel to the text's.

Untrained, they add exactly zero: the ControlNet's output is bit-identical.

Shapes: B current frames, R = chunks · B rows of a batch (row r belongs to frame r % B), N queries (pixels), T tokens,
C channels of a site, E width of the tokens.
Source: PortraitTalk, section 3.2; `docs/design/animatenet.md` 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...checks import check_finite, check_shape
from ...diffusion.branches import bind
from ...diffusion.sites import SITES
from ...errors import InputError
from ...layers.attention import AttentionCall, Branch, attend
from ...media.tensor_file import save_tensors
from ...options import check_options, same_option
from ...types import LandmarkTrack
from ...weights.load import load_strict, read_metadata, read_tensors
from .animate_net_files import BASE, LAYOUT, AnimateSizes, read_sizes
from .feature_attention import FeatureAttention, feature_number
from .head_placement import placements
from .options import AnimateNetOptions
from .placement_tokens import KINDS, LandmarkTokens, PlacementTokens, ZeroBranch, centred
from .placement_tokens import SITES as NUMBERS
from .previous_frame import new_previous_projection, previous_hook

if TYPE_CHECKING:
    from diffusers import ControlNetModel

# frame numbers → landmarks in pixels (B, 478, 2 or 3) and placements (B, 6)
FrameConditions = Callable[[Sequence[int]], tuple[Tensor, Tensor]]

CONTROL_SITES = tuple(site for site in SITES if site.adapter_key in NUMBERS)  # the ControlNet is the UNet's first half


class AnimateSite(nn.Module):
    """Landmark and placement branches of one cross-attention; layer names are `to_k_lm` to `to_v_hp`."""

    def __init__(self, width: int, token_width: int, ops: ModuleType = nn) -> None:
        super().__init__()
        # in a plain dictionary, so that no name of theirs comes before the layers'
        self._branches = {kind: ZeroBranch(width, token_width, kind, ops) for kind in KINDS}
        for branch in self._branches.values():
            for name, layer in branch.named_children():
                self.add_module(name, layer)

    def keys_values(self, kind: str, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, T, C) of tokens (B, T, E) of a kind."""
        return self._branches[kind].keys_values(tokens)


class AnimateNet(nn.Module):
    """AnimateNet's token projections, branches and feature attentions, under the file's names.

    Args:
        sizes: of tokens and branches.
        ops: where Linear and LayerNorm come from; ComfyUI gives its own.
    """

    def __init__(self, sizes: AnimateSizes, ops: ModuleType = nn) -> None:
        super().__init__()
        self.landmark_proj = LandmarkTokens(sizes.token_width, *sizes.landmarks, ops)
        self.placement_proj = PlacementTokens(sizes.token_width, *sizes.placement, ops)
        for number in NUMBERS:
            self.add_module(number, AnimateSite(sizes.widths[number], sizes.token_width, ops))
        attentions = {number: FeatureAttention(*pair, ops) for number, pair in (sizes.features or {}).items()}
        self.features = nn.ModuleDict(attentions)  # empty without that option
        # None without that option
        self.previous_proj = None if sizes.previous is None else new_previous_projection(sizes.previous, ops)

    def site(self, number: str) -> AnimateSite:
        """Branches of one of the ControlNet's cross-attentions, by number "1", "3", …, "11", "31"."""
        return self.get_submodule(number)

    def tokens(self, points_px: Tensor, placed: Tensor) -> dict[str, Tensor]:
        """Tokens (B, T, E) of both kinds, of landmarks (B, 478, 2 or 3) in pixels and placements (B, 6)."""
        weight = self.landmark_proj.proj[0].weight
        points = points_px.to(weight.device, torch.float32)
        if weight.dtype != torch.float32:  # half precision cannot resolve single pixels
            points = centred(points).to(weight.dtype)
        return {"lm": self.landmark_proj(points), "hp": self.placement_proj(placed.to(weight))}


def new_animate_net(
    controlnet: ControlNetModel, seed: int = 0, features: bool = False, previous: bool = False
) -> AnimateNet:
    """An untrained AnimateNet for a ControlNet, whose values are initialised to zero.

    Args:
        controlnet: of SD1.5's topology.
        seed: of the weights that are not zero.
        features: whether to add feature attention for the UNet.
        previous: whether the last finished frame conditions the next.
    """
    widths = {site.adapter_key: _keys(controlnet, site.attention(2)).shape[0] for site in CONTROL_SITES}
    feature_widths = _feature_widths(controlnet) if features else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = controlnet.config.block_out_channels[0] if previous else None
        return AnimateNet(AnimateSizes(widths, controlnet.config.cross_attention_dim, (8, 1024), (4, 256),
                                       feature_widths, width))  # fmt: skip


def extended(
    net: AnimateNet, controlnet: ControlNetModel, seed: int = 0, features: bool = False, previous: bool = False
) -> AnimateNet:
    """An AnimateNet with new, untrained parts for options that it was made without. Arguments as of new_animate_net."""
    fresh = new_animate_net(controlnet, seed, features, previous)
    if features and not net.features:
        net.features = fresh.features
    if previous and net.previous_proj is None:
        net.previous_proj = fresh.previous_proj
    return net


def load_animate_net(path: Path, ops: ModuleType = nn) -> AnimateNet:
    """Load an AnimateNet from its file for inference.

    Args:
        path: .safetensors.
        ops: where Linear and LayerNorm come from; ComfyUI gives its own.

    Raises:
        MissingDependency: no such file.
        InputError: damaged, no AnimateNet, or one for another base model.
    """
    path = Path(path)
    tensors = read_tensors(path)
    sizes = read_sizes(tensors, read_metadata(path), path.name, NUMBERS)
    for name, tensor in tensors.items():
        check_finite(tensor, f"{name} of {path.name}")
    with torch.device("meta"):
        net = AnimateNet(sizes, ops)
    return load_strict(net.to_empty(device="cpu"), tensors, path.name)


def save_animate_net(net: AnimateNet, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write an AnimateNet as safetensors atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    return save_tensors(net.state_dict(), path, {"layout": LAYOUT, "base": BASE, **(metadata or {})})


@dataclass(frozen=True)
class AnimateOptions:
    """Strengths of the branches; 0 is bit-identical to none."""

    landmarks: float = same_option(AnimateNetOptions, "landmark_tokens")  # λ_lm
    placement: float = same_option(AnimateNetOptions, "placement_tokens")  # λ_hp

    def __post_init__(self) -> None:
        check_options(self, landmarks="the strength of landmark tokens", placement="the strength of placement tokens")


def track_conditions(track: LandmarkTrack, placed: Tensor | None = None) -> FrameConditions:
    """AnimateNet's conditions from a landmark track: landmarks and placements by frame number.

    Args:
        track: T frames.
        placed: (T, 6) placements, as of `head_placement.follow`; the track's own if None.

    Raises:
        InputError: another number of placements than frames; later, a frame that the track does not have.
    """
    placed = placements(track) if placed is None else check_shape(placed, "T 6", "the placements")
    if len(placed) != len(track):
        raise InputError(f"there are {len(placed)} placements for {len(track)} frames; give one for each frame.")
    picture = torch.tensor([track.width, track.height], dtype=torch.float32)

    def conditions(frames: Sequence[int]) -> tuple[Tensor, Tensor]:
        unknown = [frame for frame in frames if not 0 <= frame < len(track)]
        if unknown:
            raise InputError(f"the track has {len(track)} frames, there is no frame {unknown[0]}; give a longer track.")
        numbers = list(frames)
        return track.points[numbers, :, :2] * picture, placed[numbers]

    return conditions


class FrameTokens:
    """Cache of the current frames' tokens and of their keys and values at all sites.

    They are kept until the frames change; of a net that learns, never longer than one pass.

    Args:
        net: makes tokens, keys and values.
        conditions: frame numbers → landmarks and placements.
        frames: returns the frame numbers of a chunk's rows, in order.
        options: strengths.
    """

    def __init__(
        self, net: AnimateNet, conditions: FrameConditions, frames: Callable[[], Sequence[int]], options: AnimateOptions
    ) -> None:
        self.net, self.conditions, self.frames = net, conditions, frames
        self.strengths = {"lm": options.landmarks, "hp": options.placement}
        self.previous: Tensor | None = None  # (B, 4, h, w) or (1, 4, h, w) latents of the last finished frames
        self._frames: tuple[int, ...] | None = None
        self._tokens: dict[str, Tensor] = {}
        self._cache: dict[tuple, tuple[Tensor, Tensor]] = {}

    def clear_cache(self) -> None:
        """Drop the cache: at the end of a run, or when the conditions of the same frames have changed."""
        self._frames = None
        self._tokens, self._cache = {}, {}

    def prepare(self) -> None:
        """Compute the tokens for the next pass of the ControlNet."""
        frames = tuple(self.frames())
        if frames == self._frames and not self._learns():
            return
        self.clear_cache()
        points, placed = self.conditions(frames)
        if len(points) != len(frames) or len(placed) != len(frames):
            raise InputError(f"{len(points)} faces and {len(placed)} placements were given for {len(frames)} frames.")
        self._tokens, self._frames = self.net.tokens(points, placed), frames

    def keys_values(self, number: str, kind: str, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (R, T, C) for queries (R, N, C): of each row its own frame, values times their strength."""
        if self._learns():  # no caching: with gradient checkpointing the recomputed pass must be the same
            return self._make(number, kind, queries)
        key = (number, kind, len(queries), queries.dtype, queries.device)
        if key not in self._cache:
            self._cache[key] = self._make(number, kind, queries)
        return self._cache[key]

    def _make(self, number: str, kind: str, queries: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self._tokens[kind]
        chunks, remainder = divmod(len(queries), len(tokens))
        if remainder:
            raise InputError(f"{len(queries)} rows cannot be {len(tokens)} frames, as many times each.")
        keys, values = self.net.site(number).keys_values(kind, tokens)
        values = self.strengths[kind] * values
        return keys.to(queries).repeat(chunks, 1, 1), values.to(queries).repeat(chunks, 1, 1)

    def _learns(self) -> bool:
        return any(weight.requires_grad for weight in self.net.parameters())


class _TokenBranch:
    """Branch of one kind of tokens at one cross-attention of the ControlNet."""

    def __init__(self, tokens: FrameTokens, number: str, kind: str) -> None:
        self._tokens, self._number, self._kind = tokens, number, kind

    def __call__(self, queries: Tensor, call: AttentionCall) -> Tensor:
        """Output that is added to the text's attention."""
        return attend(queries, *self._tokens.keys_values(self._number, self._kind, queries), call.heads)


def token_branches(tokens: FrameTokens) -> dict[int, list[Branch]]:
    """Branches for the ControlNet's seven cross-attentions, by the site's index; empty where all strengths are 0."""
    kinds = [kind for kind in KINDS if tokens.strengths[kind]]
    if not kinds:
        return {}
    return {s.index: [_TokenBranch(tokens, s.adapter_key, kind) for kind in kinds] for s in CONTROL_SITES}


@contextmanager
def bind_animate(
    controlnet: ControlNetModel,
    net: AnimateNet,
    conditions: FrameConditions,
    frames: Callable[[], Sequence[int]],
    options: AnimateOptions | None = None,
) -> Iterator[FrameTokens]:
    """Context manager that binds landmark and placement tokens to a ControlNet.

    Each of its cross-attentions adds λ_lm · Attn(q, landmarks) + λ_hp · Attn(q, placement), of the row's own frame.

    Args:
        controlnet: of SD1.5's topology; with `FrameControl`, its `network`.
        net: of the ControlNet's sizes, on its device.
        conditions: frame numbers → landmarks and placements.
        frames: returns the frame numbers of a chunk's rows; with `FrameControl`, `lambda: control.frames`.
        options: strengths.

    Yields:
        The current tokens; their `clear_cache` drops the cache, their `previous` is to be set where the net looks at
        the last finished frame.

    Raises:
        InputError: the net does not fit the ControlNet; later, rows or cues that do not fit the frames.
    """
    check_fit(net, {site.adapter_key: _keys(controlnet, site.attention(2)) for site in CONTROL_SITES})
    tokens = FrameTokens(net, conditions, frames, options or AnimateOptions())
    branches = token_branches(tokens)
    hooks = [controlnet.register_forward_pre_hook(lambda *_: tokens.prepare())] if branches else []
    if net.previous_proj is not None:
        hooks.append(
            controlnet.conv_in.register_forward_hook(previous_hook(net.previous_proj, lambda: tokens.previous))
        )
    try:
        with bind(controlnet, branches):
            yield tokens
    finally:
        for hook in hooks:
            hook.remove()
        tokens.clear_cache()


def _keys(network: nn.Module, attention: str) -> Tensor:
    return network.get_submodule(attention).to_k.weight


def _feature_widths(controlnet: ControlNetModel) -> dict[str, tuple[int, int]]:
    """Channels of each of the UNet's sites and of its feature map."""
    levels = dict(zip((1, 2, 4, 8), controlnet.config.block_out_channels, strict=True))
    makers = [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]
    return {site.adapter_key: (levels[site.shrink], makers[feature_number(site.index)].out_channels) for site in SITES}


def check_fit(net: AnimateNet, keys: Mapping[str, Tensor]) -> None:
    """Check that an AnimateNet fits a ControlNet.

    Args:
        net: the AnimateNet.
        keys: the ControlNet's weights (C, E) that make keys of the text, by number "1", "3", …, "11", "31".

    Raises:
        InputError: with both sizes.
    """
    for number, text_keys in keys.items():
        landmark_keys = net.site(number).to_k_lm.weight
        if text_keys.shape != landmark_keys.shape:
            raise InputError(
                f"AnimateNet's keys at {number} are {tuple(landmark_keys.shape)}, the ControlNet's are "
                f"{tuple(text_keys.shape)}; an AnimateNet for SD1.5 needs a ControlNet for SD1.5."
            )
