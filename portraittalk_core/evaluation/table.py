"""Which numbers a score report holds, in the order in which it shows them."""

from __future__ import annotations

from ..metrics.registry import METRICS, PORTRAIT, SPEECH, MetricDefinition

_OURS = "this project"
_EXTRA = (
    MetricDefinition(
        "adfd_place", "ADFD, place", "", "higher", "0..1", "The part S of ADFD: how near the landmarks lie.",
        "PortraitTalk, equation 3",
    ),
    MetricDefinition(
        "adfd_motion", "ADFD, motion", "", "higher", "0..1",
        "The part C of ADFD: how alike the landmarks move; ½ is unrelated motion.", "PortraitTalk, equation 3",
    ),
    MetricDefinition(
        "mouth_lag", "Mouth lag", "ms", "neither", "−200..200",
        "The lag within ±0.2 s at which the two mouth openings correlate best, in whole frames; + the generated mouth "
        "comes late. 0 is best.", _OURS,
    ),
    MetricDefinition(
        "sound_mouth_correlation", "Sound–mouth correlation (proxy, not LSE)", "", "target", "−1..1",
        "Pearson correlation of the inner-lip gap with the sound's level (10 ms root mean square, decibels, averaged "
        "over the frame) at the best lag within ±0.2 s. A proxy of lip sync that needs no weights. Loud is not open: "
        "real videos stay far below 1. Compare with the target's own, or between methods on the same speech.",
        _OURS, (SPEECH,),
    ),
    MetricDefinition(
        "sound_mouth_lag", "Sound–mouth lag (proxy)", "ms", "target", "−200..200",
        "The lag of that correlation, in whole frames; + the mouth comes after the sound.", _OURS, (SPEECH,),
    ),
    MetricDefinition(
        "change", "Picture change", "levels of 255", "target", "0..255",
        "Mean absolute change of grey level from frame to frame, on the picture at about 128 pixels: motion and "
        "flicker together, for there is no truth to tell them apart.", _OURS, (),
    ),
)  # fmt: skip

_ORDER = (
    "adfd", "adfd_place", "adfd_motion", "m_lmd", "f_lmd", "m_lmd_iod", "f_lmd_iod", "lmd_atvg", "lmd_lip",
    "mouth_correlation", "mouth_lag", "lse_d", "lse_c", "av_offset", "sound_mouth_correlation", "sound_mouth_lag",
    "psnr", "ssim", "lpips", "fid", "fvd", "identity", "identity_to_target", "jitter", "jitter_still", "flicker",
    "change", "blink_rate", "blink_duration", "head_std", "head_speed", "head_beat",
)  # fmt: skip
_ALL = METRICS | {definition.name: definition for definition in _EXTRA}

TABLE: dict[str, MetricDefinition] = {name: _ALL[name] for name in _ORDER if name in _ALL}
"""Of pairs: what is measured against a true video, and what both have by themselves."""

OWN: dict[str, MetricDefinition] = {
    name: definition for name, definition in TABLE.items() if set(definition.needs).isdisjoint({"the true video"})
}
"""Of videos alone: what needs no ground truth."""

TARGET_PREFIX = "target:"
"""Before the name of a number that is the target's own."""

__all__ = ["OWN", "PORTRAIT", "TABLE", "TARGET_PREFIX"]
