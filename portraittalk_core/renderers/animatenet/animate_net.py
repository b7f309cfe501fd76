"""AnimateNet's own modules: cross-attentions to landmarks and head placement, beside the text's in a ControlNet.

Untrained they add exactly nothing: the ControlNet's output stays what it was, to the last bit.

Shapes: B frames at hand, R = chunks · B rows of a batch (row r belongs to frame r % B), N queries (pixels), T tokens,
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

if TYPE_CHECKING:
    from diffusers import ControlNetModel

# frame numbers → landmarks in pixels (B, 478, 2 or 3) and placements (B, 6)
Cues = Callable[[Sequence[int]], tuple[Tensor, Tensor]]

CONTROL_SITES = tuple(site for site in SITES if site.adapter_key in NUMBERS)  # the ControlNet is the UNet's first half


class AnimateSite(nn.Module):
    """Both branches of one cross-attention; the layers go by the checkpoint's names, `to_k_lm` to `to_v_hp`."""

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
    """Everything an AnimateNet file holds, under the file's names.

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
        made = {number: FeatureAttention(*pair, ops) for number, pair in (sizes.features or {}).items()}
        self.features = nn.ModuleDict(made)  # empty without that option

    def site(self, number: str) -> AnimateSite:
        """Branches of one of the ControlNet's cross-attentions, by number "1", "3", …, "11", "31"."""
        return self.get_submodule(number)

    def tokens(self, points_px: Tensor, placed: Tensor) -> dict[str, Tensor]:
        """Tokens (B, T, E) of both kinds, of landmarks (B, 478, 2 or 3) in pixels and placements (B, 6)."""
        weight = self.landmark_proj.proj[0].weight
        points = points_px.to(weight.device, torch.float32)
        if weight.dtype != torch.float32:  # half precision knows no pixels apart
            points = centred(points).to(weight.dtype)
        return {"lm": self.landmark_proj(points), "hp": self.placement_proj(placed.to(weight))}


def new_animate_net(controlnet: ControlNetModel, seed: int = 0, features: bool = False) -> AnimateNet:
    """An untrained AnimateNet for a ControlNet: it adds nothing until it has learnt.

    Args:
        controlnet: of SD1.5's topology.
        seed: of the weights that are not zero.
        features: whether the UNet shall look at the ControlNet's maps.
    """
    widths = {site.adapter_key: _keys(controlnet, site.attention(2)).shape[0] for site in CONTROL_SITES}
    chosen = _feature_widths(controlnet) if features else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AnimateNet(AnimateSizes(widths, controlnet.config.cross_attention_dim, features=chosen))


def load_animate_net(path: Path, ops: ModuleType = nn) -> AnimateNet:
    """An AnimateNet from its file, ready for inference.

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
    """Write an AnimateNet as safetensors, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    return save_tensors(net.state_dict(), path, {"layout": LAYOUT, "base": BASE, **(metadata or {})})


@dataclass(frozen=True)
class AnimateOptions:
    """How strongly the branches act; 0 is bit-equal to none."""

    landmarks: float = same_option(AnimateNetOptions, "landmark_tokens")  # λ_lm
    placement: float = same_option(AnimateNetOptions, "placement_tokens")  # λ_hp

    def __post_init__(self) -> None:
        check_options(self, landmarks="the strength of landmark tokens", placement="the strength of placement tokens")


def cues_of_track(track: LandmarkTrack, placed: Tensor | None = None) -> Cues:
    """What AnimateNet is told of each frame of a track.

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

    def cues(frames: Sequence[int]) -> tuple[Tensor, Tensor]:
        strange = [frame for frame in frames if not 0 <= frame < len(track)]
        if strange:
            raise InputError(f"the track has {len(track)} frames, there is no frame {strange[0]}; give a longer track.")
        chosen = list(frames)
        return track.points[chosen, :, :2] * picture, placed[chosen]

    return cues


class FrameTokens:
    """Tokens of the frames at hand, and what the sites make of them.

    They are kept until the frames change; of a net that learns, never longer than one pass.

    Args:
        net: makes tokens, keys and values.
        cues: landmarks and placements of the frames that are asked for.
        frames: tells which frames the rows of a chunk are, in order.
        options: strengths.
    """

    def __init__(
        self, net: AnimateNet, cues: Cues, frames: Callable[[], Sequence[int]], options: AnimateOptions
    ) -> None:
        self.net, self.cues, self.frames = net, cues, frames
        self.strengths = {"lm": options.landmarks, "hp": options.placement}
        self._asked: tuple[int, ...] | None = None
        self._tokens: dict[str, Tensor] = {}
        self._made: dict[tuple, tuple[Tensor, Tensor]] = {}

    def clear_cache(self) -> None:
        """Drop everything that is kept: at the end of a run, or where cues of the same frames have changed."""
        self._asked = None
        self._tokens, self._made = {}, {}

    def prepare(self) -> None:
        """Make the tokens that the next pass of the ControlNet needs."""
        asked = tuple(self.frames())
        if asked == self._asked and not self._learns():
            return
        self.clear_cache()
        points, placed = self.cues(asked)
        if len(points) != len(asked) or len(placed) != len(asked):
            raise InputError(f"{len(points)} faces and {len(placed)} placements were given for {len(asked)} frames.")
        self._tokens, self._asked = self.net.tokens(points, placed), asked

    def keys_values(self, number: str, kind: str, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (R, T, C) for queries (R, N, C): of each row its own frame, values times their strength."""
        if self._learns():  # nothing may be kept: a pass that is repeated for its gradients must be the same again
            return self._make(number, kind, queries)
        asked = (number, kind, len(queries), queries.dtype, queries.device)
        if asked not in self._made:
            self._made[asked] = self._make(number, kind, queries)
        return self._made[asked]

    def _make(self, number: str, kind: str, queries: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self._tokens[kind]
        chunks, over = divmod(len(queries), len(tokens))
        if over:
            raise InputError(f"{len(queries)} rows cannot be {len(tokens)} frames, as many times each.")
        keys, values = self.net.site(number).keys_values(kind, tokens)
        values = self.strengths[kind] * values
        return keys.to(queries).repeat(chunks, 1, 1), values.to(queries).repeat(chunks, 1, 1)

    def _learns(self) -> bool:
        return any(weight.requires_grad for weight in self.net.parameters())


class _TokenBranch:
    """One kind of tokens at one cross-attention of the ControlNet."""

    def __init__(self, tokens: FrameTokens, number: str, kind: str) -> None:
        self._tokens, self._number, self._kind = tokens, number, kind

    def __call__(self, queries: Tensor, call: AttentionCall) -> Tensor:
        """What to add to the text's attention."""
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
    cues: Cues,
    frames: Callable[[], Sequence[int]],
    options: AnimateOptions | None = None,
) -> Iterator[FrameTokens]:
    """Let a ControlNet look at landmark and placement tokens for as long as the context lasts.

    Each of its cross-attentions adds λ_lm · Attn(q, landmarks) + λ_hp · Attn(q, placement), of the row's own frame.

    Args:
        controlnet: of SD1.5's topology; with `FrameControl`, its `network`.
        net: of the ControlNet's sizes, on its device.
        cues: landmarks and placements of the frames that are asked for.
        frames: tells which frames the rows of a chunk are; with `FrameControl`, `lambda: control.frames`.
        options: strengths.

    Yields:
        The tokens at hand; their `clear_cache` drops what is kept.

    Raises:
        InputError: the net does not fit the ControlNet; later, rows or cues that do not fit the frames.
    """
    check_fit(net, {site.adapter_key: _keys(controlnet, site.attention(2)) for site in CONTROL_SITES})
    tokens = FrameTokens(net, cues, frames, options or AnimateOptions())
    branches = token_branches(tokens)
    hook = controlnet.register_forward_pre_hook(lambda *_: tokens.prepare()) if branches else None
    try:
        with bind(controlnet, branches):
            yield tokens
    finally:
        if hook:
            hook.remove()
        tokens.clear_cache()


def _keys(network: nn.Module, attention: str) -> Tensor:
    return network.get_submodule(attention).to_k.weight


def _feature_widths(controlnet: ControlNetModel) -> dict[str, tuple[int, int]]:
    """Channels of each of the UNet's sites and of the map it looks at."""
    levels = dict(zip((1, 2, 4, 8), controlnet.config.block_out_channels, strict=True))
    makers = [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]
    return {site.adapter_key: (levels[site.shrink], makers[feature_number(site.index)].out_channels) for site in SITES}


def check_fit(net: AnimateNet, keys: Mapping[str, Tensor]) -> None:
    """Check that an AnimateNet was made for a ControlNet.

    Args:
        net: whose branches are to stand beside the text's.
        keys: the ControlNet's weights (C, E) that make keys of the text, by number "1", "3", …, "11", "31".

    Raises:
        InputError: with both sizes.
    """
    for number, theirs in keys.items():
        own = net.site(number).to_k_lm.weight
        if theirs.shape != own.shape:
            raise InputError(
                f"AnimateNet's keys at {number} are {tuple(own.shape)}, the ControlNet's are "
                f"{tuple(theirs.shape)}; an AnimateNet for SD1.5 needs a ControlNet for SD1.5."
            )
