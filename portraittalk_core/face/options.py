"""Which face of a picture is meant; no torch, so that ``--help`` need not wait for it."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import check_options, option

FACE_ORDERS = ("size", "left_to_right")


@dataclass(frozen=True)
class FaceOptions:
    """Which face of a picture is meant."""

    face_index: int = option(0, 0, 1000, "which face, from 0")
    face_order: str = option("size", help="how faces are counted", choices=FACE_ORDERS)

    def __post_init__(self) -> None:
        check_options(self)
