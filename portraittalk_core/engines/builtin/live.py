"""Motion from speech that arrives piece by piece: every frame is final, and late by a fixed time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ...motion.blink import CLOSE_S, OPEN_S, SHUT_S, blink_starts_s, closure
from ...motion.expression import timeline_of
from ...motion.head import HeadDrift
from ...motion.life import Life
from ...motion.options import MotionOptions
from ...motion.rig import make_rig, plan_landmarks
from ...motion.smoothing import OneEuroFilter
from ...motion.speaking_gate import speaking_gate
from ...motion.stress import BROW_SHARE, BROW_SLOW_S, PHRASE_S, SYLLABLE_S
from ...motion.style_factors import own_smile, style_factors, styled_mouth
from ...speech.mel import HOP, level_of_bands
from ...speech.voice_activity import SILENT_DB, SPEECH_BANDS_HZ, LiveVoiceGate, present_levels
from ...speech.voice_network import WINDOW
from ...types import MOUTH_PARAMETERS, SPEECH_RATE_HZ, LandmarkTrack, MotionPlan, MouthCurves
from .mouth import OUTPUT_HZ, MouthRange, fit_to, with_gain
from .mouth_model import LiveMouth, load_mouth

REMEMBERED = 20 * OUTPUT_HZ  # outputs while somebody speaks, whose range counts
ROUGH = 1 * OUTPUT_HZ  # outputs at the beginning that do not count, since the sound's statistics are rough
FAMILIAR = 2 * OUTPUT_HZ  # after so many the speaker's own range counts as much as the usual one
USUAL = MouthRange(torch.tensor([0.10, 0.14]), torch.tensor([0.68, 0.72]), torch.tensor(0.45))  # of the sample speech
BLINK_S = CLOSE_S + SHUT_S + OPEN_S


class LivePlanner:
    """The landmarks of a face that says what is being heard.

    Mouth, gate, blinks and head are the built-in engine's, with what has been heard so far in the place of the whole
    clip: the speaker's range and loudness are learnt within the first seconds.

    Args:
        reference: one frame: the face at rest.
        options: all but the gain curve count; `offset_ms` may only be positive, and delays the mouth.
        network: a file of `portraittalk train mouth` or `train closures`; None is the built-in network.
    """

    def __init__(
        self, reference: LandmarkTrack, options: MotionOptions | None = None, network: Path | None = None
    ) -> None:
        self.options = options or MotionOptions()
        self._reference, self._rig = reference, make_rig(reference)
        self._mouth = LiveMouth(load_mouth(network))
        self._factors = style_factors(self.options, own_smile(reference))
        self._spoken = torch.empty(0, len(MOUTH_PARAMETERS))
        self._gate = LiveVoiceGate()
        self._voices = torch.empty(0)  # 0 or 1 of every window of sound; the first is window `_forgotten`
        self._forgotten = self._answered = 0  # windows that have been dropped, frames of 10 ms that have been answered
        self._curves = torch.empty(0, len(MOUTH_PARAMETERS))  # at 50 Hz; the first is output `_first`
        self._first = self._done = 0  # outputs that have been dropped, frames that have been planned
        fps, strength = self.options.fps, self.options.smoothing
        self._smooth = OneEuroFilter.of_strength(fps, strength) if strength > 0 else None
        self._syllable, self._phrase, self._brow = (
            _Average(s, float(fps)) for s in (SYLLABLE_S, PHRASE_S, BROW_SLOW_S)
        )
        self._starts = blink_starts_s(self._factors.blink_rate, self.options.seed)
        self._blinks: list[float] = [next(self._starts, float("inf"))]
        factors = self._factors
        self._expression = timeline_of(self.options)
        self._head = HeadDrift(self.options.seed, factors.head, factors.head_shift, factors.head_pace)
        self._life = Life(self.options, reference, factors)

    @property
    def latency_s(self) -> float:
        """How much sound after a frame's own moment must have been heard before it is planned, at most."""
        return LiveMouth.latency_s + 1 / OUTPUT_HZ + self.options.offset_ms / 1000

    def push(self, waveform: Tensor) -> LandmarkTrack | None:
        """Listen to the next samples.

        Args:
            waveform: (N,) at 16 kHz, any number.

        Returns:
            The next frames; None if too little sound has arrived.
        """
        self._voices = torch.cat([self._voices, self._gate.push(waveform)])
        outputs = self._mouth.push(waveform)
        if len(outputs):
            self._curves = torch.cat([self._curves, self._gated(outputs)])
        rate, late_s = float(self.options.fps), self.options.offset_ms / 1000
        last = self._first + len(self._curves) - 1  # the newest output's number
        count = max(0, int((last / OUTPUT_HZ + late_s) * rate - 0.5 + 1e-9) + 1 - self._done) if last >= 0 else 0
        return self._planned(count) if count else None

    def flush(self) -> Iterator[LandmarkTrack]:
        """The frames of the sound that has been heard and not been answered yet, as if silence followed."""
        silence = torch.zeros(round(self.latency_s * SPEECH_RATE_HZ))
        if (track := self.push(silence)) is not None:
            yield track

    def _gated(self, outputs: Tensor) -> Tensor:
        """(K, 7) curves of the next outputs, fitted to the speaker, and closed where nobody speaks."""
        mel, span = self._mouth.mel_history()
        voice = self._voice_of(mel, span)
        levels = level_of_bands(mel, SPEECH_BANDS_HZ)
        voiced = (voice > 0) & (levels.amax(1) > SILENT_DB)
        activity = present_levels(levels, voiced, self.options.silence_gate_db) * voice
        curves = outputs[:, : len(MOUTH_PARAMETERS)]
        if self._first + len(self._curves) >= ROUGH:
            self._spoken = torch.cat([self._spoken, curves[activity[span][::2] > 0.5]])[-REMEMBERED:]
        return fit_to(curves, self._range()) * speaking_gate(activity)[span][::2, None]

    def _voice_of(self, mel: Tensor, span: slice) -> Tensor:
        """(M,) 0 or 1 for every 10 ms that is remembered: whether somebody speaks."""
        self._answered += span.stop - span.start
        first = self._answered - span.stop  # number of the first frame that is remembered
        windows = torch.arange(first, first + len(mel)) * HOP // WINDOW
        voice = self._voices[(windows - self._forgotten).clamp(max=len(self._voices) - 1)]
        spare = int(windows[0]) - self._forgotten
        self._voices, self._forgotten = self._voices[spare:], self._forgotten + spare
        return voice

    def _range(self) -> MouthRange:
        """The speaker's range, mixed with the usual one while little has been heard."""
        count = len(self._spoken)
        if count < OUTPUT_HZ // 5:
            return USUAL
        own, share = MouthRange.of(self._spoken), count / (count + FAMILIAR)
        return MouthRange(
            *(torch.lerp(getattr(USUAL, name), getattr(own, name), share) for name in ("low", "high", "rounded"))
        )

    def _planned(self, count: int) -> LandmarkTrack:
        rate = float(self.options.fps)
        times = (torch.arange(self._done, self._done + count, dtype=torch.float64) + 0.5) / rate
        self._done += count
        natural = self._framed(times)
        mouth = with_gain(styled_mouth(natural, self._factors), torch.full((count,), self.options.mouth_gain))
        stress = (self._syllable(natural.opening) - self._phrase(natural.opening)).clamp(-0.5, 0.8)
        brow = self._brow((stress - 0.1).clamp(min=0) * BROW_SHARE / 0.3).clamp(0, 1) * self._factors.brow
        life = self._life.next(times, natural, self._head.at(times, stress))
        plan = MotionPlan(
            self._reference, mouth, self._lids(times), brow, life.head, self.options.fps,
            self._factors.smile, self._expression.at(times), life.gaze, life.shoulders,
        )  # fmt: skip
        return plan_landmarks(plan, rig=self._rig)

    def _framed(self, times_s: Tensor) -> MouthCurves:
        """The curves at times, and forgets those before them."""
        at = ((times_s - self.options.offset_ms / 1000) * OUTPUT_HZ).clamp(min=0) - self._first
        lower = at.floor().long().clamp(0, len(self._curves) - 1)
        upper = (lower + 1).clamp(max=len(self._curves) - 1)
        framed = torch.lerp(self._curves[lower], self._curves[upper], (at - lower).float().clamp(0, 1)[:, None])
        spare = int(lower[-1])
        self._curves, self._first = self._curves[spare:], self._first + spare
        return MouthCurves(*(self._smooth(framed) if self._smooth else framed).unbind(1))

    def _lids(self, times_s: Tensor) -> Tensor:
        while self._blinks[-1] < float(times_s[-1]):
            self._blinks.append(next(self._starts))
        length = self._factors.blink_time * BLINK_S
        self._blinks = [start for start in self._blinks if start + length > float(times_s[0])]
        shut = torch.stack([closure(times_s - start, self._factors.blink_time) for start in self._blinks])
        return shut.amax(0).float()


class _Average:
    """Exponential average of a signal at a rate, whose delay is that of a Gaussian's deviation."""

    def __init__(self, seconds: float, rate: float) -> None:
        self._share = 1 / (1 + seconds * rate)
        self._value = 0.0

    def __call__(self, signal: Tensor) -> Tensor:
        values = []
        for value in signal.tolist():
            self._value += self._share * (value - self._value)
            values.append(self._value)
        return torch.tensor(values)
