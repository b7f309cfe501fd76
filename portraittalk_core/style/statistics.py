"""Style statistics of a landmark track: eleven measures of mouth, blinks, head and brows.

Nothing is learnt here, so that this kind of style needs no weights.
Shapes: T frames, W windows, D = 11 numbers in the order of `types.STYLE_STATISTICS`.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from ..errors import InputError
from ..face import topology as topo
from ..face.curve_statistics import HEAD_SIGMA_S, blink_durations_s, gaussian_smoothed, swing_frequency
from ..face.geometry import eye_open, head_pose, smile, stabilised
from ..types import STYLE_STATISTICS, LandmarkTrack, StyleStatistics

WINDOW_S, HOP_S = 4.0, 2.0
MIN_S = 1.0  # a shorter track is too short for style statistics
SIGMA_S = 0.04  # of the Gaussian over curves other than the head's, against a detector's jitter
BROWS = (105, 334)  # the middle of each


def measure_statistics(track: LandmarkTrack, window_s: float = WINDOW_S, hop_s: float = HOP_S) -> Tensor:
    """Style statistics of a track in sliding windows.

    What differs between faces at rest, such as the mouth's width, is taken out as far as it can be known; the rest
    pose of the mouth's corners is taken against a plain face.

    Args:
        track: T frames; those without a face are left out.
        window_s: length of a window, seconds; a shorter track is one window.
        hop_s: from one to the next.

    Returns:
        (W, 11) as `types.STYLE_STATISTICS` names them.

    Raises:
        InputError: shorter than a second, or a face in less than half of the frames.
    """
    if track.seconds < MIN_S:
        raise InputError(f"the track lasts {track.seconds:.2f} s; a style needs {MIN_S:.0f} s or more of speech.")
    if 2 * int(track.valid.sum()) < len(track):
        counted = f"{int(track.valid.sum())} of {len(track)} frames"
        raise InputError(
            f"a face is seen in {counted}; a style needs one in most; choose another part or another face."
        )
    curves = _curves(track)
    rate, valid = float(track.fps), track.valid
    size = min(len(track), max(2, round(window_s * rate)))
    starts = range(0, len(track) - size + 1, max(1, round(hop_s * rate)))
    windows = [slice(s, s + size) for s in starts if 2 * int(valid[s : s + size].sum()) >= size] or [slice(None)]
    blinks = _blinks(curves["lids"], valid, track.fps)
    parts = [({name: curve[part] for name, curve in curves.items()}, valid[part]) for part in windows]
    return torch.stack([_window(*part, blinks, rate) for part in parts])


def to_statistics(numbers: Tensor, strength: float = 1.0) -> StyleStatistics:
    """Style statistics of values (11,), as sampled from a style; values that cannot be negative are clamped at 0."""
    values = {name: float(value) for name, value in zip(STYLE_STATISTICS, numbers, strict=True)}
    return StyleStatistics(**{k: v if k == "smile" else max(v, 0.0) for k, v in values.items()}, strength=strength)


def to_numbers(style_statistics: StyleStatistics) -> Tensor:
    """(11,) values of style statistics, without the strength."""
    return torch.tensor([getattr(style_statistics, name) for name in STYLE_STATISTICS])


def _curves(track: LandmarkTrack) -> dict[str, Tensor]:
    """Measured curves by frame: (T,) each, the head's (T, 3)."""
    local = stabilised(track.points_px)
    right_corner, left_corner = (local[:, corner] for corner in topo.MOUTH_CORNERS)
    mouth_width = (left_corner - right_corner).norm(dim=1)
    lids = eye_open(track)
    gap = local[:, topo.INNER_LIP_BOTTOM, 1] - local[:, topo.INNER_LIP_TOP, 1]
    pose = head_pose(track)
    curves = {
        "gap": gap / mouth_width.median(),
        "apart": mouth_width,
        "smile": smile(local),
        "brows": -local[:, list(BROWS), 1].mean(1),
        "angles": pose.angles_deg,
        "place": pose.translation,
    }
    sigma_s = {"angles": HEAD_SIGMA_S, "place": HEAD_SIGMA_S}
    rate = float(track.fps)
    smooth = {name: gaussian_smoothed(curve, sigma_s.get(name, SIGMA_S) * rate) for name, curve in curves.items()}
    return {**smooth, "lids": lids}


def _window(curves: dict[str, Tensor], valid: Tensor, blinks: tuple[float, float], rate: float) -> Tensor:
    gap, width, corners, brows = (curves[name][valid] for name in ("gap", "apart", "smile", "brows"))
    low, high = _quantiles(gap, 0.1, 0.9)
    narrow, middle, wide = _quantiles(width, 0.1, 0.5, 0.9)
    lowered, raised = _quantiles(brows, 0.1, 0.9)
    angles = curves["angles"][valid]
    deviation = angles.std(0, correction=0).square().mean().sqrt()
    position = curves["place"][valid][:, :2].std(0, correction=0).square().mean().sqrt()
    at_rest = corners[gap <= gap.median()].median()  # an open mouth pulls its corners down
    return torch.stack(
        [high - low, low.clamp(min=0), wide - middle, middle - narrow, at_rest, torch.tensor(blinks[0]),
         torch.tensor(blinks[1]), deviation, rate * swing_frequency(angles), position, raised - lowered]
    )  # fmt: skip


def _quantiles(curve: Tensor, *shares: float) -> Tensor:
    return torch.quantile(curve, torch.tensor(shares))


def _blinks(lids: Tensor, valid: Tensor, fps: Fraction) -> tuple[float, float]:
    """Blink rate per minute and median blink duration in seconds, over the whole track."""
    lengths = blink_durations_s(lids, valid, fps)
    minutes = int(valid.sum()) / float(fps) / 60
    return len(lengths) / minutes, float(lengths.median()) if len(lengths) else StyleStatistics().blink_s
