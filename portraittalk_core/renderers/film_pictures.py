"""The pictures of a video file in any order: forwards, backwards, standing still."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

from torch import Tensor

from ..errors import InputError
from ..media.video_read import read_pictures

SKIPPED = 48  # pictures that are read and left out rather than opening the file anew
BACKWARD_BYTES = 64_000_000  # of pictures that are held at once to be given backwards


def pictures_in_order(path: Path, fps: Fraction, order: Sequence[int]) -> Iterator[Tensor]:
    """Pictures (H, W, 3) uint8 of a video read at a constant rate.

    Args:
        path: the video.
        fps: frames per second, of `read_pictures`.
        order: numbers of the pictures that are wanted, in turn.

    Raises:
        InputError: the video has fewer pictures.
    """
    backward = 1
    for start, stop, step in _runs(order):
        if step < 0:
            for last in range(start, stop, -backward):
                first = max(stop + 1, last - backward + 1)
                part = list(_forward(path, fps, range(first, last + 1)))
                yield from reversed(part)
            continue
        picture = None
        for picture in _forward(path, fps, range(start, stop) if step else range(start, start + 1)):
            yield picture
        if picture is not None:
            backward = max(1, BACKWARD_BYTES // picture.numel())
            yield from (picture for _ in range(stop - start - 1 if step == 0 else 0))


def pictures_at(path: Path, fps: Fraction, numbers: Sequence[int]) -> Iterator[Tensor]:
    """Some pictures (H, W, 3) uint8 of a video, one at a time.

    Args:
        path: the video.
        fps: frames per second, of `read_pictures`.
        numbers: of the pictures, each greater than the one before it.

    Raises:
        InputError: the video has fewer pictures.
    """
    begins = [at for at in range(len(numbers)) if at == 0 or numbers[at] - numbers[at - 1] > SKIPPED]
    for begin, end in pairwise([*begins, len(numbers)]):
        selected, first = set(numbers[begin:end]), numbers[begin]
        for number, picture in enumerate(_forward(path, fps, range(first, numbers[end - 1] + 1)), first):
            if number in selected:
                yield picture


def _forward(path: Path, fps: Fraction, numbers: range) -> Iterator[Tensor]:
    number = numbers.start
    for picture in islice(read_pictures(path, fps, first=number), len(numbers)):
        yield picture
        number += 1
    if number < numbers.stop:
        raise InputError(f"{path.name} has become shorter while it was read: frame {number} is missing.")


def _runs(order: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Maximal stretches of an order: first number, the one behind the last, and the step 1 or −1.

    A stretch of N equal numbers n is (n, n + N, 0).
    """
    if isinstance(order, range):
        yield order.start, order.stop, 1
        return
    at = 0
    while at < len(order):
        stop = at + 1
        step = order[stop] - order[at] if stop < len(order) and abs(order[stop] - order[at]) <= 1 else 1
        while stop < len(order) and order[stop] - order[stop - 1] == step:
            stop += 1
        count, first = stop - at, order[at]
        yield first, first + (step * count if step else count), step
        at = stop
