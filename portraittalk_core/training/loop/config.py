"""Settings of the trainer, and their conversion to steps."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch

from ...errors import InputError
from ...options import option
from .optimizers import OptimizerOptions

PRECISIONS = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
UNITS = ("steps", "epochs")
FREE_TO_CHANGE = ("steps", "epochs", "save_every", "sample_every", "keep_checkpoints")  # from one run to the next
# fields of later versions: at these values they are no settings, as in the checkpoints of versions before
ADDED = ("optimizer", "betas", "clip_norm", "milestones", "gamma", "warmup", "unit")


@dataclass(frozen=True)
class TrainerConfig(OptimizerOptions):
    """Settings of a training run; defaults of PortraitTalk where it states them, else of PyTorch.

    An epoch is one pass through the stage's data: its samples over batch_size · gradient_accumulation, in whole steps.
    The optimiser's options are those of every optimiser for which the stage has none of its own.
    """

    learning_rate: float = option(5e-6, 0, 1, "size of an update")
    steps: int = option(9400, 1, 10**9, "updates of the weights")  # ten epochs of 30,000 frames in batches of 32
    batch_size: int = option(4, 1, 10**9, "samples that are in memory at a time")
    gradient_accumulation: int = option(8, 1, 10**9, "batches in a step")  # 4 · 8 = 32
    ema_decay: float = option(0.999, 0, 0.999999, "share of the averaged weights that every step keeps")
    save_every: int = option(500, 1, 10**9, "units between checkpoints")
    sample_every: int = option(500, 0, 10**9, "units between sample pictures; 0 makes none")
    seed: int = option(0, 0, 10**9, "of all that chance decides")
    mixed_precision: str = option("no", help="precision of the computation", choices=tuple(PRECISIONS))
    keep_checkpoints: int = option(3, 1, 10**9, "checkpoints that are kept, the latest")
    epochs: int = option(0, 0, 10**9, "passes through the data; above 0, steps does not count")
    unit: str = option(
        "steps", help="what save_every, sample_every, milestones and warmup are counted in", choices=UNITS
    )

    def batch_number(self, step: int, part: int) -> int:
        """Number of a batch, counted from 0 over all steps.

        Args:
            step: from 1.
            part: of the step, from 0.
        """
        return (step - 1) * self.gradient_accumulation + part

    def settings(self) -> dict[str, object]:
        """Settings that a resumed run must share."""
        first = {field.name: field.default for field in dataclasses.fields(TrainerConfig)}
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in FREE_TO_CHANGE and not (name in ADDED and value == first[name])
        }


def other_default(name: str, value: object) -> Any:  # noqa: ANN401 - a field of any type
    """Field of a TrainerConfig subclass with another default."""
    (field,) = (candidate for candidate in dataclasses.fields(TrainerConfig) if candidate.name == name)
    return dataclasses.field(default=value, metadata=field.metadata)


@dataclass(frozen=True)
class AdamTrainer(TrainerConfig):
    """Trainer settings of networks that learn by plain Adam, a step a batch, as most papers have it."""

    optimizer: str = other_default("optimizer", "adam")
    weight_decay: float = other_default("weight_decay", 0.0)
    gradient_accumulation: int = other_default("gradient_accumulation", 1)


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
        """Completed epochs before a step."""
        return (step - 1) // self.epoch_steps if self.epoch_steps else 0

    def due(self, step: int, every: int) -> bool:
        """Whether an action of every `every` units is due after a step."""
        return bool(every) and step % (every * self.unit_steps) == 0
