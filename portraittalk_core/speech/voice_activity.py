"""Voice activity detection."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import Speech
from .mel import MEL_RATE_HZ, band_levels

SPEECH_BANDS_HZ = ((150.0, 1000.0), (1000.0, 3800.0))
SILENT_DB = -65.0  # mel power below this is no speech at any gate
ABOVE_NOISE_DB = 7.0  # speech must rise above the steady noise by this much
MODULATION_DB = 9.0  # speech rises and falls by more than this within a clip; steady noise and tones do not
FLOOR_FRAMES = 1000  # of 10 ms: noise is what remains between words within this reach
HANGOVER_FRAMES = 8  # of 10 ms: short gaps inside a word stay open


def voice_activity(speech: Speech, gate_db: float = -45.0) -> Tensor:
    """Voice activity of every 10 ms.

    The level is measured against the clip's own speech and noise, so neither loudness nor steady noise matters.

    Args:
        speech: the clip.
        gate_db: sound this far below the clip's speech level counts as silence, −80..0.

    Returns:
        (samples // 160 + 1,) 0..1, 100 a second.
    """
    return activity_of_levels(band_levels(speech, SPEECH_BANDS_HZ), gate_db)


def activity_of_levels(levels: Tensor, gate_db: float) -> Tensor:
    """`voice_activity` from the levels of `SPEECH_BANDS_HZ`, (M, 2) decibels at 100 a second."""
    level = levels.amax(1)
    loud = torch.quantile(level[:: max(1, len(level) // 100_000)], 0.95)
    smooth = _average(level, 3)
    if loud < SILENT_DB or _modulation(level) < MODULATION_DB:
        return torch.zeros_like(level)
    threshold = torch.maximum(loud + gate_db, torch.minimum(_noise_floor(level) + ABOVE_NOISE_DB, loud - 10))
    threshold = torch.maximum(threshold, torch.tensor(SILENT_DB))
    present = ((smooth - threshold) / 6 + 0.5).clamp(0, 1)
    closed = F.max_pool1d(present[None, None], 2 * HANGOVER_FRAMES + 1, 1, HANGOVER_FRAMES)[0, 0]
    # close gaps shorter than the hang, give back what that added at the outer edges
    closed = -F.max_pool1d(-closed[None, None], 2 * HANGOVER_FRAMES + 1, 1, HANGOVER_FRAMES)[0, 0]
    return torch.maximum(present, _average(closed, 5))


def _noise_floor(level: Tensor) -> Tensor:
    """(M,) level of the steady noise, which may change within the clip: the quietest 150 ms within 10 s.

    The higher of what lies before and after, so that a noise that sets in is followed at once.
    """
    reach = min(FLOOR_FRAMES, len(level))
    quietest = -F.max_pool1d(-_average(level, 15)[None], reach, 1)[0]  # of the windows that begin at 0, 1, …
    ends = quietest.new_ones(reach - 1)
    previous, following = torch.cat([quietest[0] * ends, quietest]), torch.cat([quietest, quietest[-1] * ends])
    return torch.maximum(previous, following)


def _modulation(level: Tensor) -> Tensor:
    """Spread of the level from syllable to syllable (50 ms means), between its 10th and 95th percentile, decibels."""
    step = MEL_RATE_HZ // 20
    syllables = F.avg_pool1d(level[None, None], step, step, ceil_mode=True)[0, 0]
    return torch.quantile(syllables, 0.95) - torch.quantile(syllables, 0.1)


def _average(signal: Tensor, width: int) -> Tensor:
    padded = F.pad(signal[None, None], (width // 2, width // 2), mode="replicate")
    return F.avg_pool1d(padded, width, 1)[0, 0]
