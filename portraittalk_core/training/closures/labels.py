"""Classes of sounds at every 10 ms: of lips, the closure before a burst, not the breath after it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...engines.builtin.closure_net import CLASSES, NASAL, SILENT, STOP
from ..mouth.phones import SILENCE
from ..mouth.trajectories import Sounds

FRAME_S = 0.01
IGNORED = -1  # no class: lips may be closed or open
AROUND, LEAST_FRAMES, AFTER_SILENCE = 2, 4, 7  # frames beside a stop in which its burst is sought; of a closure
MOST_FRAMES = 12  # of a closure: before it lies a pause that the aligner took for a part of the stop
BURST_DB = 6.0  # within two frames: a stop that rises less has none
CLASS_OF = {symbol: number for number, symbols in enumerate(CLASSES) for symbol in symbols or (SILENCE,)}


def frame_classes(sounds: Sounds, mel: Tensor) -> Tensor:
    """(M,) number of the class of every frame, or IGNORED.

    A closure of p and b lasts to the burst, and after silence, where nothing of it is heard, 70 ms.

    Args:
        sounds: what is said and when.
        mel: (M, 80) decibels.
    """
    count = len(mel)
    times = np.arange(count) * FRAME_S
    classes = np.full(count, SILENT)
    spans = list(zip(sounds.symbols, sounds.start_s, sounds.end_s, strict=True))
    for symbol, start, end in spans:
        classes[(times >= start) & (times < end)] = CLASS_OF[symbol]
    level = mel.float()[:, 8:].mean(1).numpy()
    for (symbol, start, end), previous in zip(spans, (SILENCE, *sounds.symbols), strict=False):
        first, last = round(start / FRAME_S), int(end / FRAME_S)
        if symbol in CLASSES[STOP] and last < count - 2 and first >= LEAST_FRAMES:
            burst = burst_frame(level, first - AROUND, last + AROUND + 1)
            if burst is None:
                continue
            if previous == SILENCE:
                first = min(first, burst - AFTER_SILENCE)
            first = max(0, min(first, burst - LEAST_FRAMES))
            classes[first : burst + 1] = STOP
            classes[first : max(first, burst - MOST_FRAMES)] = IGNORED
            classes[burst + 1 : max(last, burst + 2)] = IGNORED
        elif symbol == "m" and 0 < first <= count:
            classes[first - 1] = NASAL
    return torch.from_numpy(classes)


def burst_frame(level: np.ndarray, first: int, last: int) -> int | None:
    """The frame of a (M,) level in decibels about which it rises most; None where it hardly rises."""
    first, last = max(1, first), min(last, len(level) - 1)
    rise = level[first + 1 : last + 1] - level[first - 1 : last - 1]
    return None if len(rise) == 0 or rise.max() <= BURST_DB else first + int(rise.argmax())
