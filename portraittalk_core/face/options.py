"""Which face of a picture is meant; no torch, so that ``--help`` need not wait for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..options import check_options, option

if TYPE_CHECKING:
    from .choice import FaceChoice

FACE_ORDERS = ("size", "left_to_right")


@dataclass(frozen=True)
class FaceOptions:
    """Which face of a picture is meant."""

    face_index: int = option(0, 0, 1000, "which of several faces, counted from 0 as --face-order says")
    face_order: str = option(
        "size", help="how faces are counted: size the largest first, left_to_right as they stand", choices=FACE_ORDERS
    )
    face: str | None = option(
        None, help="which face, by where it is: a box x0,y0,x1,y1 in pixels, or a picture that is white where it is",
        metavar="BOX|MASK",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def which(self) -> int | FaceChoice:
        """Which face: its number, or what chooses it; a box or mask wins over the number.

        Raises:
            InputError: neither a box nor a mask that can be read.
        """
        if self.face is None:
            return self.face_index
        from .choice import face_choice

        return face_choice(self.face)


def named_in(given: Mapping[str, object]) -> int | FaceChoice | None:
    """Which face the given fields of `FaceOptions` name; None where neither a number nor a place is among them.

    Raises:
        InputError: neither a box nor a mask that can be read.
    """
    return FaceOptions(**given).which if {"face_index", "face"} & given.keys() else None
