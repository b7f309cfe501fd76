"""Temporal windows: cutting of long videos into overlapping windows or chunks, and their weighted fusion.

Either overlapping windows are fused at every sampler step, in any order; or chunks are sampled one after another, each
beginning with finished frames of the previous one. Frames are on the first axis everywhere.
Source: `docs/design/animatenet.md` 4; FreeNoise (Qiu et al. 2023), section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_choice
from ..errors import InputError

WEIGHTS = ("pyramid", "flat", "relative", "overlap_linear")
MIN_WEIGHT = 1e-6  # weight at a ramp's foot: negligible where another window covers the frame
MIN_RELATIVE_WEIGHT = 1e-2


@dataclass(frozen=True)
class Chunk:
    """Frames that are sampled together."""

    frames: range
    num_fixed: int  # so many of the first are finished already, by the chunk before


def static_windows(num_frames: int, length: int = 16, overlap: int = 4) -> list[range]:
    """Overlapping windows, the same at every step; the last is moved back to end with the video.

    Args:
        num_frames: of the video.
        length: of a window; a shorter video is one window.
        overlap: frames that two neighbours share.

    Raises:
        InputError: an overlap of a window or more, or no frames.
    """
    _check(num_frames, length, overlap)
    if num_frames <= length:
        return [range(num_frames)]
    last = num_frames - length
    starts = [*range(0, last, length - overlap), last]
    return [range(start, start + length) for start in starts]


def window_weights(
    length: int, kind: str = "pyramid", overlap: int = 4, is_first: bool = False, is_last: bool = False
) -> Tensor:
    """(length,) float32 fusion weights of a window's frames, above 0.

    Args:
        length: of the window.
        kind: `pyramid` counts 1, 2, … up to the middle; `flat` all alike; `relative` falls from 1 in the middle to
            almost 0; `overlap_linear` fades only over the overlap.
        overlap: frames that two neighbours share, for `overlap_linear`.
        is_first: the video begins with this window; it does not fade in.
        is_last: the video ends with this window; it does not fade out.

    Raises:
        InputError: an unknown kind, or an overlap of a window or more.
    """
    check_choice(kind, WEIGHTS, "window weights")
    _check(length, length, overlap if kind == "overlap_linear" else 0)
    at = torch.arange(length, dtype=torch.float32)
    if kind == "pyramid":
        return torch.minimum(at + 1, length - at)
    if kind == "relative":
        return (1 - (at - (length - 1) / 2).abs() / ((length - 1 + 0.01) / 2)).clamp(min=MIN_RELATIVE_WEIGHT)
    weights = torch.ones(length)
    if kind == "overlap_linear" and overlap:
        ramp = torch.linspace(MIN_WEIGHT, 1, overlap)
        if not is_first:
            weights[:overlap] = ramp
        if not is_last:
            weights[-overlap:] = torch.minimum(weights[-overlap:], ramp.flip(0))
    return weights


def weights_of(windows: Sequence[range], num_frames: int, kind: str = "pyramid", overlap: int = 4) -> list[Tensor]:
    """Fusion weights of all windows of a video, as from `window_weights`."""
    return [window_weights(len(w), kind, min(overlap, len(w) - 1), w.start == 0, w.stop == num_frames) for w in windows]


def fuse(parts: Iterable[Tensor], windows: Sequence[range], weights: Sequence[Tensor], num_frames: int) -> Tensor:
    """Fuse window outputs, in any order: the weighted mean at every frame.

    Args:
        parts: (length, ...) of each window; consumed one by one.
        windows: as cut.
        weights: (length,) of each window; on the parts' device, copies are spared.
        num_frames: of the video; every frame must be in a window.

    Returns:
        (num_frames, ...) of the parts' type.

    Raises:
        InputError: windows that do not cover the video, or parts that are not their windows' length.
    """
    _check(num_frames, 1, 0)
    mismatched = sorted(set(range(num_frames)).symmetric_difference(set().union(*windows)))
    if mismatched:
        raise InputError(f"the windows do not cover {num_frames} frames: frame {mismatched[0]} is missing or too many.")
    total = sums = None
    for part, window, weight in _matched(parts, windows, weights):
        if sums is None:
            sums = torch.zeros(num_frames, *part.shape[1:], dtype=torch.float32, device=part.device)
            total = torch.zeros(num_frames, *[1] * (part.ndim - 1), dtype=torch.float32, device=part.device)
        span, factor = slice(window.start, window.stop), _broadcast(weight, part)
        sums[span] += factor * part
        total[span] += factor
        kind = part.dtype
    return sums.div_(total).to(kind)


def _matched(
    parts: Iterable[Tensor], windows: Sequence[range], weights: Sequence[Tensor]
) -> Iterator[tuple[Tensor, range, Tensor]]:
    count = 0
    for count, (part, window, weight) in enumerate(zip(parts, windows, weights, strict=False), 1):  # noqa: B007
        if not len(part) == len(window) == len(weight):
            raise InputError(f"{len(part)} frames with {len(weight)} weights do not fill frames {_span(window)}.")
        yield part, window, weight
    if count < len(windows):
        raise InputError(f"{count} parts with {len(weights)} weights do not fill {len(windows)} windows.")


def _broadcast(weight: Tensor, part: Tensor) -> Tensor:
    """Weights (length, 1, ...) on a part's device."""
    return weight.to(part.device, torch.float32).reshape(-1, *[1] * (part.ndim - 1))


def free_noise_order(num_frames: int, length: int = 16, stride: int = 4, seed: int = 0) -> Tensor:
    """(num_frames,) int64 index of the initial noise that each frame gets: FreeNoise's shuffling.

    Every `stride` frames behind the first `length` repeat, shuffled, those that are `length` before them. A longer
    video begins like a shorter one.

    Args:
        num_frames: of the video.
        length: frames with noise of their own: a window.
        stride: frames that are shuffled together: a window less its overlap.
        seed: of the shuffling.

    Raises:
        InputError: a stride that is not 1 to `length`, or no frames.
    """
    _check(num_frames, length, 0)
    if not 1 <= stride <= length:
        raise InputError(f"stride is {stride}; choose 1 to {length}, the window.")
    draw = torch.Generator().manual_seed(seed)  # on the CPU: equal on every device
    order = torch.arange(length)
    while len(order) < num_frames:
        source = order[len(order) - length :][:stride]
        order = torch.cat([order, source[torch.randperm(stride, generator=draw)]])
    return order[:num_frames]


def chunks(num_frames: int, length: int = 16, overlap: int = 4) -> list[Chunk]:
    """Overlapping chunks in order: the last frames of one are the fixed first frames of the next.

    The last chunk is moved back to be as long as the others, since motion modules are trained on whole windows; more
    of its frames are finished then.

    Args:
        num_frames: of the video.
        length: of a chunk; a shorter video is one chunk.
        overlap: frames that a chunk takes over.

    Raises:
        InputError: an overlap of a chunk or more, or no frames.
    """
    windows = static_windows(num_frames, length, overlap)
    ends = [0, *(window.stop for window in windows)]
    return [Chunk(window, end - window.start) for window, end in zip(windows, ends, strict=False)]


def _check(num_frames: int, length: int, overlap: int) -> None:
    if num_frames < 1 or length < 1:
        raise InputError(f"{num_frames} frames in windows of {length} cannot be cut; give at least 1 of each.")
    if not 0 <= overlap < length:
        raise InputError(f"an overlap of {overlap} frames does not fit windows of {length}; choose 0 to {length - 1}.")


def _span(window: range) -> str:
    return f"{window.start} to {window.stop - 1}"
