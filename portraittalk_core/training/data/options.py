"""Options of the preparation of training clips; no torch, so that ``--help`` need not wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ...errors import InputError
from ...frame_rate import MAX_FPS, MIN_FPS, as_fps
from ...options import check_options, option

PICTURES = ("png", "jpg")
POOL = 16  # references of a video, of which every sample sees some
LAYOUTS = ("any", "lrs2", "lrw", "hdtf", "mead")


@dataclass(frozen=True)
class PrepareOptions:
    """Crop of the training clips, and minimum quality of a video."""

    size: int = option(512, 128, 2048, "side of the clips in pixels, a multiple of 64")
    fps: Fraction = option(Fraction(25), MIN_FPS, MAX_FPS, "frames per second of the clips")
    margin: float = option(1.6, 1, 4, "side of the square that is cut out, in sides of the box in which the face moves")
    picture_format: str = option("png", help="format of the frames: jpg takes a quarter of the room", choices=PICTURES)
    layout: str = option(
        "any", help="which videos of the folder are taken, and what train.txt and held_out.txt name: any takes all, "
        "and writes no lists; the others are corpora as they are handed out", choices=LAYOUTS,
    )  # fmt: skip
    min_seconds: float = option(
        2.0, 0, 3600, "least time for which the face is seen, seconds; clips of LRW last 1.16", step=0.1
    )
    min_seen: float = option(0.8, 0, 1, "share of the frames that must show it", shared=False)
    min_face_px: float = option(64.0, 1, 4096, "its height in the video", shared=False)
    needs_sound: bool = option(True, help="False keeps silent videos too", shared=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", as_fps(self.fps))
        check_options(self)
        if self.size % 64:
            raise InputError(f"size must be a multiple of 64, not {self.size}.")
