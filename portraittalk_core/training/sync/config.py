"""Settings of the lip-sync network's training, and their TOML reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...checks import check_choice, check_range
from ...errors import InputError
from ..identitynet.config import read_settings, read_toml
from ..loop.config import AdamTrainer, other_default
from .network import SYNC_SIZES, SyncSizes


@dataclass(frozen=True)
class SyncTrainer(AdamTrainer):
    """Trainer settings of the lip-sync network; Wav2Lip's Adam and learning rate."""

    learning_rate: float = other_default("learning_rate", 1e-4)
    steps: int = other_default("steps", 20_000)
    batch_size: int = other_default("batch_size", 64)


@dataclass(frozen=True)
class SyncTraining:
    """Settings of the lip-sync network's training."""

    data: Path  # folder that `portraittalk prepare` has made
    out: Path  # folder for the weight file, checkpoints, samples and the log
    clips: Path | None = None  # text file with the names of the clips to learn from; None takes all
    held_out: Path | None = None  # text file with the names of the clips to score on; None scores on those learnt from
    hubert: Path | None = None  # weight file of HuBERT large; None hears log-mel rows, which public weights do not
    size: str = "public"  # of both networks; "small" and "tiny" are for a CPU
    negatives: float = 0.5  # share of windows whose sound is of another time of the clip
    trainer: SyncTrainer = field(default_factory=SyncTrainer)

    def __post_init__(self) -> None:
        check_choice(self.size, tuple(SYNC_SIZES), "size")
        check_range(self.negatives, 0, 1, "negatives")
        if self.negatives in (0, 1):
            raise InputError(f"negatives must leave pairs of both kinds, so lie between 0 and 1, not {self.negatives}.")

    @property
    def sizes(self) -> SyncSizes:
        """Sizes of the two encoders."""
        return SYNC_SIZES[self.size]


def load_sync_config(path: Path) -> SyncTraining:
    """Read the settings from a TOML file; relative paths in it start at its own folder.

    Raises:
        InputError: not there, no TOML, an unknown or absent name, or a value of another type or out of range.
        MissingDependency: Python 3.10 without tomli.
    """
    return read_settings(SyncTraining, read_toml(path), Path(path))
