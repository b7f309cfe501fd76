"""What the mouth does while somebody speaks, read from the sound by hand-set rules.

The only file that another predictor needs to replace: `predict_mouth(speech, options) → MouthCurves`.

The rules: an open mouth lets energy between 0.7 and 4 kHz out, a closed one leaves the murmur below 0.7 kHz (m, n, b);
rounded lips damp what lies above 1.8 kHz; silence rests. Levels are taken relative to the clip's own, so loudness and
microphone do not matter. The eight band weights were set by this reasoning and rounded while looking at real clips.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..speech.mel import MEL_RATE_HZ, band_levels
from ..speech.voice_activity import SPEECH_BANDS_HZ, activity_of_levels
from ..types import MotionOptions, MouthCurves, Speech
from .smoothing import frame_times_s, gaussian, one_euro, sample_at

BANDS_HZ = ((100.0, 400.0), (400.0, 700.0), (700.0, 1200.0), (1200.0, 2000.0), (2000.0, 3000.0), (3000.0, 4200.0))
OPENING_WEIGHTS = (-0.7, -0.3, 0.5, 0.5, 1.0, 0.5)  # one per band
SPREAD_BANDS_HZ = ((400.0, 900.0), (1800.0, 3200.0))  # rounded lips weaken the upper against the lower
RANGE_DB = 30.0  # of each band's level that counts, below its own loud moments
SYLLABLE_S = 0.03  # lips do not follow faster
LEAD_S = 0.02  # lips move before the sound
WIDE = 0.88  # opening of the clip's widest moments (97th percentile) at gain 1


def predict_mouth(speech: Speech, options: MotionOptions) -> MouthCurves:
    """Mouth opening, width, rounding and press for every video frame of a clip.

    Args:
        speech: the clip.
        options: fps, mouth_gain, silence_gate_db, smoothing and offset_ms are used.

    Returns:
        ceil(seconds · fps) frames; a silent clip rests closed.
    """
    levels = band_levels(speech, BANDS_HZ + SPREAD_BANDS_HZ + SPEECH_BANDS_HZ)  # 100 a second: small for any length
    bands, spread_bands, speech_bands = levels.split([len(BANDS_HZ), len(SPREAD_BANDS_HZ), len(SPEECH_BANDS_HZ)], 1)
    active = activity_of_levels(speech_bands, options.silence_gate_db)
    opening = _opening(bands, active)
    spread = _spread(spread_bands, active)
    gate = gaussian(active, 2.0)
    # speech whose mouth bands sink to their floor although the voice goes on: lips closed over a murmur, or a stop
    press = ((0.10 - opening) / 0.15).clamp(0, 1) * gate
    times = frame_times_s(speech.num_frames(options.fps), options.fps) + LEAD_S - options.offset_ms / 1000
    curves = MouthCurves(
        opening=WIDE * (opening.clamp(0, 1.25) * gate),
        width=0.7 * spread.clamp(-1, 1) * gate,
        rounding=(-spread - 0.25).clamp(0, 1) * gate,
        press=press,
    )
    return _on_frames(curves, times, options)


def _opening(bands: Tensor, active: Tensor) -> Tensor:
    """(M,) 0 at the clip's closed moments .. 1 at its widest; may pass both."""
    weights = torch.tensor(OPENING_WEIGHTS)
    loud = _percentile(bands, 0.95)
    relative = (torch.maximum(bands, loud - RANGE_DB) - loud) / RANGE_DB  # −1 .. 0 and a little above
    score = gaussian(relative @ weights, SYLLABLE_S * MEL_RATE_HZ)
    spoken = score[active > 0.5]
    if len(spoken) < 5:
        return torch.zeros_like(score)
    closed, wide = _percentile(spoken, 0.08), _percentile(spoken, 0.97)
    return (score - closed) / (wide - closed).clamp(min=0.05)


def _spread(bands: Tensor, active: Tensor) -> Tensor:
    """(M,) −1 rounded .. 1 spread, around the clip's own middle."""
    low, high = torch.maximum(bands, _percentile(bands, 0.95) - 40).unbind(1)
    tilt = gaussian(high - low, 1.3 * SYLLABLE_S * MEL_RATE_HZ)
    spoken = tilt[active > 0.5]
    if len(spoken) < 5:
        return torch.zeros_like(tilt)
    middle = _percentile(spoken, 0.5)
    reach = (_percentile(spoken, 0.9) - _percentile(spoken, 0.1)).clamp(min=6) / 2
    return (tilt - middle) / reach / 1.5


def _percentile(values: Tensor, share: float) -> Tensor:
    """Over time; a long clip is thinned out first, as torch limits the size."""
    return torch.quantile(values[:: max(1, len(values) // 100_000)], share, dim=0)


def _on_frames(curves: MouthCurves, times_s: Tensor, options: MotionOptions) -> MouthCurves:
    min_cutoff_hz = 12.0 * (1 - options.smoothing) ** 2 + 1.0

    def on_frames(curve: Tensor) -> Tensor:
        sampled = sample_at(curve, MEL_RATE_HZ, times_s)
        return one_euro(sampled, options.fps, min_cutoff_hz, beta=4.0) if options.smoothing > 0 else sampled

    framed = MouthCurves(*(on_frames(getattr(curves, name)) for name in ("opening", "width", "rounding", "press")))
    gain = options.mouth_gain
    return replace(
        framed,
        opening=framed.opening * gain,
        width=framed.width * min(gain, 1),
        rounding=framed.rounding * min(gain, 1),
    )
