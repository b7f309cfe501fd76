"""Alignment: references are warped to the pose and the mouth that landmarks tell, and their mean is taken.

Shapes: B frames, N references, S side of a crop, n and w channels at full and at half size. What belongs to references
has (1, N, …) where all frames share them, (B, N, …) in training.
Sources: W. Zhong et al. 2023, section 3.2 and the public file (`flow_module`); J. Wu et al., "Talking Face Generation
with Lip and Identity Priors", section 3.2.1; `docs/design/lips.md` 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

from ...errors import InputError
from .blocks import PictureEncoder, ResBlock, Spade, sampled, sampling_grid, start_as_identity
from .sizes import SKETCH_CHANNELS, LipConfig, LipSizes

EPSILON = 1e-5  # beside the sum of weights


@dataclass(frozen=True)
class ReferenceFeatures:
    """What is computed of references once."""

    pictures: Tensor  # (1|B, N, 3, S, S)
    narrow: Tensor  # (1|B, N, n, S, S)
    wide: Tensor  # (1|B, N, w, S/2, S/2)
    entry: Tensor  # (1|B, N, w, S/2, S/2) where the network begins that tells flows: `wide`, or its share of a fusion
    counts: Tensor  # (N,) or (B, N) how many equal references each one stands for

    def part(self, first: int, stop: int) -> ReferenceFeatures:
        """References first..stop − 1."""
        whole = self.pictures, self.narrow, self.wide, self.entry
        return ReferenceFeatures(*(x[:, first:stop] for x in whole), self.counts[..., first:stop])

    def of_frames(self, places: Tensor) -> ReferenceFeatures:
        """For each of B frames its own R (B, R) of the references (1, N, …) that all frames share."""
        whole = self.pictures, self.narrow, self.wide, self.entry
        taken = (x[0].permute(0, 2, 3, 1)[places].permute(0, 1, 4, 2, 3) for x in whole)  # channels stay last
        return ReferenceFeatures(*taken, self.counts[places])


@dataclass(frozen=True)
class Aligned:
    """Weighted means of warped references, float32."""

    picture: Tensor  # (B, 3, S, S)
    narrow: Tensor  # (B, n, S, S)
    wide: Tensor  # (B, w, S/2, S/2)


class DenseFlow(PictureEncoder):
    """IP-LAP's alignment: flows and weights of references, from themselves and the frames' sketches."""

    def __init__(self, sizes: LipSizes) -> None:
        super().__init__(6, sizes)
        self.spade_layer_1 = Spade(sizes.wide, SKETCH_CHANNELS, sizes.hidden)
        self.spade_layer_2 = Spade(sizes.wide, SKETCH_CHANNELS, sizes.hidden)
        self.pixel_shuffle_1 = nn.PixelShuffle(2)
        self.spade_layer_4 = Spade(sizes.middle, SKETCH_CHANNELS, sizes.hidden)
        self.conv_4 = nn.Conv2d(sizes.middle, 2, 7, padding=3)
        self.conv_5 = nn.Sequential(
            nn.Conv2d(sizes.middle, sizes.narrow, 7, padding=3),
            nn.ReLU(),
            nn.Conv2d(sizes.narrow, 1, 7, padding=3),
            nn.Sigmoid(),
        )

    def encode_references(self, pictures: Tensor, sketches: Tensor) -> ReferenceFeatures:
        """Features of pictures and sketches (1|B, N, 3, S, S)."""
        narrow, wide = self.encode(torch.cat([pictures, sketches], 2).flatten(0, 1))
        shape = pictures.shape[:2]
        counts = torch.ones(shape[1], device=pictures.device)
        entry = self.entry(wide)
        return ReferenceFeatures(pictures, *(x.unflatten(0, shape) for x in (narrow, wide, entry)), counts)

    def entry(self, wide: Tensor) -> Tensor:
        """Share of references in what flows are told from."""
        return wide

    def fused(self, entry: Tensor, _frames: Tensor | None) -> Tensor:
        """(B, R, w, S/2, S/2) of the references' share (1|B, R, …) and the frames' own (B, …)."""
        return entry

    def forward(
        self, references: ReferenceFeatures, sketches: Tensor, frames: Tensor | None = None, at_once: int = 0
    ) -> Aligned:
        """Warped references and their features.

        Args:
            references: of `encode_references`.
            sketches: (B, 15, S, S) around each frame, one after another.
            frames: (B, w, S/2, S/2) of the frames themselves; None in IP-LAP's network.
            at_once: references that are warped together, which bounds the memory; 0: all.
        """
        small = interpolate(sketches, scale_factor=0.5, mode="nearest")
        maps = self._maps(small, sketches)
        count = references.pictures.shape[1]
        step = at_once or count
        total: list[Tensor] = []
        for first in range(0, count, step):
            part = references.part(first, first + step)
            entry = self.fused(part.entry, frames)
            flow, weight = self._flows(entry.expand(len(sketches), *entry.shape[1:]).flatten(0, 1), maps)
            sums = _summed(part, flow, weight, len(sketches))
            total = [old + new for old, new in zip(total, sums, strict=True)] if total else sums
        picture, narrow, wide, weights = total
        weights = weights + EPSILON
        return Aligned(picture / weights, narrow / weights, wide / _halved(weights))

    def _maps(self, small: Tensor, sketches: Tensor) -> tuple:
        """Of sketches at half and at full size."""
        return self.spade_layer_1.maps(small), self.spade_layer_2.maps(small), self.spade_layer_4.maps(sketches)

    def _flows(self, x: Tensor, maps: tuple) -> tuple[Tensor, Tensor]:
        """Flow (B · R, 2, S, S) in pixels and weights (B · R, 1, S, S) in 0..1, of (B · R, w, S/2, S/2)."""
        x = self.spade_layer_2(self.spade_layer_1(x, maps[0]), maps[1])
        x = self.spade_layer_4(self.pixel_shuffle_1(x), maps[2])
        return self.conv_4(x), self.conv_5(x)


class Alignment(DenseFlow):
    """The paper's alignment M_a, which sees the frame's visible half besides.

    DenseFlow's own encoder is E_r. The fusion's convolution of both features together is computed for each alone, so
    that the references' half of it is computed once.
    """

    def __init__(self, config: LipConfig) -> None:
        super().__init__(config)
        self.half_flow = config.half_flow
        if self.half_flow:  # in the place of the layers at full size
            del self.spade_layer_4, self.pixel_shuffle_1
            self.conv_4 = nn.Conv2d(config.wide, 2, 3, padding=1)
            self.conv_5 = nn.Sequential(nn.Conv2d(config.wide, 1, 3, padding=1), nn.Sigmoid())
        self.masked = PictureEncoder(3, config)  # E_m
        self.fuse = nn.Conv2d(2 * config.wide, config.wide, 3, padding=1)
        self.blocks = nn.Sequential(*(ResBlock(config.wide) for _ in range(config.blocks)))

    def entry(self, wide: Tensor) -> Tensor:
        """The fusion's convolution of references."""
        return conv2d(wide, self.fuse.weight[:, : wide.shape[1]], padding=1)

    def fused(self, entry: Tensor, frames: Tensor) -> Tensor:
        """Both features through the fusion; `frames` is `masked`'s half-size features."""
        own = conv2d(frames, self.fuse.weight[:, frames.shape[1] :], self.fuse.bias, padding=1)
        both = entry + own[:, None]
        return self.blocks(both.flatten(0, 1)).unflatten(0, both.shape[:2])

    def _maps(self, small: Tensor, sketches: Tensor) -> tuple:
        if not self.half_flow:
            return super()._maps(small, sketches)
        return self.spade_layer_1.maps(small), self.spade_layer_2.maps(small)

    def _flows(self, x: Tensor, maps: tuple) -> tuple[Tensor, Tensor]:
        if not self.half_flow:
            return super()._flows(x, maps)
        x = self.spade_layer_2(self.spade_layer_1(x, maps[0]), maps[1])
        last = self.conv_4, self.conv_5[0]  # as one convolution: they are narrow
        weights, biases = (torch.cat([getattr(layer, name) for layer in last]) for name in ("weight", "bias"))
        both = conv2d(x, weights, biases, padding=1).float()
        both = torch.cat([2 * both[:, :2], both[:, 2:].sigmoid()], 1)  # pixels of the full size
        both = interpolate(both, scale_factor=2, mode="bilinear", align_corners=False)
        return both[:, :2], both[:, 2:]

    @torch.no_grad()
    def start_from(self, public: DenseFlow) -> None:
        """Become IP-LAP's alignment, to be trained on from there.

        The fusion hands the references' features through unchanged: its convolution is the identity on them and zero on
        the frame's, and its residual blocks add nothing yet.

        Raises:
            InputError: its layers have other sizes.
        """
        taken = public.state_dict()
        own = self.state_dict()
        others = [name for name, tensor in taken.items() if own[name].shape != tensor.shape]
        if others:
            raise InputError(
                f"IP-LAP's alignment has other sizes ({', '.join(others[:3])}); to start from it, keep `narrow`, "
                "`wide` and `hidden` as they are by default."
            )
        self.load_state_dict(own | taken)
        start_as_identity(self.fuse, self.blocks)  # the first half of what comes in is the references'


def unwarped_mean(references: ReferenceFeatures, batch: int) -> Aligned:
    """The references' mean as they are, for B frames: what an ablation puts in the place of the alignment."""
    share = (references.counts / references.counts.sum())[None, :, None, None, None]
    means = ((x.float() * share).sum(1) for x in (references.pictures, references.narrow, references.wide))
    return Aligned(*(mean.expand(batch, -1, -1, -1) for mean in means))


def no_references(narrow: Tensor, wide: Tensor) -> Aligned:
    """Zeros in the place of references, for frames whose own features are `narrow` and `wide`."""
    picture = narrow.new_zeros(len(narrow), 3, *narrow.shape[2:])
    return Aligned(picture.float(), torch.zeros_like(narrow).float(), torch.zeros_like(wide).float())


def _summed(references: ReferenceFeatures, flow: Tensor, weight: Tensor, batch: int) -> list[Tensor]:
    """Sums over R references of what is warped times its weight, and of the weights."""
    grid = sampling_grid(flow)
    weight = weight.float().unflatten(0, (batch, -1)) * references.counts[..., None, None, None]
    half = _halved(weight.flatten(0, 1)).unflatten(0, (batch, -1))

    def added(x: Tensor, share: Tensor) -> Tensor:
        spread = x.expand(batch, *x.shape[1:]).flatten(0, 1)
        warped = sampled(spread, grid).unflatten(0, (batch, -1))
        return (warped * share if torch.is_grad_enabled() else warped.mul_(share)).sum(1)

    pictures, narrow, wide = (references.pictures, weight), (references.narrow, weight), (references.wide, half)
    return [added(*pictures), added(*narrow), added(*wide), weight.sum(1)]


def _halved(x: Tensor) -> Tensor:
    """Every second pixel of (B, C, S, S)."""
    return interpolate(x, scale_factor=0.5, mode="nearest")
