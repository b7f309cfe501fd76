"""The side of the crops that networks of this package take, as a number in their weight files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..checks import abbreviated
from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

INPUT_SIZE = "input_size"  # its name; public files do not have it


def crop_size(tensors: Mapping[str, Tensor], source: str, default: int, largest: int) -> int:
    """The side of the crops that a file says, in pixels, or the default.

    Args:
        tensors: of the file.
        source: its name, for messages.
        default: of public files.
        largest: side that may be said.

    Raises:
        InputError: it says something else than one whole number in range.
    """
    side = tensors.get(INPUT_SIZE)
    if side is None:
        return default
    if side.numel() != 1 or side.is_floating_point() or not 0 < side.item() <= largest:
        value = abbreviated(side.tolist())
        raise InputError(
            f"{source} says that crops have {value} pixels a side; it must be one whole number up to {largest}."
        )
    return int(side)
