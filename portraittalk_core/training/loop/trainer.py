"""Trains some weights of a frozen whole: one loop, on accelerate, for every stage that has a loss.

What chance decides at a step depends on the seed and the step only, so a run that was stopped goes on bit by bit as if
it had not been (on the CPU; on CUDA as far as its kernels repeat themselves).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ...checks import check_choice, check_range
from ...errors import InputError, MissingDependency
from ...media.atomic import explain_write_errors, whole_file
from ...media.image import save_picture
from .checkpoints import Checkpoint, check_settings, checkpoints, load_checkpoint, save_checkpoint, settings_hash
from .ema import Ema

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

PRECISIONS = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
CLIP_NORM = 1.0  # of the gradients of all weights together
FREE_TO_CHANGE = ("steps", "save_every", "sample_every", "keep_checkpoints")  # from one run to the next
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainerConfig:
    """How long and how fast; defaults of PortraitTalk where it says, else of PyTorch."""

    steps: int = 9400  # ten epochs of 30,000 frames in batches of 32
    batch_size: int = 4  # pictures that are in memory at a time
    gradient_accumulation: int = 8  # batches in a step: 4 · 8 = 32
    learning_rate: float = 5e-6
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    save_every: int = 500  # steps
    sample_every: int = 500  # steps; 0 for no pictures
    seed: int = 0
    mixed_precision: str = "no"
    keep_checkpoints: int = 3

    def __post_init__(self) -> None:
        check_choice(self.mixed_precision, tuple(PRECISIONS), "mixed_precision")
        check_range(self.learning_rate, 0, 1, "learning_rate")
        check_range(self.weight_decay, 0, 1, "weight_decay")
        check_range(self.ema_decay, 0, 0.999999, "ema_decay")
        limits = {"steps": 1, "batch_size": 1, "gradient_accumulation": 1, "save_every": 1, "sample_every": 0}
        for name, low in {**limits, "seed": 0, "keep_checkpoints": 1}.items():
            check_range(getattr(self, name), low, 10**9, name)


class Stage(Protocol):
    """What is trained: a few weights, and what they are good for."""

    def trainable(self) -> Mapping[str, nn.Parameter]:
        """The weights to train, by name, in float32."""

    def settings(self) -> Mapping[str, object]:
        """What a run cannot go on without if it changes, as JSON values."""

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move everything to the device, and what is frozen to the type."""

    def batch(self, step: int, part: int) -> Any:  # noqa: ANN401 - the stage's own
        """The pictures of a step's part; the same for the same numbers, whatever was asked before."""

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:  # noqa: ANN401
        """A scalar, and numbers to log; all chance from the generator, which is on the CPU."""

    def sample_images(self, tick: Callable[[], None]) -> Sequence[Tensor]:
        """Pictures (H, W, 3) uint8 of one size that show what has been learnt; calls `tick` now and then."""


@dataclass(frozen=True)
class TrainingResult:
    """What a run has made."""

    steps: int  # done in all
    resumed_from: int  # step where this run took up another one; 0 for none
    averages: Mapping[str, Tensor]  # EMA of the trained weights, by name, on the CPU
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
        InputError: `out` holds a run with other settings, or the loss is no longer a number.
        OutputError: `out` cannot be written.
    """
    with explain_write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with _accelerator(config) as accelerator:
        devices = [accelerator.device] if accelerator.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(config.seed)
            return _Run(stage, config, out, accelerator).go(on_progress or (lambda *_: None))


class _Run:
    """The state of a training."""

    def __init__(self, stage: Stage, config: TrainerConfig, out: Path, accelerator: Accelerator) -> None:
        self.stage, self.config, self.out, self.accelerator = stage, config, out, accelerator
        stage.place(accelerator.device, PRECISIONS[config.mixed_precision])
        self.parameters = dict(stage.trainable())
        optimizer = torch.optim.AdamW(self.parameters.values(), config.learning_rate, weight_decay=config.weight_decay)
        self.optimizer = accelerator.prepare_optimizer(optimizer, device_placement=False)
        self.ema = Ema(self.parameters, config.ema_decay)
        kept = {k: v for k, v in dataclasses.asdict(config).items() if k not in FREE_TO_CHANGE}
        self.settings = json.loads(json.dumps({**kept, **stage.settings()}))  # as a checkpoint gives them back
        self.log, self.checkpoints = out / "log.jsonl", out / "checkpoints"
        self.samples: list[Path] = []
        self.last: Path | None = None

    def go(self, on_progress: Progress) -> TrainingResult:
        """All steps that are left."""
        config, begun = self.config, self._resume()
        _cut_log(self.log, begun)
        parts = [(s, p) for s in range(begun + 1, config.steps + 1) for p in range(config.gradient_accumulation)]
        with self.log.open("a", encoding="utf-8") as lines:
            batches = _ahead(self.stage.batch, parts)
            with contextlib.closing(batches):
                for step in range(begun + 1, config.steps + 1):
                    lines.write(json.dumps({"step": step, **self._step(step, batches)}) + "\n")
                    lines.flush()
                    if config.sample_every and step % config.sample_every == 0:
                        self._sample(step, lambda step=step: on_progress(step - 1, config.steps))
                    if step % config.save_every == 0 or step == config.steps:
                        self.last = self._save(step)
                    on_progress(step, config.steps)
        averages = {name: average.cpu() for name, average in self.ema.averages.items()}
        done, found = max(begun, config.steps), settings_hash(self.settings)
        return TrainingResult(done, begun, averages, self.last, self.log, tuple(self.samples), found)

    def _step(self, step: int, batches: Iterator[Any]) -> dict[str, float]:
        """One update of the weights; what to log of it."""
        told: dict[str, float] = {}
        count = self.config.gradient_accumulation
        self.optimizer.zero_grad()
        for part in range(count):
            batch = next(batches)
            with self.accelerator.autocast():
                loss, more = self.stage.loss(batch, step_generator(self.config.seed, step, part))
            value = float(loss.detach())
            if not math.isfinite(value):
                raise InputError(
                    f"the loss is {value} at step {step}; train with a lower learning_rate or mixed_precision 'no'. "
                    f"The last checkpoint is {self.last or 'not made yet'}."
                )
            for name, number in {"loss": value, **more}.items():
                told[name] = told.get(name, 0.0) + number / count
            self.accelerator.backward(loss / count)
        norm = self.accelerator.clip_grad_norm_(self.parameters.values(), CLIP_NORM)
        self.optimizer.step()
        self.ema.update()
        norm = float(norm)
        return {**told, "gradient_norm": norm if math.isfinite(norm) else None}  # fp16 leaves out such a step

    def _sample(self, step: int, tick: Callable[[], None]) -> None:
        """Pictures of the averaged weights; training's chance is not touched."""
        devices = [self.accelerator.device] if self.accelerator.device.type == "cuda" else []
        with self.ema.in_place(), torch.random.fork_rng(devices=devices), torch.no_grad(), self.accelerator.autocast():
            pictures = list(self.stage.sample_images(tick))
        if not pictures:
            return
        path = self.out / "samples" / f"step_{step:08d}.png"
        with explain_write_errors(path):
            path.parent.mkdir(exist_ok=True)
        self.samples.append(save_picture(torch.cat([picture.cpu() for picture in pictures], 1), path))

    def _save(self, step: int) -> Path:
        tensors = {f"weights.{name}": tensor for name, tensor in self.parameters.items()}
        tensors |= {f"averages.{name}": tensor for name, tensor in self.ema.averages.items()}
        for name, parameter in self.parameters.items():
            tensors |= {f"optimizer.{k}.{name}": v for k, v in self.optimizer.state.get(parameter, {}).items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if self.accelerator.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.accelerator.device)
        notes: dict[str, object] = {"settings": self.settings, "settings_sha256": settings_hash(self.settings)}
        notes["updates"] = self.ema.updates
        if self.accelerator.scaler is not None:
            notes["scaler"] = self.accelerator.scaler.state_dict()
        return save_checkpoint(self.checkpoints, Checkpoint(step, tensors, notes), self.config.keep_checkpoints)

    def _resume(self) -> int:
        """Take up the last checkpoint; the number of steps that it has behind it."""
        found = checkpoints(self.checkpoints)
        if not found:
            return 0
        self.last = found[-1]
        kept = load_checkpoint(self.last)
        check_settings(self.settings, kept.notes["settings"], self.last)
        weights, averages = kept.part("weights"), kept.part("averages")
        if weights.keys() != self.parameters.keys() or averages.keys() != self.parameters.keys():
            raise InputError(f"{self.last} holds other weights than are trained now; train into another folder.")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])
                self.ema.averages[name].copy_(averages[name])
        self.ema.updates = kept.notes["updates"]
        moments = {kind: kept.part(f"optimizer.{kind}") for kind in ("step", "exp_avg", "exp_avg_sq")}
        state = {
            index: {kind: of[name] for kind, of in moments.items()}
            for index, name in enumerate(self.parameters)
            if name in moments["step"]
        }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        torch.set_rng_state(kept.tensors["random.cpu"])
        if "random.cuda" in kept.tensors and self.accelerator.device.type == "cuda":
            torch.cuda.set_rng_state(kept.tensors["random.cuda"], self.accelerator.device)
        if self.accelerator.scaler is not None and "scaler" in kept.notes:
            self.accelerator.scaler.load_state_dict(kept.notes["scaler"])
        log.info("training goes on at step %d from %s", kept.step, self.last)
        return kept.step


def step_generator(seed: int, step: int, part: int = 0) -> torch.Generator:
    """The source of chance of a step's part."""
    state = np.random.SeedSequence([seed, step, part]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def _ahead(batch: Callable[[int, int], Any], parts: Sequence[tuple[int, int]]) -> Iterator[Any]:
    """Batches in order; the next one is read while one is used."""
    with ThreadPoolExecutor(1, "portraittalk-batches") as worker:
        coming = worker.submit(batch, *parts[0]) if parts else None
        for following in [*parts[1:], None]:
            if coming is None:
                return
            ready, coming = coming.result(), worker.submit(batch, *following) if following else None
            yield ready


def _cut_log(path: Path, step: int) -> None:
    """Drop the lines of steps that are done again."""
    if not path.exists():
        return
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
    with whole_file(path) as part:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):  # cut off when the run was killed
        return math.inf


@contextlib.contextmanager
def _accelerator(config: TrainerConfig) -> Iterator[Accelerator]:
    """An accelerator of the wanted precision, and none afterwards: it is kept for the whole process otherwise."""
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
