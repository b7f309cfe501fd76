"""Options of fitting a lip renderer to a film; no torch, so that ``--help`` need not wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...options import check_options, option

FIT_SUFFIX = ".fitted"  # of the folder beside the renderer's file


@dataclass(frozen=True)
class FitOptions:
    """Whether and how long a lip renderer is fine-tuned on a film before it dubs it."""

    fit: float | None = option(
        None, 0.02, 1440, "minutes of fine-tuning on the film's own frames before they are dubbed, with --renderer "
        "lips; what is learnt is kept, so that the same film needs it once, and a stopped run goes on",
        metavar="MINUTES",
    )  # fmt: skip
    fit_folder: Path | None = option(
        None, help=f"where fitted weights are kept; if not given, in FILE{FIT_SUFFIX} beside --lips-file, or "
        "beside --out where that is not given",
        metavar="FOLDER",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self)
