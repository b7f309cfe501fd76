"""Settings of the discriminant extractor's training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...checks import check_choice, check_range
from ...errors import InputError
from ...style.discriminant import DiscriminantSizes

DISCRIMINANT = "discriminant"  # the stage


@dataclass(frozen=True)
class DiscriminantTraining:
    """Settings of the stage "discriminant", which is computed, not iterated: there is no trainer."""

    out: Path  # folder for the weight file
    data: Path  # folder that `portraittalk prepare` has made: FOLDER/CLIP, a folder for each person
    stage: str = DISCRIMINANT
    leave_out: tuple[str, ...] = ()  # clips that are kept for measuring, FOLDER/CLIP
    styles: int = 3000  # augmented speakers
    clips: int = 6  # of each
    lengths: tuple[int, ...] = (37, 50, 64)  # frames of clips, at 25 a second; as many styles of each
    width: int = 128  # of the style
    window: int = 64  # frames that statistics are taken of, in use
    shrinkage: float = 0.3  # of the covariance within classes, towards its diagonal
    real: float = 0.5  # weight of real clips in that covariance, beside augmented speakers
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice(self.stage, (DISCRIMINANT,), "stage")
        for name, low, high in (("styles", 2, 10**6), ("clips", 2, 1000), ("seed", 0, 2**31), ("window", 25, 256)):
            check_range(getattr(self, name), low, high, name)
        for name in ("shrinkage", "real"):
            check_range(getattr(self, name), 0, 1, name)
        if not self.lengths:
            raise InputError("lengths is empty; give how many frames clips have, for example [37, 50, 64].")
        for length in self.lengths:
            check_range(length, 25, 256, "a length")
        if self.width >= self.styles:
            raise InputError(
                f"{self.styles} styles have fewer than {self.width} directions; raise styles, or lower width."
            )
        _ = self.sizes

    @property
    def sizes(self) -> DiscriminantSizes:
        """Sizes of the trained extractor."""
        return DiscriminantSizes(self.width, self.window)
