"""How two videos are to be compared, and which of their frames belong together."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import check_choice, check_range

CROPS = ("whole", "face")


@dataclass(frozen=True)
class CompareOptions:
    """How two videos are compared."""

    align: bool = False  # take a leading offset that is found out; it is reported either way
    crop: str = "whole"  # what PSNR and SSIM look at: the "whole" frame, or the "face"
    margin: float = 0.2  # of the face crop, of the face's larger side, on every side
    face_index: int = 0  # 0 is the largest
    max_frames: int | None = None  # compare at most so many
    num_worst: int = 3  # frames kept to be looked at, of each reason

    def __post_init__(self) -> None:
        check_choice(self.crop, CROPS, "the crop")
        check_range(self.margin, 0, 2, "the margin of the face crop")
        check_range(self.face_index, 0, 1000, "face_index")
        check_range(self.num_worst, 0, 20, "the number of worst frames")
        if self.max_frames is not None:
            check_range(self.max_frames, 1, 10**9, "max_frames")


@dataclass(frozen=True)
class Shift:
    """Which frames belong together: generated[made + k] and target[true + k], k below count."""

    made: int
    true: int
    count: int
