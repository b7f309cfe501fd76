"""Options of an evaluation, and the frame pairing of two videos."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import check_options, option

CROPS = ("whole", "face")


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation of a video or a pair."""

    align: bool = option(
        False, help="remove an offset in time (within 0.5 s) before comparing; else it is only reported"
    )
    crop: str = option("whole", help="what PSNR and SSIM look at: the whole frame or the face", choices=CROPS)
    margin: float = option(
        0.2, 0, 2, "room around the face in its crop, on every side, as a share of the face's larger side"
    )
    face_index: int = option(0, 0, 1000, "which face, 0 is the largest")
    max_frames: int | None = option(None, 1, 10**9, "compare at most so many frames from the start")
    num_worst: int = option(3, 0, 20, "frames kept to be looked at, of each reason")
    metrics: tuple[str, ...] | None = option(
        None, help="names of the metrics to measure; None takes the standard ones", shared=False
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True)
class FramePairing:
    """Frame pairing: generated[generated_start + k] with target[target_start + k], k below num_frames."""

    generated_start: int
    target_start: int
    num_frames: int
