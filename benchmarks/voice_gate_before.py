"""The gate of levels alone that `speech.voice_activity` was before the network, for comparison."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from portraittalk_core.speech.mel import band_levels
from portraittalk_core.types import Speech

BANDS_HZ = ((150.0, 1000.0), (1000.0, 3800.0))
SILENT_DB, ABOVE_NOISE_DB, MODULATION_DB, GATE_DB = -65.0, 7.0, 9.0, -45.0
FLOOR_FRAMES, HANGOVER_FRAMES = 1000, 8  # of 10 ms


def level_activity(speech: Speech) -> Tensor:
    """(samples // 160 + 1,) 0..1 at 100 Hz: what stands above the steady noise, in a clip whose level moves."""
    level = band_levels(speech, BANDS_HZ).amax(1)
    loud = torch.quantile(level, 0.95)
    syllables = F.avg_pool1d(level[None, None], 5, 5, ceil_mode=True)[0, 0]
    if loud < SILENT_DB or torch.quantile(syllables, 0.95) - torch.quantile(syllables, 0.1) < MODULATION_DB:
        return torch.zeros_like(level)
    threshold = torch.maximum(loud + GATE_DB, torch.minimum(_noise_floor(level) + ABOVE_NOISE_DB, loud - 10))
    present = ((_average(level, 3) - threshold.clamp(min=SILENT_DB)) / 6 + 0.5).clamp(0, 1)
    closed = F.max_pool1d(present[None, None], 2 * HANGOVER_FRAMES + 1, 1, HANGOVER_FRAMES)
    closed = -F.max_pool1d(-closed, 2 * HANGOVER_FRAMES + 1, 1, HANGOVER_FRAMES)[0, 0]
    return torch.maximum(present, _average(closed, 5))


def _noise_floor(level: Tensor) -> Tensor:
    reach = min(FLOOR_FRAMES, len(level))
    quietest = -F.max_pool1d(-_average(level, 15)[None], reach, 1)[0]
    ends = quietest.new_ones(reach - 1)
    return torch.maximum(torch.cat([quietest[0] * ends, quietest]), torch.cat([quietest, quietest[-1] * ends]))


def _average(signal: Tensor, width: int) -> Tensor:
    return F.avg_pool1d(F.pad(signal[None, None], (width // 2, width // 2), mode="replicate"), width, 1)[0, 0]
