"""Smoothing and resampling of motion curves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def one_euro(signal: Tensor, fps: Fraction, min_cutoff_hz: float = 1.5, beta: float = 3.0) -> Tensor:
    """One-Euro filter: smooths slow motion strongly and fast motion little, so that it hardly lags.

    Args:
        signal: (T,) or (T, C).
        fps: frames per second.
        min_cutoff_hz: cut-off at rest; lower is smoother.
        beta: how fast the cut-off rises with speed (per unit of the signal per second).

    Returns:
        As `signal`.

    Source: Casiez, Roussel and Vogel, 1 € Filter, CHI 2012.
    """
    return OneEuroFilter(fps, min_cutoff_hz, beta)(signal)


class OneEuroFilter:
    """The One-Euro filter with its state kept, for a signal that arrives piece by piece; arguments as of `one_euro`."""

    def __init__(self, fps: Fraction, min_cutoff_hz: float = 1.5, beta: float = 3.0) -> None:
        self._rate, self._min_cutoff_hz, self._beta = float(fps), min_cutoff_hz, beta
        self._past: np.ndarray | None = None
        self._speed: np.ndarray | None = None

    @classmethod
    def of_strength(cls, fps: Fraction, smoothing: float) -> OneEuroFilter:
        """A filter whose two parameters follow one strength, see `one_euro_smoothing`."""
        return cls(fps, *_one_euro_parameters(smoothing))

    def __call__(self, signal: Tensor) -> Tensor:
        """The next (T,) or (T, C) values, filtered."""
        values = signal.double().numpy().reshape(len(signal), -1)
        out = np.empty_like(values)
        if self._past is None and len(values):
            self._past, self._speed = values[0], np.zeros_like(values[0])
        past, speed, rate = self._past, self._speed, self._rate
        speed_factor = _smoothing_factor(1.0, rate)
        for i, value in enumerate(values):
            speed = speed + speed_factor * ((value - past) * rate - speed)
            past = past + _smoothing_factor(self._min_cutoff_hz + self._beta * np.abs(speed), rate) * (value - past)
            out[i] = past
        self._past, self._speed = past, speed
        return torch.from_numpy(out.reshape(signal.shape)).to(signal.dtype)


def zero_phase_one_euro(signal: Tensor, fps: Fraction, min_cutoff_hz: float = 1.5, beta: float = 3.0) -> Tensor:
    """One-Euro smoothing without lag: the mean of a run forward and a run backward in time.

    Args:
        signal: (T,) or (T, C), the whole of it.
        fps: as for `one_euro`, like the rest.
        min_cutoff_hz: cut-off at rest.
        beta: how fast the cut-off rises with speed.

    Returns:
        As `signal`.
    """
    backward = one_euro(signal.flip(0), fps, min_cutoff_hz, beta).flip(0)
    return (one_euro(signal, fps, min_cutoff_hz, beta) + backward) / 2


def one_euro_smoothing(signal: Tensor, fps: Fraction, smoothing: float) -> Tensor:
    """One-Euro smoothing without lag whose two parameters follow one strength.

    Args:
        signal: (T,) or (T, C), of about unit size.
        fps: frames per second.
        smoothing: 0 changes hardly anything .. 1 strong.
    """
    return zero_phase_one_euro(signal, fps, *_one_euro_parameters(smoothing))


def _one_euro_parameters(smoothing: float) -> tuple[float, float]:
    """Cut-off at rest in Hz, and beta."""
    responsiveness = 1 - smoothing
    return 14.0 * responsiveness**2 + 1.0, 10.0 * responsiveness + 1.0


def _smoothing_factor(cutoff_hz: float | np.ndarray, rate: float) -> float | np.ndarray:
    """Alpha of an exponential filter with this cut-off at `rate` samples a second."""
    turn = 2 * math.pi * cutoff_hz / rate
    return turn / (turn + 1)


def gaussian_smoothing(signal: Tensor, sigma: float) -> Tensor:
    """(T,) convolved with a Gaussian of `sigma` frames; the ends are padded by repetition."""
    kernel = gaussian_kernel(sigma)
    reach = len(kernel) // 2
    padded = F.pad(signal[None, None].float(), (reach, reach), mode="replicate")
    return F.conv1d(padded, kernel[None, None])[0, 0]


def gaussian_kernel(sigma: float) -> Tensor:
    """(2 R + 1,) weights of a Gaussian of `sigma` frames, which sum to 1; R is three times sigma, rounded up."""
    reach = max(1, math.ceil(3 * sigma))
    at = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (at / max(sigma, 1e-6)) ** 2)
    return kernel / kernel.sum()


def sample_at(signal: Tensor, rate_hz: float, times_s: Tensor) -> Tensor:
    """(T,) values of an (M,) signal, sample i at i / rate_hz, at times in seconds; linear between, held outside."""
    at = (times_s.double() * rate_hz).clamp(0, len(signal) - 1)
    lower = at.floor().long().clamp(max=max(len(signal) - 2, 0))
    share = (at - lower).to(signal.dtype)
    upper = (lower + 1).clamp(max=len(signal) - 1)
    return signal[lower] + share * (signal[upper] - signal[lower])


def sample_blocks(blocks: Iterable[Tensor], rate_hz: float, times_s: Tensor) -> Iterator[Tensor]:
    """`sample_at` of a signal in blocks (m, C) at (T,) times, ascending: (n, C) blocks, together (T, C)."""
    times, buffered, first = times_s.double() * rate_hz, None, 0  # times as places; `buffered` begins at sample `first`
    for block in itertools.chain(blocks, [None]):
        buffered = block if buffered is None else buffered if block is None else torch.cat([buffered, block])
        last = first + len(buffered) - 1
        # a place between two samples needs both; what lies beyond the signal, its end
        count = len(times) if block is None else int(torch.searchsorted(times, float(last)))
        if not count:
            continue
        at = times[:count].clamp(0, last)
        lower = at.floor().long().clamp(max=max(last - 1, 0))
        share = (at - lower).to(buffered.dtype)[:, None]
        upper = (lower + 1).clamp(max=last)
        yield buffered[lower - first] + share * (buffered[upper - first] - buffered[lower - first])
        spare = max(0, min(int(lower[-1]), last - 1) - first)
        buffered, first, times = buffered[spare:], first + spare, times[count:]


def frame_times_s(num_frames: int, fps: Fraction) -> Tensor:
    """(T,) the middle of each video frame's time, seconds."""
    return (torch.arange(num_frames, dtype=torch.float64) + 0.5) / float(fps)


def smooth_step(x: Tensor) -> Tensor:
    """Smooth step: 0 below 0, 1 above 1, and 3 x² − 2 x³ between them."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)
