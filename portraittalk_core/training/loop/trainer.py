"""Training loop of every stage: several optimisers, gradient accumulation, mixed precision, averages, checkpoints.

Random numbers of a step depend on the seed, the step and its part only, so a run that was stopped or killed resumes bit
for bit (on the CPU; on CUDA as far as its kernels are deterministic).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...cache_key import cache_key
from ...errors import InputError, MissingDependency
from ...media.files import atomic_write, explain_write_errors, make_folder
from ...media.image import save_picture
from ...media.made_mark import TRAINED
from ...progress import Progress
from .checkpoints import (
    Checkpoint,
    check_names,
    check_settings,
    checkpoints,
    load_checkpoint,
    remove_leftovers,
    save_checkpoint,
)
from .config import PRECISIONS, Clock, TrainerConfig
from .ema import Ema
from .optimizers import ScheduledOptimizer
from .stage import Loss, Stage, StepContext, Trainable

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """Result of a run."""

    steps: int  # done in all
    resumed_from: int  # step where this run took up another one; 0 for none
    averages: Mapping[str, Tensor]  # EMA of the trained weights, and their buffers, by name, on the CPU
    checkpoint: Path  # the last one
    log: Path  # JSON lines: step, loss, gradient norm and the stage's own
    samples: tuple[Path, ...]  # pictures made on the way
    settings_hash: str


def train_stage(stage: Stage, config: TrainerConfig, out: Path, on_progress: Progress | None = None) -> TrainingResult:
    """Train a stage, from the last checkpoint in `out` if there is one.

    Args:
        stage: what to train.
        config: how.
        out: folder for checkpoints, samples and the log; made if absent.
        on_progress: called with steps done and steps in all after every step; may raise to stop. What was saved last
            stays whole.

    Returns:
        The averaged weights, and where all else lies. The stage keeps the weights of the last step.

    Raises:
        MissingDependency: accelerate is absent.
        InputError: `out` holds a run with other settings, the loss is no longer a number, or epochs are to be counted
            of data that have no size.
        OutputError: `out` cannot be written.
    """
    make_folder(out)
    with _accelerator(config) as accelerator:
        devices = [accelerator.device] if accelerator.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(config.seed)
            return _Run(stage, config, out, accelerator).go(on_progress or (lambda *_: None))


class _Run:
    """State of a training run."""

    def __init__(self, stage: Stage, config: TrainerConfig, out: Path, accelerator: Accelerator) -> None:
        self.stage, self.config, self.out, self.accelerator = stage, config, out, accelerator
        self.clock = Clock.of(config, stage.num_samples())
        stage.place(accelerator.device, PRECISIONS[config.mixed_precision])
        self.trainables = dict(stage.optimizers())
        optimizer_options = {name: trained.options or config for name, trained in self.trainables.items()}
        self.optimizers = {
            name: ScheduledOptimizer(name, trained.parameters, optimizer_options[name], self.clock.unit_steps)
            for name, trained in self.trainables.items()
        }
        self.parameters = {n: w for trained in self.trainables.values() for n, w in trained.parameters.items()}
        _check_unique(self.trainables)
        averaged = [trained for trained in self.trainables.values() if trained.averaged]
        followed = {name: weight for trained in averaged for name, weight in trained.parameters.items()}
        self.ema = Ema(
            followed, config.ema_decay, lambda: {n: b for trained in averaged for n, b in trained.buffers().items()}
        )
        settings = {**config.settings(), **stage.settings()}
        options = {
            name: dataclasses.asdict(optimizer_options[name])
            for name, t in self.trainables.items()
            if t.options is not None
        }
        if options:
            settings["optimizers"] = options
        self.settings = json.loads(json.dumps(settings))  # as a checkpoint gives them back
        self.log, self.checkpoints = out / "log.jsonl", out / "checkpoints"
        self.samples: list[Path] = []
        self.last: Path | None = None

    def go(self, on_progress: Progress) -> TrainingResult:
        """Run all remaining steps."""
        config, total, start = self.config, self.clock.total, self._resume()
        _cut_log(self.log, start)
        parts = [(s, p) for s in range(start + 1, total + 1) for p in range(config.gradient_accumulation)]
        with self.log.open("a", encoding="utf-8") as lines:
            batches = _ahead(self.stage.batch, parts)
            with contextlib.closing(batches):
                for step in range(start + 1, total + 1):
                    lines.write(json.dumps({"step": step, **self._step(step, batches)}) + "\n")
                    lines.flush()
                    if self.clock.due(step, config.sample_every):
                        self._sample(step, lambda step=step: on_progress(step - 1, total))
                    if self.clock.due(step, config.save_every) or step == total:
                        self.last = self._save(step)
                    on_progress(step, total)
        averages = {name: average.cpu() for name, average in self.ema.averages.items()}
        return TrainingResult(
            steps=max(start, total),
            resumed_from=start,
            averages=averages,
            checkpoint=self.last,
            log=self.log,
            samples=tuple(self.samples),
            settings_hash=cache_key(self.settings),
        )

    def _step(self, step: int, batches: Iterator[Any]) -> dict[str, float | None]:
        """One update of the weights; what to log of it."""
        config, logged, used = self.config, {}, {}
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        for part in range(config.gradient_accumulation):
            context = StepContext(step, self.clock.epoch(step), step_generator(config.seed, step, part))
            for loss in self._losses(next(batches), context):
                value = self._backward(loss, step)
                used[loss.optimizer] = self.optimizers[loss.optimizer]
                for number_of, number in {"loss": value, **loss.logged}.items():
                    name = self._log_name(loss.optimizer, number_of)
                    logged[name] = logged.get(name, 0.0) + number / config.gradient_accumulation
        logged |= self._update(step, used)
        self.ema.update()
        return logged

    def _losses(self, batch: Any, context: StepContext) -> Iterator[Loss]:  # noqa: ANN401 - the stage's own
        """The stage's losses; autocast acts while they are computed, not while they are differentiated."""
        losses = iter(self.stage.losses(batch, context))
        while True:
            with self.accelerator.autocast():
                loss = next(losses, None)
            if loss is None:
                return
            yield loss

    def _backward(self, loss: Loss, step: int) -> float:
        """Add the gradients of a part's loss to the weights of its optimiser; returns the loss."""
        value = float(loss.value.detach())
        if not math.isfinite(value):
            whose = f"{loss.optimizer}'s loss" if len(self.optimizers) > 1 else "the loss"
            raise InputError(
                f"{whose} is {value} at step {step}; train with a lower learning_rate or mixed_precision 'no'. "
                f"The last checkpoint is {self.last or 'not made yet'}."
            )
        # one optimiser's are all the weights there are; checkpointing that is re-entrant cannot choose
        inputs = list(self.trainables[loss.optimizer].parameters.values()) if len(self.optimizers) > 1 else None
        self.accelerator.backward(loss.value / self.config.gradient_accumulation, inputs=inputs)
        return value

    def _update(self, step: int, used: Mapping[str, ScheduledOptimizer]) -> dict[str, float | None]:
        """Step every optimiser that has had a loss; what to log of it."""
        scaler, logged = self.accelerator.scaler, {}
        norms = {name: optimizer.clip(scaler) for name, optimizer in used.items()}
        for name, optimizer in used.items():
            rate, norm = optimizer.step(step, scaler), norms[name]
            # fp16 leaves out a step whose gradients overflow
            logged[self._log_name(name, "gradient_norm")] = norm if math.isfinite(norm) else None
            if optimizer.options.scheduled:
                logged[self._log_name(name, "learning_rate")] = rate
        if scaler is not None and used:
            scaler.update()
        return logged

    def _log_name(self, optimizer: str, name: str) -> str:
        return f"{optimizer}.{name}" if len(self.optimizers) > 1 else name

    def _sample(self, step: int, tick: Callable[[], None]) -> None:
        """Save sample pictures of the averaged weights; training's random state stays as it is."""
        devices = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
        with self.ema.in_place(), torch.random.fork_rng(devices=devices), torch.no_grad(), self.accelerator.autocast():
            pictures = list(self.stage.sample_images(tick))
        if not pictures:
            return
        path = self.out / "samples" / f"step_{step:08d}.png"
        with explain_write_errors(path):
            path.parent.mkdir(exist_ok=True)
        self.samples.append(
            save_picture(torch.cat([picture.cpu() for picture in pictures], 1), path, source_type=TRAINED)
        )

    def _save(self, step: int) -> Path:
        tensors = {f"weights.{name}": tensor for name, tensor in self.parameters.items()}
        tensors |= {f"buffers.{name}": tensor for name, tensor in self._buffers().items()}
        tensors |= {f"averages.{name}": tensor for name, tensor in self.ema.averages.items()}
        for optimizer in self.optimizers.values():
            tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer.state_tensors().items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self.accelerator.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.accelerator.device)
        notes: dict[str, object] = {"settings": self.settings, "settings_sha256": cache_key(self.settings)}
        notes["updates"] = self.ema.updates
        if self.accelerator.scaler is not None:
            notes["scaler"] = self.accelerator.scaler.state_dict()
        return save_checkpoint(self.checkpoints, Checkpoint(step, tensors, notes), self.config.keep_checkpoints)

    def _resume(self) -> int:
        """Restore the last checkpoint; returns its step, 0 without one."""
        remove_leftovers(self.checkpoints)
        paths = checkpoints(self.checkpoints)
        if not paths:
            return 0
        self.last = paths[-1]
        saved = load_checkpoint(self.last)
        check_settings(self.settings, saved.notes["settings"], self.last)
        live = {"weights": self.parameters, "buffers": self._buffers(), "averages": self.ema.averages}
        for kind, tensors in live.items():
            check_names(kind, tensors.keys(), saved.part(kind).keys(), self.last)
        with torch.no_grad():
            for kind, tensors in live.items():
                for name, tensor in saved.part(kind).items():
                    tensors[name].copy_(tensor)
        self.ema.updates = saved.notes["updates"]
        for optimizer in self.optimizers.values():
            optimizer.load_state_tensors(saved.part("optimizer"))
        torch.set_rng_state(saved.tensors["random.cpu"])
        if "random.cuda" in saved.tensors and self.accelerator.device.type == "cuda":
            torch.cuda.set_rng_state(saved.tensors["random.cuda"], self.accelerator.device)
        if self.accelerator.scaler is not None and "scaler" in saved.notes:
            self.accelerator.scaler.load_state_dict(saved.notes["scaler"])
        log.info("training goes on at step %d from %s", saved.step, self.last)
        return saved.step

    def _buffers(self) -> dict[str, Tensor]:
        """Buffers of all trained networks."""
        return {name: tensor for trained in self.trainables.values() for name, tensor in trained.buffers().items()}


def _check_unique(trainables: Mapping[str, Trainable]) -> None:
    """Check that names of weights and buffers are unique, since a checkpoint has one list of each."""
    for kind in ("parameters", "buffers"):
        counts = Counter(
            n for t in trainables.values() for n in (t.parameters if kind == "parameters" else t.buffers())
        )
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise ValueError(f"{kind} of several optimisers have one name: {', '.join(twice[:4])}; give prefixes")


def step_generator(seed: int, step: int, part: int = 0) -> torch.Generator:
    """The random generator of a step's part, on the CPU."""
    state = np.random.SeedSequence([seed, step, part]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def _ahead(batch: Callable[[int, int], Any], parts: Sequence[tuple[int, int]]) -> Iterator[Any]:
    """Batches in order, prefetched by one: the next is read while one is used."""
    with ThreadPoolExecutor(1, "portraittalk-batches") as worker:
        prefetched = worker.submit(batch, *parts[0]) if parts else None
        for following in [*parts[1:], None]:
            if prefetched is None:
                return
            ready, prefetched = prefetched.result(), worker.submit(batch, *following) if following else None
            yield ready


def _cut_log(path: Path, step: int) -> None:
    """Drop the log lines of steps after `step`, which are run again."""
    if not path.exists():
        return
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
    with atomic_write(path) as part:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):  # cut off when the run was killed
        return math.inf


@contextlib.contextmanager
def _accelerator(config: TrainerConfig) -> Iterator[Accelerator]:
    """Accelerator of the configured precision; its process-wide state is reset afterwards."""
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise MissingDependency("accelerate is not installed; run: pip install accelerate") from error
    AcceleratorState._reset_state()
    try:
        accelerator = Accelerator(mixed_precision=config.mixed_precision)
    except ValueError as error:
        raise InputError(f"mixed_precision {config.mixed_precision!r} does not work here: {error}") from error
    try:
        if config.mixed_precision == "fp16" and accelerator.device.type == "cpu":
            raise InputError("mixed_precision 'fp16' needs a GPU; on the CPU choose 'bf16' or 'no'.")
        if accelerator.num_processes > 1:
            raise InputError("training runs in one process on one device; start it without accelerate launch.")
        yield accelerator
    finally:
        accelerator.free_memory()
        AcceleratorState._reset_state()
