"""How a video is written; no torch, so that ``--help`` need not wait for it."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import check_options, option


@dataclass(frozen=True)
class WriteOptions:
    """How a video is written."""

    crf: int = option(18, 0, 51, "H.264 quality: 0 lossless .. 51 worst")

    def __post_init__(self) -> None:
        check_options(self)
