"""Timeline data of a track as compact JSON: waveform, curves and a face contour."""

from __future__ import annotations

import base64

import torch
from torch import Tensor

from ..checks import check_finite, check_shape
from ..face import topology as topo
from ..face.geometry import eye_open, mouth_open
from ..motion.smoothing import frame_times_s
from ..types import LandmarkTrack, Speech

VERSION = 1
MAX_PEAKS = 2000
MAX_CURVE_POINTS = 2000
MAX_FACES = 600
MIN_OPEN = 0.15  # eye_open below this counts as shut whatever the rest of the clip does
INT8_MAX, INT16_MAX = 127, 32_767


def _closed(chain: tuple[int, ...]) -> tuple[int, ...]:
    return (*chain, chain[0])


SKIN = (
    _closed(topo.FACE_OVAL),
    topo.RIGHT_BROW[:5],
    topo.LEFT_BROW[:5],
    _closed((*topo.RIGHT_UPPER_LID, *topo.RIGHT_LOWER_LID[-2:0:-1])),
    _closed((*topo.LEFT_UPPER_LID, *topo.LEFT_LOWER_LID[-2:0:-1])),
)
LIPS = (
    _closed((*topo.OUTER_UPPER_LIP, *topo.OUTER_LOWER_LIP[-2:0:-1])),
    _closed((*topo.INNER_UPPER_LIP, *topo.INNER_LOWER_LIP[-2:0:-1])),
)
IRISES = (topo.RIGHT_IRIS[0], topo.LEFT_IRIS[0])
SENT_POINTS = tuple(sorted({point for chain in (*SKIN, *LIPS, IRISES) for point in chain}))  # landmarks that are sent


def timeline_payload(track: LandmarkTrack, speech: Speech | None = None, gain: Tensor | None = None) -> dict:
    """A track as numbers and text that JSON takes, below 1.5 MB whatever its length.

    Curves of more than 2000 frames are cut into 2000 spans and tell of each its largest value (of the gain: the mean),
    so that no blink and no opening is lost. The stick figure is given for at most 600 frames, evenly spread, both ends
    included.

    Args:
        track: T frames.
        speech: what is said, for its waveform.
        gain: (T,) the gain of every frame that the track was made with; None is 1 throughout.

    Returns:
        `seconds`, `fps`, `frames`; `wave` (None, or `seconds`, `low`, `high`: −127..127 of the loudest sample);
        `curves` (`times` in seconds; `mouth`: inner-lip gap over inter-ocular distance; `blink`: 0 open .. 1 shut;
        `gain`); `face` (`times`; `points` a frame; `xy`: base64 of little-endian int16, x and y of every point, frame
        by frame, 0..`width` and 0..`height`; `skin` and `lips`: pairs of points to join; `irises`: two points).

    Raises:
        ShapeError: `gain` has another length than the track.
    """
    count = len(track)
    gains = torch.ones(count) if gain is None else check_finite(check_shape(gain, f"{count}", "the gain"), "the gain")
    times = frame_times_s(count, track.fps)
    edges = _edges(count, MAX_CURVE_POINTS)
    return {
        "version": VERSION,
        "seconds": round(track.seconds, 4),
        "fps": round(float(track.fps), 4),
        "frames": count,
        "wave": None if speech is None else _wave(speech),
        "curves": {
            "times": _rounded(_means(times, edges), 3),
            "mouth": _rounded(_largest(mouth_open(track), edges), 4),
            "blink": _rounded(_largest(eye_closure(track), edges), 3),
            "gain": _rounded(_means(gains, edges), 3),
        },
        "face": _faces(track),
    }


def eye_closure(track: LandmarkTrack) -> Tensor:
    """(T,) eye closure, mean of both eyes: 0 open as usual in this track .. 1 shut."""
    height = eye_open(track)
    usual = height.median().clamp(min=MIN_OPEN)
    return (1 - height / usual).clamp(0, 1)


def _edges(count: int, max_spans: int) -> list[int]:
    """Edges of at most `max_spans` non-empty spans that cover `count` entries."""
    spans = min(count, max_spans)
    return [index * count // spans for index in range(spans + 1)]


def _largest(values: Tensor, edges: list[int]) -> Tensor:
    return torch.stack([values[a:b].max() for a, b in zip(edges, edges[1:], strict=False)])


def _means(values: Tensor, edges: list[int]) -> Tensor:
    return torch.stack([values[a:b].mean() for a, b in zip(edges, edges[1:], strict=False)])


def _rounded(values: Tensor, digits: int) -> list[float]:
    return [round(value, digits) for value in values.tolist()]


def _wave(speech: Speech) -> dict:
    edges = _edges(speech.waveform.numel(), MAX_PEAKS)
    low, high = -_largest(-speech.waveform, edges), _largest(speech.waveform, edges)
    unit = torch.maximum(-low.min(), high.max()).clamp(min=1e-4)  # below −80 dB nothing is drawn large
    ends = {"low": low, "high": high}
    scaled = {name: (end / unit * INT8_MAX).round().int().tolist() for name, end in ends.items()}
    return {"seconds": round(speech.seconds, 4), **scaled}


def _faces(track: LandmarkTrack) -> dict:
    frames = torch.linspace(0, len(track) - 1, min(len(track), MAX_FACES), dtype=torch.float64).round().long()
    scale = torch.tensor([track.width, track.height], dtype=torch.float32)
    points = track.points[frames][:, list(SENT_POINTS), :2] * scale
    low, high = points.amin((0, 1)), points.amax((0, 1))
    unit = INT16_MAX / float((high - low).max().clamp(min=1e-3))
    quantised = ((points - low) * unit).round().clamp(0, INT16_MAX).short()
    width, height = ((high - low) * unit).round().int().tolist()
    place = {point: index for index, point in enumerate(SENT_POINTS)}

    def pairs(chains: tuple[tuple[int, ...], ...]) -> list[list[int]]:
        return [[place[a], place[b]] for chain in chains for a, b in zip(chain, chain[1:], strict=False)]

    return {
        "times": _rounded(frame_times_s(len(track), track.fps)[frames], 3),
        "points": len(SENT_POINTS),
        "width": width,
        "height": height,
        "xy": base64.b64encode(quantised.numpy().astype("<i2").tobytes()).decode("ascii"),
        "skin": pairs(SKIN),
        "lips": pairs(LIPS),
        "irises": [place[point] for point in IRISES],
    }
