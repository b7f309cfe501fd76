"""What the mouth does while somebody speaks, read from the sound by hand-set rules.

The only file that another predictor needs to replace: `predict_mouth(speech, options) → MouthCurves`.

The rules: an open mouth lets energy above 0.7 kHz out, a closed one leaves the murmur below 0.4 kHz; a hiss (s, sh, f)
comes through a narrow mouth however loud it is; pressed lips (b, p, m) let nothing above 1.2 kHz out; rounded lips damp
what lies above 1.8 kHz; silence rests. Levels count relative to the clip's own: loudness and microphone do not matter.

Which bands to heed was chosen while looking at real clips of several speakers; the numbers were then set on synthetic
speech with known phones and on the GRID clips (CC BY 4.0).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..speech.mel import MEL_RATE_HZ, band_levels
from ..speech.voice_activity import SPEECH_BANDS_HZ, activity_of_levels
from ..types import MotionOptions, MouthCurves, Speech
from .smoothing import frame_times_s, gaussian, sample_at, steady

# fmt: off
BANDS_HZ = ((100.0, 400.0), (400.0, 700.0), (700.0, 1200.0), (1200.0, 2000.0), (2000.0, 3000.0), (3000.0, 4200.0),
            (4200.0, 7600.0))
# fmt: on
OPENING_WEIGHTS = (-1.0, -0.2, 0.4, 0.4, 0.7, 0.4, 0.6)  # one per band
SPREAD_BANDS_HZ = ((400.0, 900.0), (1800.0, 3200.0))  # rounded lips weaken the upper against the lower
RANGE_DB = 40.0  # of each band's level that counts, below its own loud moments
TRUST_DB = (6.0, 18.0)  # a band that varies by less holds no speech (telephone, noise); by more, it counts in full
HISS_DB = 14.0  # the top band this far above the voice's band, each below its own loud moments, is a hiss
HISS_OPENING = 0.3
PRESSED_DB = (-22.0, -34.0)  # the four upper bands' fall at which lips begin to press, and press fully
SYLLABLE_S = 0.035  # lips do not follow faster
LEAD_S = 0.03  # lips move before the sound
WIDE = 0.88  # opening of the clip's widest moments (97th percentile) at gain 1


@dataclass(frozen=True)
class _Sound:
    """What the rules look at, 100 times a second."""

    bands: Tensor  # (M, 7) decibels below each band's loud moments, −40..0 and a little above
    trust: Tensor  # (7,) 0 the band is empty or drowned in noise .. 1 speech stands out in it
    tilt: Tensor  # (M,) decibels, upper against lower spread band
    hiss: Tensor  # (M,) 0..1
    gate: Tensor  # (M,) 0 silence .. 1 speech
    spoken: Tensor  # (M,) bool


def predict_mouth(speech: Speech, options: MotionOptions) -> MouthCurves:
    """Mouth opening, width, rounding and press for every video frame of a clip.

    Args:
        speech: the clip.
        options: fps, mouth_gain, silence_gate_db, smoothing and offset_ms are used.

    Returns:
        ceil(seconds · fps) frames; a silent clip rests closed.
    """
    sound = _listen(speech, options.silence_gate_db)
    num_frames = speech.num_frames(options.fps)
    if int(sound.spoken.sum()) < 5:
        return MouthCurves(*(torch.zeros(num_frames) for _ in range(4)))
    spread = _spread(sound)
    hushed = gaussian(0.6 * sound.hiss * ((sound.bands[:, 5] - sound.bands[:, 6]) > 3), 3.0)  # sh, not s
    curves = MouthCurves(
        opening=WIDE * _opening(sound).clamp(0, 1.25) * sound.gate,
        width=0.7 * spread.clamp(-1, 1) * sound.gate,
        rounding=torch.maximum((-spread - 0.25).clamp(0, 1), hushed) * sound.gate,
        press=_press(sound) * sound.gate,
    )
    times = frame_times_s(num_frames, options.fps) + LEAD_S - options.offset_ms / 1000
    return _on_frames(curves, times, options)


def _listen(speech: Speech, gate_db: float) -> _Sound:
    levels = band_levels(speech, BANDS_HZ + SPREAD_BANDS_HZ + SPEECH_BANDS_HZ)  # 100 a second: small for any length
    bands, spread_bands, speech_bands = levels.split([len(BANDS_HZ), len(SPREAD_BANDS_HZ), len(SPEECH_BANDS_HZ)], 1)
    active = activity_of_levels(speech_bands, gate_db)
    loud = _percentile(bands, 0.95)
    few, enough = TRUST_DB
    trust = ((loud - _percentile(bands, 0.1) - few) / (enough - few)).clamp(0, 1)
    bands, voice = _floored(bands) - loud, _floored(speech_bands[:, 0])
    low, high = _floored(spread_bands).unbind(1)
    return _Sound(
        bands=bands,
        trust=trust,
        tilt=high - low,
        hiss=trust[-1] * torch.sigmoid((bands[:, -1] - voice + _percentile(voice, 0.95) - HISS_DB) / 2),
        gate=gaussian(active, 2.0),
        spoken=active > 0.5,
    )


def _floored(levels: Tensor) -> Tensor:
    return torch.maximum(levels, _percentile(levels, 0.95) - RANGE_DB)


def _opening(sound: _Sound) -> Tensor:
    """(M,) 0 at the clip's closed moments .. 1 at its widest; may pass both."""
    weights = torch.tensor(OPENING_WEIGHTS)
    for_open, for_closed = sound.trust * weights.clamp(min=0), weights.clamp(max=0)
    # where noise hides what speaks for an open mouth, what speaks against it counts less too, or loud would mean closed
    weights = for_open + for_closed * for_open.sum() / weights.clamp(min=0).sum()
    voiced = sound.spoken & (sound.hiss < 0.5)
    score = _within_clip(sound.bands @ weights / RANGE_DB, voiced if int(voiced.sum()) >= 5 else sound.spoken)
    score = score + sound.hiss * (HISS_OPENING - score)
    return _within_clip(gaussian(score, SYLLABLE_S * MEL_RATE_HZ), sound.spoken)


def _within_clip(score: Tensor, spoken: Tensor) -> Tensor:
    closed, wide = _percentile(score[spoken], 0.08), _percentile(score[spoken], 0.97)
    return (score - closed) / (wide - closed).clamp(min=0.05)


def _press(sound: _Sound) -> Tensor:
    """(M,) 0..1: speech goes on, but nothing of it comes out above the murmur."""
    trust = sound.trust[3:]
    upper = gaussian(sound.bands[:, 3:] @ trust / trust.sum().clamp(min=1), 1.5)
    begin, full = PRESSED_DB
    return ((upper - begin) / (full - begin)).clamp(0, 1)


def _spread(sound: _Sound) -> Tensor:
    """(M,) −1 rounded .. 1 spread, around the clip's own middle; a hiss says nothing of it."""
    middle = _percentile(sound.tilt[sound.spoken], 0.5)
    tilt = gaussian((sound.tilt - middle) * (1 - sound.hiss), 4.0)
    spoken = tilt[sound.spoken]
    reach = (_percentile(spoken, 0.9) - _percentile(spoken, 0.1)).clamp(min=6) / 2
    return (tilt - _percentile(spoken, 0.5)) / reach / 1.5


def _percentile(values: Tensor, share: float) -> Tensor:
    """Over time; a long clip is thinned out first, as torch limits the size."""
    return torch.quantile(values[:: max(1, len(values) // 100_000)], share, dim=0)


def _on_frames(curves: MouthCurves, times_s: Tensor, options: MotionOptions) -> MouthCurves:
    min_cutoff_hz = 12.0 * (1 - options.smoothing) ** 2 + 1.0
    names = [field.name for field in fields(curves)]
    framed = torch.stack([sample_at(getattr(curves, name), MEL_RATE_HZ, times_s) for name in names], 1)
    if options.smoothing > 0:
        framed = steady(framed, options.fps, min_cutoff_hz, beta=4.0)
    opening, width, rounding, press = framed.unbind(1)
    gain = options.mouth_gain
    return MouthCurves(opening * gain, width * min(gain, 1), rounding * min(gain, 1), press)
