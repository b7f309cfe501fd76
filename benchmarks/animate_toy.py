"""Toy networks trained on a puppet, for the quality of accelerations; trained once, then read from a cache folder.

The frozen UNet is trained with captions of the shirt's colour, and on clips without a caption, for classifier-free
guidance; all else is as in `benchmarks.ablation`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.media.files import atomic_write
from portraittalk_core.training.animatenet.stage import AnimateParts, JointStage
from portraittalk_core.training.data.video_clips import VideoClip

from .puppet_training import (
    LENGTH,
    WIDTHS,
    FixedTexts,
    Plan,
    first_stage,
    puppet_clip,
    second_stage,
    toy_base,
    training_clips,
)

PLAN = Plan(second_steps=600)
UNCAPTIONED = 5  # every so manyth clip has no caption
VERSION = 1  # of what is trained here; another one trains anew


class ShirtTexts(FixedTexts):
    """Four text tokens, to which the caption "r g b" of a shirt's colour adds; an empty one adds nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._colour_tokens = torch.randn(3, 4, 48, generator=torch.Generator().manual_seed(4))

    def tokens(self, captions: list[str]) -> Tensor:
        """(B, 4, 48) of captions."""
        return super().tokens(captions) + torch.stack([self._of(caption) for caption in captions])

    def _of(self, caption: str) -> Tensor:
        colour = torch.tensor([float(word) for word in caption.split()] or [0.0] * 3)
        return torch.einsum("c,cte->te", colour, self._colour_tokens)


def captioned(clip: VideoClip) -> VideoClip:
    """A puppet's clip whose caption is the colour of the shirt, as the lower edge of a frame shows it."""
    colour = clip.read(0)[:, -1, clip.read(0).shape[2] // 2]
    return dataclasses.replace(clip, caption=" ".join(f"{part:.3f}" for part in colour.tolist()))


def held_out(number: int, seed: int, length: int = LENGTH) -> VideoClip:
    """A clip of so many frames outside the training set."""
    return captioned(puppet_clip(90_000 + 100 * seed + number, length))


def default_cache() -> Path:
    """Default cache folder of the toy."""
    return Path(tempfile.gettempdir()) / "portraittalk_toy"


def trained_toy(plan: Plan, cache: Path) -> JointStage:
    """The toy after both training stages; what the cache holds is not trained again."""
    mark = hashlib.sha256(repr((VERSION, WIDTHS, LENGTH, UNCAPTIONED, plan)).encode()).hexdigest()[:12]
    cache.mkdir(parents=True, exist_ok=True)
    clips = [
        clip if number % UNCAPTIONED == 0 else captioned(clip) for number, clip in enumerate(training_clips(plan.seed))
    ]
    seed, texts = plan.seed, ShirtTexts()

    def base(steps: int) -> dict[str, torch.nn.Module]:
        return {"unet": toy_base(steps, seed, clips, texts).unet}

    unet = _cached(cache / f"{mark}_base.safetensors", lambda new: base(plan.base_steps if new else 0))["unet"]
    frozen = dataclasses.replace(toy_base(0, seed, clips, texts), unet=unet)
    with tempfile.TemporaryDirectory() as folder:

        def spatial(new: bool) -> dict[str, torch.nn.Module]:
            shortened = plan if new else dataclasses.replace(plan, first_steps=1)
            return _networks(first_stage(frozen, True, shortened, Path(folder) / f"first {new}", clips))

        first = AnimateParts(**_cached(cache / f"{mark}_first.safetensors", spatial))
        stages: list[JointStage] = []

        def joint(new: bool) -> dict[str, torch.nn.Module]:
            shortened = plan if new else dataclasses.replace(plan, second_steps=1)
            stages.append(second_stage(frozen, first, "full", shortened, Path(folder) / f"second {new}", clips))
            return _networks(stages[-1].parts)

        _cached(cache / f"{mark}_second.safetensors", joint)
    return stages[-1]


def _networks(parts: AnimateParts) -> dict[str, torch.nn.Module]:
    networks = {field.name: getattr(parts, field.name) for field in dataclasses.fields(parts)}
    return {name: network for name, network in networks.items() if network is not None}


def _cached(path: Path, make: Callable[[bool], Mapping[str, torch.nn.Module]]) -> dict[str, torch.nn.Module]:
    """Networks with the weights of a cache file; without it, trained by `make(True)` and written."""
    from safetensors.torch import load, save

    new = not path.exists()
    networks = dict(make(new))
    if new:
        tensors = {
            f"{name}.{key}": t.detach().contiguous()
            for name, network in networks.items()
            for key, t in network.state_dict().items()
        }
        with atomic_write(path) as part:
            part.write_bytes(save(tensors))
        print(f"  {path.name} is trained", file=sys.stderr, flush=True)
    else:
        tensors = load(path.read_bytes())
        for name, network in networks.items():
            network.load_state_dict(
                {k.removeprefix(f"{name}."): t for k, t in tensors.items() if k.startswith(f"{name}.")}
            )
    return networks
