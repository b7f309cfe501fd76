"""Whether lips do what single sounds ask for: close on p, b, m, tuck on f, v, part in vowels, rest in short pauses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...types import MouthCurves
from .phones import SILENCE, SOUNDS
from .trajectories import Sounds

CLOSED = 0.1  # of the clip's range of parting, 1st to 99th percentile
TUCKED = 0.4
AT_REST = 0.2  # of the clip's range, in the middle of a short pause
SHORT_PAUSE_S = (0.1, 0.2)
BILABIALS, LABIODENTALS = ("p", "b", "m"), ("f", "v")
PARTED = tuple(symbol for symbol, sound in SOUNDS.items() if sound.vowel and sound.targets[0] >= 0.25)  # not u y ʊ ʏ


@dataclass
class Closures:
    """For every sound of a kind, whether lips do it; clips add up."""

    bilabials: list[bool] = field(default_factory=list)  # closed
    labiodentals: list[bool] = field(default_factory=list)  # tucked
    vowels_closed: list[bool] = field(default_factory=list)  # by mistake
    vowels_tucked: list[bool] = field(default_factory=list)  # by mistake
    pauses: list[bool] = field(default_factory=list)  # at rest in a short pause

    def share(self, name: str) -> float:
        """Share of a kind's sounds, 0..1; not a number if there is none."""
        values = getattr(self, name)
        return sum(values) / len(values) if values else float("nan")


def closed_frames(parting: Tensor) -> Tensor:
    """(T,) bool of a (T,) lip gap of any unit: lips closed, within the clip's own range."""
    return _within_range(parting) < CLOSED


def add_closures(total: Closures, mouth: MouthCurves, times_s: Tensor, sounds: Sounds, within_s: float) -> None:
    """Add the sounds of a clip to a total.

    Args:
        total: is changed.
        mouth: T frames.
        times_s: (T,) moments of the frames.
        sounds: what is said and when.
        within_s: a closure or tuck counts within this of the sound's middle; vowels and pauses count in their middle.
    """
    add_gap(total, mouth.parting, times_s, sounds, within_s)
    tucked = mouth.tuck > TUCKED
    for symbol, middle, _ in spans(sounds, float(times_s[-1])):
        if symbol in LABIODENTALS:
            total.labiodentals.append(_any(tucked, times_s, middle, within_s))
        elif symbol in PARTED:
            total.vowels_tucked.append(_any(tucked, times_s, middle, 0.0))


def add_gap(total: Closures, gap: Tensor, times_s: Tensor, sounds: Sounds, within_s: float) -> None:
    """As `add_closures`, from a (T,) lip gap alone, as landmarks measure it; nothing is known of tucked lips."""
    part = _within_range(gap)
    for symbol, middle, length in spans(sounds, float(times_s[-1])):
        if symbol in BILABIALS:
            total.bilabials.append(_any(part < CLOSED, times_s, middle, within_s))
        elif symbol in PARTED:
            total.vowels_closed.append(_any(part < CLOSED, times_s, middle, 0.0))
        elif symbol == SILENCE and SHORT_PAUSE_S[0] <= length <= SHORT_PAUSE_S[1]:
            total.pauses.append(_any(part < AT_REST, times_s, middle, length / 4))


def spans(sounds: Sounds, until_s: float) -> Iterable[tuple[str, float, float]]:
    """Symbol, middle and length in seconds of every sound whose middle lies within a clip."""
    for symbol, start, end in zip(sounds.symbols, sounds.start_s, sounds.end_s, strict=True):
        if (middle := float(start + end) / 2) <= until_s:
            yield symbol, middle, float(end - start)


def _within_range(gap: Tensor) -> Tensor:
    low, high = torch.quantile(gap, torch.tensor([0.01, 0.99], dtype=gap.dtype))
    return (gap - low) / (high - low).clamp(min=1e-3)


def _any(flags: Tensor, times_s: Tensor, middle_s: float, within_s: float) -> bool:
    """Whether a flag is set within a time of a moment, or in the frame nearest to it."""
    away = (times_s - middle_s).abs()
    return bool(flags[(away <= within_s) | (away == away.min())].any())
