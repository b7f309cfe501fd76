"""Training checkpoints: one safetensors file, text as JSON in its header, that holds all a run needs to go on.

Whole or not there, and nothing in it can run code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...errors import InputError
from ...media.files import explain_write_errors
from ...media.tensor_file import save_tensors

_NAME = re.compile(r"^step_(\d{8})\.safetensors$")


@dataclass(frozen=True)
class Checkpoint:
    """State of a run after a step."""

    step: int  # done
    tensors: Mapping[str, Tensor]  # weights, buffers, averages, optimizer and random states, names joined by dots
    notes: Mapping[str, object]  # what JSON can hold: settings, counters

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `name` and a dot, without it."""
        return {key[len(name) + 1 :]: tensor for key, tensor in self.tensors.items() if key.startswith(f"{name}.")}


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint into a folder, then remove all but the latest `keep`; return its path.

    Raises:
        OutputError: it cannot be written; older ones stay as they are.
    """
    path = folder / f"step_{checkpoint.step:08d}.safetensors"
    with explain_write_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
    notes = {"step": checkpoint.step, **checkpoint.notes}
    save_tensors(checkpoint.tensors, path, {"checkpoint": json.dumps(notes)})
    for old in checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a folder, the earliest first."""
    return sorted(path for path in folder.glob("step_*.safetensors") if _NAME.match(path.name))


def remove_leftovers(folder: Path) -> None:
    """Remove partial files of checkpoints whose writing was interrupted."""
    for path in folder.glob(".step_*.part.safetensors"):
        path.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: damaged, or another file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            notes = json.loads((file.metadata() or {})["checkpoint"])
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
        return Checkpoint(int(notes.pop("step")), tensors, notes)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is not a whole checkpoint ({error}); delete it to go on from the one before."
        ) from error


def check_settings(now: Mapping[str, object], then: Mapping[str, object], path: Path) -> None:
    """Check that a run resumes with the settings of its checkpoint.

    Raises:
        InputError: with every field that differs.
    """
    absent = "absent"
    names = sorted(name for name in now.keys() | then.keys() if now.get(name, absent) != then.get(name, absent))
    if names:
        changes = "; ".join(f"{name} was {then.get(name, absent)!r}, is {now.get(name, absent)!r}" for name in names)
        raise InputError(
            f"{path} was made with other settings: {changes}. Set them as they were, or train into another folder."
        )


def check_names(kind: str, now: Collection[str], then: Collection[str], path: Path) -> None:
    """Check that a checkpoint holds exactly the tensors that are trained now.

    Args:
        kind: what they are, for the message: "weights".
        now: names.
        then: names in the checkpoint.
        path: of the checkpoint.

    Raises:
        InputError: with some of the names that differ.
    """
    missing, extra = sorted(set(now) - set(then)), sorted(set(then) - set(now))
    faults = [
        f"it {what} {', '.join(names[:4])}" for what, names in (("lacks", missing), ("also holds", extra)) if names
    ]
    if faults:
        raise InputError(
            f"{path} holds other {kind} than are trained now: {'; '.join(faults)}. Train into another folder."
        )
