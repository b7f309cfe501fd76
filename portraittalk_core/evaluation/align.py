"""Temporal alignment of two videos of the same speech: the offset, by sound, mouths or pictures, and the frame pairs.

Shapes: T frames; a lag is positive where the generated video comes late: generated[t + lag] belongs to target[t].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..errors import InputError, MediaError
from ..metrics.sound_mouth import LEVEL_HZ
from .clip import TrackedClip
from .options import FramePairing

MAX_OFFSET_S = 0.5
MIN_CORRELATION = 0.5  # less alike is taken for different speech
CLEAR_DIP = 0.8  # of pictures: at the true lag they differ by no more than this share of what they do at others
MIN_COMMON = 10  # steps that both must share at a lag
STILL = 1e-9  # variance of a curve that does not move


@dataclass(frozen=True)
class Offset:
    """Temporal offset between two videos, with its evidence."""

    seconds: float | None  # + the generated video comes late, − early; None: not found
    by: str  # "sound", "mouth", "pictures" or "nothing"
    likeness: float | None  # correlation at that lag, 0..1; of pictures 1 − difference over the usual difference
    note: str = ""  # why it was not found, or what to know about it

    def frames(self, fps: Fraction) -> int:
        """The nearest whole number of frames; 0 where nothing was found."""
        return 0 if self.seconds is None else round(self.seconds * float(fps))


def find_offset(generated: TrackedClip, target: TrackedClip) -> Offset:
    """Estimate the leading offset within ±0.5 s from the best evidence that both videos have.

    Sound comes first: it shows when a file begins, whatever the lips do. Without it in both, the mouths' opening is
    compared, then the pictures; an offset found so holds the lips' own delay too.

    Args:
        generated: sampled at the rate of the comparison.
        target: sampled at the same rate.
    """
    notes, levels = [], (generated.curves.sound_level, target.curves.sound_level)
    if all(level is not None for level in levels):
        lag, likeness = best_lag(*levels, round(MAX_OFFSET_S * LEVEL_HZ))
        if likeness >= MIN_CORRELATION:
            return Offset(lag / LEVEL_HZ, "sound", likeness)
        notes.append("the two sounds are not alike")
    reach, fps = math.floor(MAX_OFFSET_S * float(generated.fps)), float(generated.fps)
    lag, likeness = best_lag(*(clip.curves.mouth_open.double() for clip in (generated, target)), reach)
    if likeness >= MIN_CORRELATION:
        notes.append("found by the mouths, so that late lips count as an offset of the file")
        return Offset(lag / fps, "mouth", likeness, "; ".join(notes))
    notes.append("the mouths do not move alike")
    lag, likeness = most_alike_lag(generated.thumbs, target.thumbs, reach)
    if likeness >= 1 - CLEAR_DIP:
        return Offset(lag / fps, "pictures", likeness, "; ".join(notes))
    return Offset(None, "nothing", None, "; ".join([*notes, "the pictures fit no lag better than others"]))


def pair_frames(
    generated: TrackedClip, target: TrackedClip, offset: Offset, align: bool, max_frames: int | None = None
) -> FramePairing:
    """Frame pairing of two videos.

    Args:
        generated: sampled at the rate of the comparison.
        target: sampled at the same rate.
        offset: as found.
        align: take it out; else frames of the same time from the first pictures on are compared.
        max_frames: at most so many.

    Raises:
        MediaError: one of them holds no picture.
        InputError: nothing is left after the offset.
    """
    lag = offset.frames(generated.fps) if align else 0
    starts = max(lag, 0), max(-lag, 0)
    count = min(len(generated) - starts[0], len(target) - starts[1], max_frames or 10**9)
    if count < 1:
        names = f"{generated.name} and {target.name}"
        if not len(generated) or not len(target):
            raise MediaError(f"{names} have no picture in common; one of them holds none.")
        raise InputError(
            f"{names} ({len(generated)} and {len(target)} frames) have no picture in common once the offset of "
            f"{offset.seconds:.2f} s is taken out; compare them without --align."
        )
    return FramePairing(*starts, count)


def best_lag(generated: Tensor, target: Tensor, reach: int) -> tuple[float, float]:
    """The lag, to a fraction of a step, at which two curves correlate best, and that correlation.

    Args:
        generated: (M,) float64, NaN where it is not known.
        target: (N,) float64, NaN where it is not known.
        reach: greatest lag tried, steps.

    Returns:
        Lag and Pearson's r; (0, 0) if nothing can be compared.
    """
    correlations = {lag: _correlation(*_overlap(generated, target, lag)) for lag in range(-reach, reach + 1)}
    best = max(sorted(correlations, key=abs), key=correlations.__getitem__)
    peak = _vertex(correlations.get(best - 1), correlations[best], correlations.get(best + 1))
    return best + peak, max(correlations[best], 0.0)


def most_alike_lag(generated: Tensor, target: Tensor, reach: int) -> tuple[int, float]:
    """The lag at which two (T, P) uint8 curves of thumbnails differ least.

    Returns:
        Lag, and 1 − the difference there over the median difference of all lags, 0..1.
    """
    differences = {}
    for lag in sorted(range(-reach, reach + 1), key=abs):
        a, b = _overlap(generated, target, lag)
        if len(a) >= MIN_COMMON:
            differences[lag] = float((a.float() - b.float()).abs().mean())
    if not differences:
        return 0, 0.0
    best = min(differences, key=differences.__getitem__)
    usual = float(torch.tensor(list(differences.values())).median())
    return best, 1 - differences[best] / usual if usual > 0 else 0.0


def _overlap(generated: Tensor, target: Tensor, lag: int) -> tuple[Tensor, Tensor]:
    a, b = generated[max(lag, 0) :], target[max(-lag, 0) :]
    count = min(len(a), len(b))
    return a[:count], b[:count]


def _correlation(a: Tensor, b: Tensor) -> float:
    valid = ~(a.isnan() | b.isnan())
    if int(valid.sum()) < MIN_COMMON:
        return 0.0
    a, b = a[valid] - a[valid].mean(), b[valid] - b[valid].mean()
    powers = float(a.square().mean()), float(b.square().mean())
    return float((a * b).mean()) / math.sqrt(powers[0] * powers[1]) if min(powers) > STILL else 0.0


def _vertex(previous: float | None, best: float, following: float | None) -> float:
    """Peak position, −½..½, of the parabola through a maximum and its two neighbours."""
    if previous is None or following is None:
        return 0.0
    bend = previous - 2 * best + following
    return 0.0 if bend >= -1e-12 else max(-0.5, min(0.5, 0.5 * (previous - following) / bend))
