"""Settings of the closure network's training, and their TOML reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...checks import abbreviated, check_range
from ...errors import InputError
from ..identitynet.config import read_settings, read_toml

SUFFIX = ".safetensors"  # of the file to write
LEAST_HOURS = 0.02  # of synthesised speech in all

_LIMITS = (
    ("steps", 1, 1_000_000), ("batch", 1, 4096), ("segment", 50, 10_000), ("width", 1, 4096),
    ("learning_rate", 1e-7, 1.0), ("weight_decay", 0, 10), ("recorded", 0, 1), ("ema_decay", 0, 0.9999),
    ("seed", 0, 2**32 - 1),
)  # fmt: skip


@dataclass(frozen=True)
class ClosureTrainer:
    """Sizes and rates."""

    steps: int = 400  # many more learn the corpus by heart
    batch: int = 24
    segment: int = 256  # frames of 10 ms
    width: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    ema_decay: float = 0.99  # share of the averaged weights that every step keeps; 0: the last step's weights
    recorded: float = 0.6  # share of a batch that is recordings of people, where there are some
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in _LIMITS:
            check_range(getattr(self, name), low, high, f"trainer.{name}")


@dataclass(frozen=True)
class ClosureTraining:
    """Settings of the closure network's training."""

    out: Path  # weight file to write
    corpus: Path  # folder in which synthesised speech is kept
    hours: float = 1.5  # of speech by Debian's synthesisers
    neural_hours: float = 1.0  # of speech by a neural one
    recordings: Path | None = None  # folder of people's speech, each sound with its words in a .txt file beside it
    mouth: Path | None = None  # file of `train mouth` whose network goes into `out`, too; None: the built-in one
    base: Path | None = None  # file of `train closures` whose f and v are taught further, its other answers kept
    trainer: ClosureTrainer = field(default_factory=ClosureTrainer)

    def __post_init__(self) -> None:
        if self.out.suffix.lower() != SUFFIX:
            raise InputError(f"out must be the name of a {SUFFIX} file, not {abbreviated(self.out.name)}.")
        check_range(self.hours, 0, 500, "hours")
        check_range(self.neural_hours, 0, 500, "neural_hours")
        if (total := self.hours + self.neural_hours) < LEAST_HOURS:
            raise InputError(f"hours and neural_hours add up to {total:g}; at least {LEAST_HOURS} are needed.")


def load_closure_config(path: Path) -> ClosureTraining:
    """Read the settings from a TOML file; relative paths in it start at its own folder.

    Raises:
        InputError: not there, no TOML, an unknown or absent name, or a value of another type or out of range.
        MissingDependency: Python 3.10 without tomli.
    """
    return read_settings(ClosureTraining, read_toml(path), Path(path))
