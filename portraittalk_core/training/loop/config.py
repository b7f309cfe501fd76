"""The trainer's settings: how long, how fast, in what units; and how they become steps."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch

from ...checks import check_choice, check_range
from ...errors import InputError
from .optimizers import OptimizerOptions

PRECISIONS = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
UNITS = ("steps", "epochs")
FREE_TO_CHANGE = ("steps", "epochs", "save_every", "sample_every", "keep_checkpoints")  # from one run to the next
# fields of later versions: at these values they are no settings, as in the checkpoints of versions before
ADDED = ("optimizer", "betas", "clip_norm", "milestones", "gamma", "warmup", "unit")


@dataclass(frozen=True)
class TrainerConfig:
    """How long and how fast; defaults of PortraitTalk where it says, else of PyTorch.

    An epoch is one pass through the stage's data: its samples over batch_size · gradient_accumulation, in whole steps.
    """

    steps: int = 9400  # ten epochs of 30,000 frames in batches of 32
    batch_size: int = 4  # pictures that are in memory at a time
    gradient_accumulation: int = 8  # batches in a step: 4 · 8 = 32
    learning_rate: float = 5e-6
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    save_every: int = 500  # units
    sample_every: int = 500  # units; 0 for no pictures
    seed: int = 0
    mixed_precision: str = "no"
    keep_checkpoints: int = 3
    epochs: int = 0  # if above 0, how long in epochs, and `steps` does not count
    unit: str = "steps"  # or "epochs": what save_every, sample_every, milestones and warmup are counted in
    optimizer: str = "adamw"  # or "adam"
    betas: tuple[float, float] = (0.9, 0.999)  # decay of its first and second moment
    clip_norm: float = 1.0  # largest norm of an optimiser's gradients; 0 does not limit it
    milestones: tuple[int, ...] = ()  # units done when the learning rate is multiplied by gamma
    gamma: float = 0.1
    warmup: int = 0  # units in which the learning rate rises

    def __post_init__(self) -> None:
        check_choice(self.mixed_precision, tuple(PRECISIONS), "mixed_precision")
        check_choice(self.unit, UNITS, "unit")
        check_range(self.ema_decay, 0, 0.999999, "ema_decay")
        limits = {"steps": 1, "batch_size": 1, "gradient_accumulation": 1, "save_every": 1, "sample_every": 0}
        for name, low in {**limits, "seed": 0, "keep_checkpoints": 1, "epochs": 0}.items():
            check_range(getattr(self, name), low, 10**9, name)
        self.optimizer_options()

    def optimizer_options(self) -> OptimizerOptions:
        """Options of optimisers for which a stage has none of its own; those change what they need of these."""
        return OptimizerOptions(**{f.name: getattr(self, f.name) for f in dataclasses.fields(OptimizerOptions)})

    def settings(self) -> dict[str, object]:
        """What a run cannot go on without if it changes."""
        first = {field.name: field.default for field in dataclasses.fields(TrainerConfig)}
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in FREE_TO_CHANGE and not (name in ADDED and value == first[name])
        }


@dataclass(frozen=True)
class Clock:
    """Steps and epochs of a run."""

    total: int  # steps
    epoch_steps: int | None  # None where the data have no size
    unit_steps: int

    @classmethod
    def of(cls, config: TrainerConfig, num_samples: int | None) -> Clock:
        if num_samples is None:
            if config.epochs or config.unit == "epochs":
                raise InputError("these data have no size, so epochs cannot be counted; give steps, and unit 'steps'.")
            return cls(config.steps, None, 1)
        epoch = max(math.ceil(num_samples / (config.batch_size * config.gradient_accumulation)), 1)
        return cls(config.epochs * epoch or config.steps, epoch, epoch if config.unit == "epochs" else 1)

    def epoch(self, step: int) -> int:
        """Whole epochs before a step."""
        return (step - 1) // self.epoch_steps if self.epoch_steps else 0

    def due(self, step: int, every: int) -> bool:
        """Whether something that is done every so many units is done after a step."""
        return bool(every) and step % (every * self.unit_steps) == 0
