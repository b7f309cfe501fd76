"""Audio projection: wav2vec 2.0 features around every frame to audio tokens for V-Express's UNet.

Shapes: N features of a clip, D their width (768), T frames, C width of the tokens (768).
Source: V-Express (Wang et al. 2024), section 3.3; `docs/design/vexpress.md` 1, 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...checks import check_shape
from ...errors import InputError
from ...layers.perceiver import HEAD_WIDTH, Perceiver

PER_FRAME = 2  # features that a frame lasts
AROUND = 2  # frames of context before and after
FEATURES = PER_FRAME * (2 * AROUND + 1)
TOKENS = 2 * AROUND + 1


@dataclass(frozen=True)
class AudioSizes:
    """Sizes of an audio projection; the public file's by default."""

    features: int = 768  # D of the encoder
    width: int = 768  # within
    out: int = 768  # C
    inner: int = 768  # of the attentions, all heads together
    depth: int = 4
    num_positions: int = FEATURES  # features for each frame
    tokens: int = TOKENS  # for each frame


class AudioProjection(Perceiver):
    """Perceiver resampler: learnt queries attend to the audio features around a frame."""

    def __init__(self, sizes: AudioSizes | None = None) -> None:
        sizes = sizes or AudioSizes()
        if sizes.inner % HEAD_WIDTH:
            raise InputError(f"attention of {sizes.inner} channels does not split into heads of {HEAD_WIDTH}.")
        super().__init__(sizes.features, sizes.width, sizes.inner, sizes.depth, sizes.out)
        self.sizes = sizes
        self.pos_emb = nn.Embedding(sizes.num_positions, sizes.features)
        self.latents = nn.Parameter(torch.randn(1, sizes.tokens, sizes.width) / sizes.width**0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Tokens (T, 5, C) of the features around every frame (T, 10, D)."""
        check_shape(features, f"T {self.sizes.num_positions} {self.sizes.features}", "features around frames")
        embedded = features + self.pos_emb.weight
        return super().forward(self.latents.expand(len(features), -1, -1), embedded)


def features_around(features: Tensor, num_frames: int) -> Tensor:
    """Audio features around every frame: two of its own, and four of either neighbourhood.

    The clip's features are resampled linearly to two a frame; before the clip and behind it are zeros.

    Args:
        features: (N, D) of the whole clip, at any rate.
        num_frames: T that the clip lasts.

    Returns:
        (T, 10, D).

    Raises:
        InputError: no features or no frames.
    """
    check_shape(features, "N D", "speech features")
    if not len(features) or num_frames < 1:
        raise InputError(f"{len(features)} features cannot be spread over {num_frames} frames; give at least 1 each.")
    spread = nn.functional.interpolate(features.T[None].float(), size=PER_FRAME * num_frames, mode="linear")[0].T
    padded = nn.functional.pad(spread, (0, 0, PER_FRAME * AROUND, PER_FRAME * AROUND))
    return padded.unfold(0, FEATURES, PER_FRAME).transpose(1, 2).to(features.dtype)


@torch.no_grad()
def audio_tokens(projection: AudioProjection, features: Tensor, num_frames: int, batch: int = 64) -> Tensor:
    """Tokens (T, 5, C) float32 on the CPU of a clip's features (N, D), `batch` frames at once."""
    like = projection.latents
    around = features_around(features, num_frames)
    parts = [projection(part.to(like)).float().cpu() for part in around.split(batch)]
    return torch.cat(parts)
