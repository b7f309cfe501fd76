"""How a video is written, and which sound is heard; no torch, so that ``--help`` need not wait for it."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import check_options, option


@dataclass(frozen=True)
class WriteOptions:
    """How a video is written."""

    crf: int = option(18, 0, 51, "H.264 quality: 0 lossless .. 51 worst")
    ai_mark: bool = option(True, help="the video's metadata says that it is AI-generated")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class SoundOptions:
    """Which sound of a file is heard."""

    sound_track: int | None = option(
        None, 1, 1000, "which sound track of the speech's file, from 1; if not given, the one that it names as its "
        "default", step=1, metavar="N",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self)
