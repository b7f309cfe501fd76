"""Temporal convolutional network from a log-mel spectrogram to mouth curves and voice activity.

A trunk with a look-ahead of 160 ms gives a first output (for live use); layers with a wide receptive field refine it.

Source: own design; temporal convolutions with dilation as in Bai, Kolter and Koltun, arXiv 1803.01271.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...speech.mel import MEL_RATE_HZ, NUM_MELS
from ...types import MOUTH_PARAMETERS

OUTPUTS = (*MOUTH_PARAMETERS, "voice")  # voice: 0 silence, noise or music .. 1 somebody speaks or sings

STRIDE = 2
OUTPUT_RATE_HZ = MEL_RATE_HZ // STRIDE
FLOOR_DB = 50.0  # below a band's loud moments nothing counts
UNIT_DB = 3.0  # added to a band's spread, so that an empty band is not blown up
# dilation, and how many frames of 20 ms a layer looks ahead
TRUNK = ((1, 1), (2, 2), (4, 4), (8, 0), (4, 0))
REFINE = ((1, 1), (3, 3), (9, 9))
KERNEL = 3
TRACTS = (0.85, 0.95, 1.05, 1.18)  # factors by which `vocal_tracts` moves what is heard along the mel scale


@dataclass(frozen=True)
class MelStatistics:
    """Statistics of a clip's mel bands during speech."""

    floor: Tensor  # (80,) decibels: what is quieter counts as this
    mean: Tensor  # (80,)
    spread: Tensor  # (80,)

    def normalise(self, mel: Tensor) -> Tensor:
        """(M, 80) decibels standardised to about −3..3, independent of loudness and microphone."""
        return (torch.maximum(mel, self.floor) - self.mean) / self.spread


def measure_mel(mel: Tensor) -> MelStatistics:
    """Mel statistics of the speech frames of (M, 80) decibels: those near the clip's loud moments."""
    level = mel[:, 5:50].mean(1)
    spoken = level > torch.quantile(level, 0.95) - 30
    loud = torch.quantile(mel[spoken], 0.95, dim=0)
    floor = loud - FLOOR_DB
    levels = torch.maximum(mel[spoken], floor)
    return MelStatistics(floor, levels.mean(0), levels.std(0, correction=0) + UNIT_DB)


def warp_bands(mel: Tensor, factor: float) -> Tensor:
    """(M, 80) bands moved along the mel scale, as if the vocal tract were shorter by a factor."""
    last = mel.shape[1] - 1
    source = (torch.arange(last + 1, device=mel.device) / factor).clamp(0, last)
    low = source.long().clamp(max=last - 1)
    return torch.lerp(mel[:, low], mel[:, low + 1], (source - low).to(mel.dtype))


def vocal_tracts(mel: Tensor) -> Tensor:
    """(4, M, 80) the same speech as speakers of other sizes would say it; a network's mean over them errs less.

    Source: vocal tract length perturbation, Jaitly and Hinton 2013, at test time.

    Args:
        mel: (M, 80) normalised.
    """
    return torch.stack([warp_bands(mel, factor) for factor in TRACTS])


class DilatedLayer(nn.Module):
    """Residual dilated convolution; of its (kernel − 1) · dilation frames of context, `ahead` lie ahead.

    Args:
        width: channels.
        dilation: frames from one place of the kernel to the next.
        ahead: frames.
        dropout: share of what the layer adds that is left out in training.
    """

    def __init__(self, width: int, dilation: int, ahead: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.padding, self.dropout = ((KERNEL - 1) * dilation - ahead, ahead), dropout
        self.wide = nn.Conv1d(width, width, KERNEL, dilation=dilation)
        self.norm = nn.BatchNorm1d(width)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, T) to the same."""
        added = F.gelu(self.norm(self.wide(F.pad(x, self.padding))))
        return x + self.mix(F.dropout(added, self.dropout) if self.dropout and self.training else added)


class MouthNet(nn.Module):
    """Normalised log-mel (B, M, 80) at 100 Hz to (B, ceil(M / 2), 8) at 50 Hz, columns as OUTPUTS.

    Args:
        width: channels inside.
        closures: a `ClosureNet` of its own, which lies in its file too; None: the built-in one works beside it.
    """

    def __init__(self, width: int = 64, closures: nn.Module | None = None) -> None:
        super().__init__()
        self.width, self.closures = width, closures
        self.enter = nn.Conv1d(NUM_MELS, width, 5, stride=STRIDE, padding=2)
        self.trunk = nn.Sequential(*(DilatedLayer(width, dilation, ahead) for dilation, ahead in TRUNK))
        self.refine = nn.Sequential(*(DilatedLayer(width, dilation, ahead) for dilation, ahead in REFINE))
        self.early = nn.Conv1d(width, len(OUTPUTS), 1)
        self.late = nn.Conv1d(width, len(OUTPUTS), 1)

    def forward(self, mel: Tensor) -> Tensor:
        """The refined output."""
        return self.late(self.refine(self._trunk_features(mel))).transpose(1, 2)

    def live(self, mel: Tensor) -> Tensor:
        """The output with a look-ahead of LOOK_AHEAD_FRAMES."""
        return self.early(self._trunk_features(mel)).transpose(1, 2)

    def both(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """The live output and the refined one, for training."""
        live, refined = self.features(mel)
        return self.early(live).transpose(1, 2), self.late(refined).transpose(1, 2)

    def features(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """(B, width, T) each: what the live output and the refined one are read from."""
        live = self._trunk_features(mel)
        return live, self.refine(live)

    def _trunk_features(self, mel: Tensor) -> Tensor:
        return self.trunk(F.gelu(self.enter(mel.transpose(1, 2))))


def _reach(layers: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """Receptive field of layers behind and ahead, frames of 20 ms."""
    ahead = sum(forward for _, forward in layers)
    return sum((KERNEL - 1) * dilation for dilation, _ in layers) - ahead, ahead


LOOK_AHEAD_FRAMES = _reach(TRUNK)[1] * STRIDE + 2  # of 10 ms, that `live` looks ahead
BEHIND_FRAMES = _reach(TRUNK + REFINE)[0] * STRIDE + 2  # of 10 ms, that `forward` looks back
AHEAD_FRAMES = _reach(TRUNK + REFINE)[1] * STRIDE + 2
