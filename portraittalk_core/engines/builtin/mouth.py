"""Mouth curves of a clip: the built-in network's outputs, fitted to the clip and to the options."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...motion.options import MotionOptions
from ...motion.smoothing import frame_times_s, one_euro_smoothing, sample_at
from ...motion.speaking_gate import speaking_gate
from ...progress import Progress
from ...speech.mel import BLOCK, HOP, iterate_log_mel, level_of_bands
from ...speech.voice_activity import SPEECH_BANDS_HZ, activity_of_levels
from ...types import MOUTH_PARAMETERS, MouthCurves, Speech
from .mouth_model import load_mouth, run_mouth
from .mouth_net import MelStatistics, MouthNet, measure_mel

log = logging.getLogger(__name__)

_ROUNDING, _PRESS = MOUTH_PARAMETERS.index("rounding"), MOUTH_PARAMETERS.index("press")

OUTPUT_HZ = 50
MEASURED_BLOCKS = 24  # of 2.5 s: the part of a long clip whose statistics count for all of it
WIDE, CLOSED = 0.88, 0.04  # opening of a clip's widest (97th percentile) and its closed moments (5th) at gain 1
ROUND = 0.75  # rounding of a clip's roundest moments (97th percentile)
MAX_STRETCH = 1.7  # a clip that moves the network little is not made to shout
PRESSED = (0.15, 0.5)  # the network's press at which lips begin to meet, and meet: half a closure is none
MIN_SPOKEN = 5  # frames of 10 ms; a clip with fewer rests


def predict_mouth(
    speech: Speech, options: MotionOptions, network: Path | None = None, on_progress: Progress | None = None
) -> MouthCurves:
    """Mouth curves of a clip, one value per video frame.

    Args:
        speech: the clip.
        options: fps, mouth_gain, gain_curve, silence_gate_db, smoothing and offset_ms are used.
        network: a file that `portraittalk train mouth` wrote; None is the built-in network.
        on_progress: called with tenths of seconds processed and in all; may raise to stop.

    Returns:
        ceil(seconds · fps) frames; a clip without a voice rests closed.

    Raises:
        MissingDependency, InputError: `network` is missing or of another kind.
    """
    net = load_mouth(network)
    num_frames = speech.num_frames(options.fps)
    outputs, activity = _run_network(net, speech, options.silence_gate_db, on_progress)
    spoken = activity > 0.5
    if int(spoken.sum()) < MIN_SPOKEN:
        log.warning("no voice was found in %s: the mouth rests.", speech.source)
        return MouthCurves.closed(num_frames)
    curves = _fit(outputs[:, : len(MOUTH_PARAMETERS)], spoken) * speaking_gate(activity)[: 2 * len(outputs) : 2, None]
    times = frame_times_s(num_frames, options.fps) - options.offset_ms / 1000
    framed = torch.stack([sample_at(curve, OUTPUT_HZ, times) for curve in curves.T], 1)
    if options.smoothing > 0:
        framed = one_euro_smoothing(framed, options.fps, options.smoothing)
    natural = MouthCurves(*framed.unbind(1))
    return with_gain(natural, options.gains(num_frames))


def _run_network(
    net: MouthNet, speech: Speech, gate_db: float, on_progress: Progress | None = None
) -> tuple[Tensor, Tensor]:
    """The network's outputs, (M, 8) at 50 Hz, and voice activity, (2 M or 2 M − 1,) 0..1 at 100 Hz."""
    levels: list[Tensor] = []
    total = max(1, len(speech.waveform) // (10 * HOP))

    def with_levels() -> Iterator[Tensor]:
        for block in blocks:
            levels.append(level_of_bands(block, SPEECH_BANDS_HZ))
            if on_progress:
                on_progress(min(len(levels) * BLOCK // 10, total), total)
            yield block

    if len(speech.waveform) <= MEASURED_BLOCKS * BLOCK * HOP:
        blocks = list(iterate_log_mel(speech))  # small enough to be kept
        statistics = measure_mel(torch.cat(blocks))
    else:
        blocks = iterate_log_mel(speech)
        statistics = _sampled_statistics(speech)
    outputs = run_mouth(net, with_levels(), statistics)
    return outputs, activity_of_levels(torch.cat(levels), speech, gate_db)


def _sampled_statistics(speech: Speech) -> MelStatistics:
    """Mel statistics of blocks spread evenly over a long clip."""
    size = BLOCK * HOP
    starts = torch.linspace(0, len(speech.waveform) - size, MEASURED_BLOCKS).long().tolist()
    pieces = (Speech(speech.waveform[start : start + size]) for start in starts)
    return measure_mel(torch.cat([block for piece in pieces for block in iterate_log_mel(piece)]))


def _fit(outputs: Tensor, spoken: Tensor) -> Tensor:
    """(M, 7) outputs within their ranges; opening and jaw scaled so that the clip's loudest vowels open wide."""
    speaking = spoken[: 2 * len(outputs) : 2]
    return fit_to(outputs, MouthRange.of(outputs[speaking][:: max(1, int(speaking.sum()) // 100_000)]))


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
