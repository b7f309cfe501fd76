"""Mouth curves of a clip: the built-in network's outputs, fitted to the clip and to the options."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ...motion.inhalation import REACH, inhalation
from ...motion.options import MotionOptions
from ...motion.smoothing import frame_times_s, one_euro_smoothing, sample_blocks
from ...motion.speaking_gate import speaking_gate
from ...progress import Progress
from ...speech.blocks import every_other, in_blocks, in_step
from ...speech.mel import BLOCK, HOP, iterate_log_mel, level_of_bands, log_mel
from ...speech.voice_activity import SPEECH_BANDS_HZ, activity_and_level, iterate_activity
from ...types import MOUTH_PARAMETERS, MouthCurves, Speech
from .mouth_model import PRESSED, iterate_mouth, load_mouth, run_mouth
from .mouth_net import MelStatistics, MouthNet, measure_mel

log = logging.getLogger(__name__)

_ROUNDING, _PRESS = MOUTH_PARAMETERS.index("rounding"), MOUTH_PARAMETERS.index("press")

OUTPUT_HZ = 50
COLUMNS = len(MOUTH_PARAMETERS) + 1
INHALING_JAW = 0.5  # how far the jaw drops for breath, as a share of the lips' opening
DIGESTED = 24  # blocks of 2.5 s, by which a longer clip is judged
LEAST_SPOKEN = 200  # frames of 10 ms in a digest; one that holds less speech does not stand for its clip
SMOOTHING_S = 4.0  # after so long the smoothing has forgotten what was before
WIDE, CLOSED = 0.88, 0.04  # opening of a clip's widest (97th percentile) and its closed moments (5th) at gain 1
ROUND = 0.75  # rounding of a clip's roundest moments (97th percentile)
MAX_STRETCH = 1.7  # a clip that moves the network little is not made to shout
MIN_SPOKEN = 5  # frames of 10 ms; a clip with fewer rests


def predict_mouth(
    speech: Speech, options: MotionOptions, network: Path | None = None, on_progress: Progress | None = None
) -> MouthCurves:
    """Mouth curves of a clip, one value per video frame.

    Args:
        speech: the clip.
        options: fps, mouth_gain, gain_curve, silence_gate_db, breath, smoothing and offset_ms are used.
        network: a file of `portraittalk train mouth` or `train closures`; None is the built-in network.
        on_progress: called with tenths of seconds processed and in all; may raise to stop.

    Returns:
        ceil(seconds · fps) frames; a clip without a voice rests closed.

    Raises:
        MissingDependency, InputError: `network` is missing or of another kind.
    """
    rows = torch.cat(list(iterate_natural_mouth(speech, options, network, on_progress)))
    return with_gain(with_breath(rows, options.breath), options.gains(len(rows)))


def iterate_natural_mouth(
    speech: Speech, options: MotionOptions, network: Path | None = None, on_progress: Progress | None = None
) -> Iterator[Tensor]:
    """Blocks of `predict_mouth` at gain 1, (n, 8): MOUTH_PARAMETERS without breath, and the opening of an inhalation.

    Of a clip of a minute and less, all is heard first. A longer one is judged by a digest, and heard as it goes on:
    its first block comes when half a minute has been heard.
    """
    net, fps = load_mouth(network), options.fps
    curves = _curves(net, speech, options.silence_gate_db, on_progress)
    if curves is None:
        log.warning("no voice was found in %s: the mouth rests.", speech.source)
        yield torch.zeros(speech.num_frames(fps), COLUMNS)
        return
    times = frame_times_s(speech.num_frames(fps), fps) - options.offset_ms / 1000
    framed = sample_blocks(curves, OUTPUT_HZ, times)
    if options.smoothing > 0:
        reach = math.ceil(SMOOTHING_S * float(fps))
        framed = in_blocks(
            lambda part: one_euro_smoothing(part, fps, options.smoothing), framed, reach, reach, 2 * reach
        )
    yield from framed


@dataclass(frozen=True)
class _Hearing:
    """What a network makes of a clip, and what it is measured against."""

    outputs: Tensor  # (M, 8) at 50 Hz
    activity: Tensor  # (2 M or 2 M − 1,) 0..1 at 100 Hz: whether somebody speaks
    statistics: MelStatistics
    loud: Tensor | None  # () decibels of the voice's level; None where there is none

    @property
    def num_spoken(self) -> int:
        """Frames of 10 ms in which somebody speaks."""
        return int((self.activity > 0.5).sum())

    @cached_property
    def while_speaking(self) -> Tensor:
        """(K, 7) outputs while somebody speaks, of long clips some of them."""
        outputs = self.outputs[:, : len(MOUTH_PARAMETERS)]
        speaking = (self.activity > 0.5)[: 2 * len(outputs) : 2]
        return outputs[speaking][:: max(1, int(speaking.sum()) // 100_000)]

    @cached_property
    def range(self) -> MouthRange:
        """The range of the outputs while somebody speaks."""
        return MouthRange.of(self.while_speaking)

    @cached_property
    def mean_opening(self) -> Tensor:
        """() how far lips are apart while somebody speaks, fitted."""
        return fit_to(self.while_speaking, self.range)[:, 0].mean()

    def fitted(self, outputs: Tensor, gates: Tensor) -> Tensor:
        """(m, 8) curves of (m, 8) outputs at 50 Hz, by (m, 2) columns of `_gates`: see `iterate_natural_mouth`."""
        curves = fit_to(outputs[:, : len(MOUTH_PARAMETERS)], self.range) * gates[:, :1]
        return torch.cat([curves, self.mean_opening * gates[:, 1:]], 1)


def _curves(net: MouthNet, speech: Speech, gate_db: float, on_progress: Progress | None) -> Iterable[Tensor] | None:
    """Blocks of a clip's curves (m, 8) at 50 Hz, fitted and closed where nobody speaks; None where nobody ever does."""
    if len(speech.waveform) > DIGESTED * BLOCK * HOP:
        digest = _hear(net, digest_of(speech), gate_db)
        if digest.num_spoken >= LEAST_SPOKEN:
            return _heard_as_it_goes(net, speech, gate_db, digest, on_progress)
    whole = _hear(net, speech, gate_db, on_progress)
    if whole.num_spoken < MIN_SPOKEN:
        return None
    return [whole.fitted(whole.outputs, _gates(whole.activity)[: 2 * len(whole.outputs) : 2])]


def _gates(activity: Tensor) -> Tensor:
    """(M, 2) at 100 Hz: the speaking gate, and how far lips are parted for breath."""
    return torch.stack([speaking_gate(activity), inhalation(activity)], 1)


def _hear(net: MouthNet, speech: Speech, gate_db: float, on_progress: Progress | None = None) -> _Hearing:
    """A clip heard as a whole."""
    levels: list[Tensor] = []

    def with_levels() -> Iterator[Tensor]:
        for block in blocks:
            levels.append(level_of_bands(block, SPEECH_BANDS_HZ))
            yield block

    blocks: Iterable[Tensor] = _counted(iterate_log_mel(speech), speech, on_progress)
    if len(speech.waveform) <= DIGESTED * BLOCK * HOP:
        blocks = list(blocks)  # small enough to be kept
        statistics = measure_mel(torch.cat(blocks))
    else:
        statistics = measure_mel(log_mel(digest_of(speech)))
    outputs = run_mouth(net, with_levels(), statistics)
    activity, loud = activity_and_level(torch.cat(levels), speech, gate_db)
    return _Hearing(outputs, activity, statistics, loud)


def _heard_as_it_goes(
    net: MouthNet, speech: Speech, gate_db: float, digest: _Hearing, on_progress: Progress | None
) -> Iterator[Tensor]:
    """Blocks of curves (m, 8) of a clip; what is measured of a whole clip is its digest's."""
    mels = itertools.tee(_counted(iterate_log_mel(speech), speech, on_progress))
    levels = (level_of_bands(block, SPEECH_BANDS_HZ) for block in mels[0])
    activity = iterate_activity(levels, speech, gate_db, digest.loud)
    for step in in_step(
        iterate_mouth(net, mels[1], digest.statistics), every_other(in_blocks(_gates, activity, REACH, REACH))
    ):
        yield digest.fitted(*step)


def _counted(mel_blocks: Iterator[Tensor], speech: Speech, on_progress: Progress | None) -> Iterator[Tensor]:
    """The same blocks; tells how many tenths of seconds of a clip have been read."""
    total, done = max(1, len(speech.waveform) // (10 * HOP)), 0
    for block in mel_blocks:
        done += len(block)
        if on_progress:
            on_progress(min(done // 10, total), total)
        yield block


def digest_of(speech: Speech) -> Speech:
    """A minute of a longer clip: pieces of 2.5 s, spread evenly over it, one after another.

    A clip's loudness, its sound and how far its mouth opens are measured on it.
    """
    size = BLOCK * HOP
    starts = torch.linspace(0, len(speech.waveform) - size, DIGESTED).long().tolist()
    return Speech(torch.cat([speech.waveform[start : start + size] for start in starts]), speech.source)


@dataclass(frozen=True)
class MouthRange:
    """What a network makes of somebody's speech, to which its outputs are fitted."""

    low: Tensor  # (2,) opening and jaw at their closest, 5th percentile while speaking
    high: Tensor  # (2,) at their widest, 97th
    rounded: Tensor  # () rounding, 97th

    @staticmethod
    def of(while_speaking: Tensor) -> MouthRange:
        """The range of (M, 7) outputs while somebody speaks, M at least 1."""
        low, high = torch.quantile(while_speaking[:, :2], torch.tensor([0.05, 0.97]), dim=0)
        return MouthRange(low, high, torch.quantile(while_speaking[:, _ROUNDING], 0.97))


def fit_to(outputs: Tensor, range_: MouthRange) -> Tensor:
    """(M, 7) outputs scaled so that a range's widest opens wide and its roundest is round, and limited."""
    stretch = ((WIDE - CLOSED) / (range_.high - range_.low).clamp(min=0.05)).clamp(max=MAX_STRETCH)
    fitted = outputs.clone()
    fitted[:, :2] = (CLOSED + (outputs[:, :2] - range_.low) * stretch).clamp(0, 1.25)
    fitted[:, 2] = outputs[:, 2].clamp(-1, 1)
    fitted[:, 3:] = outputs[:, 3:].clamp(0, 1)
    rounded = range_.rounded.clamp(min=0.1)
    fitted[:, _ROUNDING] = (outputs[:, _ROUNDING] * (ROUND / rounded).clamp(1, MAX_STRETCH)).clamp(0, 1)
    begin, full = PRESSED
    fitted[:, _PRESS] = ((outputs[:, _PRESS] - begin) / (full - begin)).clamp(0, 1)
    return fitted


def with_breath(rows: Tensor, breath: float) -> MouthCurves:
    """Mouth curves whose lips also part for breath.

    Args:
        rows: (T, 8) of `iterate_natural_mouth`.
        breath: 0 not at all, 1 as far as in speech on average.
    """
    mouth, inhaled = MouthCurves(*rows[:, :-1].unbind(1)), breath * rows[:, -1]
    return replace(mouth, opening=mouth.opening.maximum(inhaled), jaw=mouth.jaw.maximum(INHALING_JAW * inhaled))


def with_gain(mouth: MouthCurves, gains: Tensor) -> MouthCurves:
    """Mouth curves scaled by a gain per frame.

    Args:
        mouth: T frames.
        gains: (T,) 0 keeps it closed .. 1 as it is .. 2 exaggerates. Opening and jaw follow all the way, shape up to 1;
            lips that press stay pressed.
    """
    moderate = gains.clamp(max=1)
    factors = {"opening": gains, "jaw": gains, "press": torch.ones_like(gains)}
    return MouthCurves(**{name: getattr(mouth, name) * factors.get(name, moderate) for name in MOUTH_PARAMETERS})
