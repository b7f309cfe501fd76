"""Options of the warp renderer."""

from __future__ import annotations

from dataclasses import dataclass

from ...options import check_options, option

KEEP, TRANSPARENT = "keep", "transparent"


@dataclass(frozen=True)
class WarpOptions:
    """What becomes of a portrait's background."""

    background: str = option(
        KEEP,
        help="keep a portrait's background, or leave it away (transparent): for .webm, .mov or a folder of PNG files",
        choices=(KEEP, TRANSPARENT),
    )

    def __post_init__(self) -> None:
        check_options(self)
