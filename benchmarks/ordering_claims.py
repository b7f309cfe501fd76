"""Degradations that each metric claims to detect, and verdicts on these claims."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from portraittalk_core.checks import check_range
from portraittalk_core.errors import InputError
from portraittalk_core.evaluation.result import EvaluationResult
from portraittalk_core.metrics.registry import METRICS, TARGET_PREFIX

ORIGINAL, REENCODED, BLURRED, SHIFTED = KINDS = ("original", "re-encoded", "blurred", "shifted")
FAULTS = KINDS[1:]
PICTURE, TIME = (REENCODED, BLURRED), (SHIFTED,)
MILDER_CRF, STRONGER_CRF = 7, 8
Clip = Mapping[tuple[str, int], EvaluationResult]  # by kind and strength


@dataclass(frozen=True)
class Damage:
    """Strengths of the degradations, from mild to strong; the order is measured on the middle one."""

    crf: tuple[int, ...] = (23, 30, 38)  # of re-encoding
    sigma_px: tuple[float, ...] = (1.0, 2.0, 4.0)  # of the Gaussian blur
    frames: tuple[int, ...] = (1, 3, 6)  # by which pictures come late, sound stays

    def __post_init__(self) -> None:
        for name, low, high in (("crf", 1, 51), ("sigma_px", 0.1, 50), ("frames", 1, 1000)):
            steps = getattr(self, name)
            for value in steps:
                check_range(value, low, high, f"{name} of a copy")
            if any(b <= a for a, b in itertools.pairwise(steps)):
                raise InputError(f"{name} must grow from copy to copy, not {steps}.")

    @staticmethod
    def around(crf: int, sigma_px: float, frames: int, growing: bool = True) -> Damage:
        """Copies of these strengths; if growing, a milder and a stronger one of each too."""
        if not growing:
            return Damage((crf,), (sigma_px,), (frames,))
        milder = max(1, round(frames / 3))
        if milder == frames:
            raise InputError(f"a shift of {frames} frame has no milder one; give --frames 2 or more, or --quick.")
        crfs = (crf - MILDER_CRF, crf, min(crf + STRONGER_CRF, 51))
        return Damage(crfs, (sigma_px / 2, sigma_px, 2 * sigma_px), (milder, frames, 2 * frames))

    @property
    def levels(self) -> int:
        """Strengths of each fault."""
        return len(self.crf)

    def strengths(self, fault: str) -> tuple[float, ...]:
        """Strengths of one degradation."""
        return {REENCODED: self.crf, BLURRED: self.sigma_px, SHIFTED: self.frames}[fault]


@dataclass(frozen=True)
class Claim:
    """Degradations that a metric claims to detect, from the best to the worst copy, and why."""

    sees: tuple[str, ...]  # of FAULTS, in their order
    because: str


_PLACES = Claim(TIME, "compares where landmarks lie at the same moment; pixels count only as they mislead the tracker")
_PIXELS = Claim(PICTURE, "compares pixels; a shift costs only what moved, so its rank depends on how much moves")
_BEST_LAG = Claim((), "is taken at the best of several delays, which takes a small shift out")
_HABITS = Claim((), "is a statistic of motion over the whole clip, whenever it comes and however sharp it is seen")

CLAIMS: dict[str, Claim] = {
    **dict.fromkeys(
        ("adfd", "adfd_place", "adfd_motion", "m_lmd", "f_lmd", "m_lmd_iod", "f_lmd_iod", "lmd_atvg", "lmd_lip",
         "mouth_correlation"), _PLACES),
    "mouth_lag": Claim(TIME, "is the mouth's delay itself"),
    "sound_mouth_lag": Claim(TIME, "is the delay between mouth and sound"),
    "av_offset": Claim(TIME, "is the delay between lips and sound"),
    **dict.fromkeys(("sound_mouth_correlation", "lse_d", "lse_c"), _BEST_LAG),
    **dict.fromkeys(("psnr", "ssim", "lpips"), _PIXELS),
    "fid": Claim(PICTURE, "compares sets of frames, whose order does not count"),
    "fvd": Claim(PICTURE, "compares sets of clips, whose start does not count"),
    **dict.fromkeys(
        ("identity", "identity_to_target", "identity_distance", "identity_to_target_distance"),
        Claim((), "asks who it is, not how sharp or when"),
    ),
    "jitter": Claim((), "asks whether landmarks tremble; damaged pixels shake the tracker, but it is not its subject"),
    "jitter_still": Claim((), "as landmark jitter"),
    "flicker": Claim((), "looks at places that stand still, which blur and shift leave so and an encoder may calm"),
    "change": Claim((), "is motion and flicker together, of which blur takes some away and noise adds some"),
    **dict.fromkeys(("blink_rate", "blink_duration", "head_std", "head_speed", "head_beat"), _HABITS),
}  # fmt: skip
"""Of every metric of a score report."""


@dataclass(frozen=True)
class Verdict:
    """Means and order of one metric over the clips' copies."""

    metric: str
    claim: Claim
    means: Mapping[str, float]  # by kind, over the clips that all kinds could be measured on; as `shown_value`
    num_clips: int
    out_of_order: tuple[tuple[str, str], ...]  # neighbours of the whole order of which the second is not worse
    broken: tuple[tuple[str, str], ...]  # the same of the order that the metric claims
    clips_as_claimed: int  # clips that by themselves are ordered as it claims
    grows: Mapping[str, bool]  # by fault: every stronger one is worse, in the mean; empty if not measured

    @property
    def failed(self) -> tuple[str, ...]:
        """The claims that do not hold."""
        pairs = [f"{second} is not worse than {first}" for first, second in self.broken]
        return (*pairs, *(f"{fault} does not grow" for fault in self.claim.sees if self.grows.get(fault) is False))


def shown_value(row: EvaluationResult, metric: str) -> float | None:
    """Value of a metric; of one whose best value is the target's, its distance from that."""
    if metric not in row.values:
        return None
    better, value = METRICS[metric].better, row.values[metric]
    if better == "target":
        target_value = row.values.get(TARGET_PREFIX + metric)
        return None if target_value is None else abs(value - target_value)
    return abs(value) if better == "neither" else value


def badness(metric: str, value: float) -> float:
    """A metric's value with the sign by which greater is worse."""
    return -value if METRICS[metric].better == "higher" else value


def judge(metric: str, clips: Sequence[Mapping[tuple[str, int], EvaluationResult]], levels: int) -> Verdict | None:
    """Verdict on a metric from the scores of each clip's copies.

    Args:
        metric: its name.
        clips: for each clip, rows by kind and strength (from 0, mild to strong); the original's strength is 0.
        levels: how many strengths there are; the one in the middle is that of the order.

    Returns:
        None if no clip could be measured.
    """
    middle = levels // 2
    clip_values = [{key: shown_value(row, metric) for key, row in clip.items()} for clip in clips]
    clip_values = [clip for clip in clip_values if all(value is not None for value in clip.values())]
    if not clip_values:
        return None
    means = {key: math.fsum(clip[key] for clip in clip_values) / len(clip_values) for key in clip_values[0]}
    order = [(ORIGINAL, 0), *((fault, middle) for fault in FAULTS)]
    claim = CLAIMS[metric]
    claimed = [key for key in order if key[0] in (ORIGINAL, *claim.sees)]
    grows = {}
    if levels > 1:
        for fault in FAULTS:
            grows[fault] = not _not_worse(metric, means, [(ORIGINAL, 0), *((fault, k) for k in range(levels))])
    return Verdict(
        metric,
        claim,
        {key[0]: means[key] for key in order},
        len(clip_values),
        _not_worse(metric, means, order),
        _not_worse(metric, means, claimed),
        sum(not _not_worse(metric, clip, claimed) for clip in clip_values),
        grows,
    )


def _not_worse(
    metric: str, values: Mapping[tuple[str, int], float], order: Sequence[tuple[str, int]]
) -> tuple[tuple[str, str], ...]:
    """Adjacent pairs of an order of which the second is not worse than the first."""
    pairs = zip(order, order[1:], strict=False)
    return tuple((a[0], b[0]) for a, b in pairs if not badness(metric, values[b]) > badness(metric, values[a]))


def growing_means(metric: str, clips: Sequence[Clip], fault: str, levels: int) -> list[float]:
    """Means over clips of the original and of a degradation's strengths, from mild to strong."""
    means = []
    for key in ((ORIGINAL, 0), *((fault, k) for k in range(levels))):
        values = [shown_value(clip[key], metric) for clip in clips]
        numbers = [value for value in values if value is not None]
        means.append(math.fsum(numbers) / len(numbers) if numbers else math.nan)
    return means
