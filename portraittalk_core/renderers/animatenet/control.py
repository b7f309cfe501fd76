"""A landmark ControlNet whose hint picture differs by frame.

Shapes: B frames of a batch, h and w latent pixels, H = 8h and W = 8w pixels of the drawings.
Source: Zhang et al. 2023, "Adding Conditional Control"; `docs/design/animatenet.md` 5 for the two layouts of files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...checks import check_shape
from ...diffusion.checkpoint import CONTEXT_WIDTHS, filled_network
from ...diffusion.ldm_names import NUM_LEVELS, network_name
from ...diffusion.sites import HEADS
from ...errors import InputError, MissingDependency
from ...options import check_options, same_option
from ...weights.load import read_tensors
from .hints import Hints
from .mouth_weight import Maps
from .options import AnimateNetOptions

if TYPE_CHECKING:
    from diffusers import ControlNetModel

PREFIXES = ("control_model.", "controlnet.")
_HINT_BLOCKS = {0: "conv_in", **{2 * i + 2: f"blocks.{i}" for i in range(6)}, 14: "conv_out"}
_ADVICE = "Use one for SD1.5, for example CrucibleAI's control_v2p_sd15_mediapipe_face.safetensors."


def load_controlnet(
    path: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> ControlNetModel:
    """Load a ControlNet for SD1.5 from a file in ldm's or diffusers' layout.

    Raises:
        MissingDependency: no such file, or diffusers is not installed.
        InputError: damaged, no ControlNet, or one for another base model.
    """
    path = Path(path)
    tensors = {_network_name(name): tensor for name, tensor in read_tensors(path).items()}
    _check(tensors, path.name)
    try:
        from diffusers import ControlNetModel
    except ImportError as error:
        raise MissingDependency("diffusers is not installed; run: pip install diffusers") from error
    reader = "controlnet_cond_embedding."
    widths = tuple(tensors[f"down_blocks.{i}.resnets.0.conv1.weight"].shape[0] for i in range(NUM_LEVELS))
    hint_widths = [tensors[f"{reader}{name}.weight"].shape[0] for name in ("conv_in", "blocks.1", "blocks.3")]
    with torch.device("meta"):
        network = ControlNetModel(
            block_out_channels=widths,
            cross_attention_dim=tensors[_KEY].shape[1],
            attention_head_dim=HEADS,
            conditioning_embedding_out_channels=(*hint_widths, tensors[f"{reader}conv_out.weight"].shape[1]),
        )
    return filled_network(network, tensors, path.name, device, dtype)


CACHE_SIZE = 8  # lists of frames whose drawings are kept: the windows of a section
_KEY = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"


def _network_name(name: str) -> str:
    """Diffusers' name of a tensor in ldm's or diffusers' layout."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    if match := re.match(r"input_hint_block\.(\d+)\.(weight|bias)$", name):
        block = _HINT_BLOCKS.get(int(match[1]), f"unknown.{match[1]}")
        return f"controlnet_cond_embedding.{block}.{match[2]}"
    if match := re.match(r"zero_convs\.(\d+)\.0\.(weight|bias)$", name):
        return f"controlnet_down_blocks.{match[1]}.{match[2]}"
    if match := re.match(r"middle_block_out\.0\.(weight|bias)$", name):
        return f"controlnet_mid_block.{match[1]}"
    return network_name(name)


def _check(tensors: dict[str, Tensor], source: str) -> None:
    if "controlnet_cond_embedding.conv_in.weight" not in tensors:
        raise InputError(f"{source} is no ControlNet: nothing in it reads a drawing. {_ADVICE}")
    for name, tensor in tensors.items():
        if name.endswith("attn2.to_k.weight") and tensor.shape[1] in CONTEXT_WIDTHS:
            base = CONTEXT_WIDTHS[tensor.shape[1]]
            raise InputError(f"{source} is a ControlNet for {base} (text tokens {tensor.shape[1]} wide). {_ADVICE}")
    if _KEY not in tensors or f"down_blocks.{NUM_LEVELS - 1}.resnets.0.conv1.weight" not in tensors:
        raise InputError(f"{source} is not a complete ControlNet for SD1.5. {_ADVICE}")
    channels = tensors["controlnet_cond_embedding.conv_in.weight"].shape[1]
    if channels != 3:
        raise InputError(f"{source} reads drawings of {channels} channels, not 3. {_ADVICE}")


@dataclass(frozen=True)
class ControlOptions:
    """Strength, sigma window and reuse of a ControlNet."""

    strength: float = same_option(AnimateNetOptions, "control_strength")  # 0 is bit-equal to no ControlNet
    window: tuple[float, float] = (float("inf"), 0.0)  # largest and least sigma at which it acts
    reuse_every: int = same_option(AnimateNetOptions, "control_every")  # 2: its output serves a second step too

    def __post_init__(self) -> None:
        check_options(self, strength="the control strength")


class FrameControl:
    """A ControlNet's residuals for the frames that are being denoised.

    Args:
        network: of `load_controlnet`.
        hints: frame numbers → hint pictures.
        options: strength and part of the schedule.
        maps: factors for places, such as the mouth's; None for all alike.
    """

    def __init__(
        self, network: ControlNetModel, hints: Hints, options: ControlOptions | None = None, maps: Maps | None = None
    ) -> None:
        self.network, self.hints, self.options, self.maps = network, hints, options or ControlOptions(), maps
        self.frames: Sequence[int] = (0,)  # which frames the next call is about, in the order of its rows
        self._hint_cache: dict[tuple, Tensor] = {}  # by frames and size
        self._factors: dict[tuple, Tensor] = {}
        self._residual_cache: dict[tuple, tuple[int, tuple]] = {}  # how often it served, and residuals

    def clear_cache(self) -> None:
        """Drop the cached hints and residuals, at the end of a run."""
        for cache in (self._hint_cache, self._factors, self._residual_cache):
            cache.clear()

    @torch.no_grad()
    def __call__(
        self, rows: Tensor, timestep: Tensor, text: Tensor, sigma: float
    ) -> tuple[list[Tensor], Tensor] | None:
        """Residuals for the UNet's down and middle blocks; None outside the sigma window.

        Args:
            rows: (chunks · B, 4, h, w) input of the UNet, chunk after chunk.
            timestep: of the UNet.
            text: (chunks · B, L, E).
            sigma: noise level.
        """
        first, last = self.options.window
        if self.options.strength == 0 or not last <= sigma <= first:
            return None
        key, interval = (tuple(self.frames), tuple(rows.shape)), self.options.reuse_every
        served, added = self._residual_cache.pop(key, (0, None))
        if served % interval == 0:
            added = self._added(rows, timestep, text)
        if interval > 1:
            _store(self._residual_cache, key, (served + 1, added))
        return added

    def _added(self, rows: Tensor, timestep: Tensor, text: Tensor) -> tuple[list[Tensor], Tensor]:
        weights = next(self.network.parameters())
        hint = self._hint(rows, weights)
        down, middle = self.network(
            rows.to(weights), timestep, text.to(weights), hint, self.options.strength, return_dict=False
        )
        return [self._weighted(residual) for residual in down], self._weighted(middle)

    def _weighted(self, added: Tensor) -> Tensor:
        if self.maps is None:
            return added
        key = (tuple(self.frames), tuple(added.shape), added.dtype, added.device)
        if key not in self._factors:
            factors = self.maps(self.frames, *added.shape[2:]).to(added)
            _store(self._factors, key, factors.repeat(len(added) // len(self.frames), 1, 1, 1), 4 * CACHE_SIZE)
        return added * self._factors[key]

    def _hint(self, rows: Tensor, weights: Tensor) -> Tensor:
        """(chunks · B, 3, H, W) hint pictures of the current frames, cached."""
        height, width, num_frames = 8 * rows.shape[2], 8 * rows.shape[3], len(self.frames)
        if len(rows) % num_frames:
            raise InputError(f"{len(rows)} rows cannot be {num_frames} frames, as many times each.")
        key = (tuple(self.frames), height, width, weights.dtype, weights.device)
        if key not in self._hint_cache:
            hints = self.hints(self.frames, height, width)
            _store(self._hint_cache, key, check_shape(hints, f"{num_frames} 3 {height} {width}", "hints").to(weights))
        return self._hint_cache[key].repeat(len(rows) // num_frames, 1, 1, 1)


def _store(cache: dict, key: tuple, value: object, max_size: int = CACHE_SIZE) -> None:
    """Add an entry to a cache, and drop the oldest ones beyond its maximum size."""
    cache[key] = value
    while len(cache) > max_size:
        del cache[next(iter(cache))]
