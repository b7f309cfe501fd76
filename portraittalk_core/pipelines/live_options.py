"""Options of the command `live`."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import check_options, option


@dataclass(frozen=True)
class LiveOptions:
    """Where live pictures go."""

    output: str = option(
        "window",
        help='A window; "http", MJPEG for browsers and OBS on this machine; or a video device such as /dev/video2.',
        metavar="window|http|/dev/videoN",
    )
    port: int = option(8190, 0, 65_535, "Port of http; 0 takes any free one.", advanced=True)

    def __post_init__(self) -> None:
        check_options(self)
