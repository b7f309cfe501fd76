"""Settings of the landmark generator's training, and their TOML reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...checks import check_choice, check_range
from ...engines.landmark_generator.crops import CROP_MARGIN_PX
from ...engines.landmark_generator.network import LANDMARK_SIZES, LandmarkSizes
from ...errors import InputError
from ..identitynet.config import read_settings, read_toml
from ..loop.config import AdamTrainer, other_default


@dataclass(frozen=True)
class LandmarkTrainer(AdamTrainer):
    """Trainer settings of the landmark generator: IP-LAP's Adam, learning rate, batch and steps."""

    learning_rate: float = other_default("learning_rate", 1e-4)
    steps: int = other_default("steps", 610_000)
    batch_size: int = other_default("batch_size", 128)


@dataclass(frozen=True)
class LandmarkTraining:
    """Settings of the landmark generator's training."""

    data: Path  # folder that `portraittalk prepare` has made
    out: Path  # folder for the weight file, checkpoints, samples and the log
    clips: Path | None = None  # text file with the names of the clips to learn from; None takes all
    held_out: Path | None = None  # text file with the names of the clips to score on; None scores on those learnt from
    base: Path | None = None  # weights to begin with, IP-LAP's or own ones; None begins with random ones
    size: str = "public"  # of the network; "small" and "tiny" are for a CPU; `base` has its own
    crop_pad: float = CROP_MARGIN_PX  # room around the face in pixels of the prepared pictures; the file remembers it
    velocity: float = 1.0  # weight of the velocities' loss beside that of the places
    trainer: LandmarkTrainer = field(default_factory=LandmarkTrainer)

    def __post_init__(self) -> None:
        check_choice(self.size, tuple(LANDMARK_SIZES), "size")
        check_range(self.crop_pad, 0, 1000, "crop_pad")
        check_range(self.velocity, 0, 1e4, "velocity")
        if self.base is not None and self.size != "public":
            raise InputError(f"size is {self.size!r}, but base has a size of its own; leave size out.")

    @property
    def sizes(self) -> LandmarkSizes:
        """Sizes of a network that begins with random weights."""
        return LANDMARK_SIZES[self.size]


def load_landmark_config(path: Path) -> LandmarkTraining:
    """Read the settings from a TOML file; relative paths in it start at its own folder.

    Raises:
        InputError: not there, no TOML, an unknown or absent name, or a value of another type or out of range.
        MissingDependency: Python 3.10 without tomli.
    """
    return read_settings(LandmarkTraining, read_toml(path), Path(path))
