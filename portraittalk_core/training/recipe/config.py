"""Settings of PortraitTalk's whole training, and their TOML reader.

Source: PortraitTalk, "Implementation Details".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...checks import check_range, is_finite_number
from ...errors import InputError
from ..animatenet.config import AnimateTraining
from ..identitynet.config import IdentityTraining, read_settings, read_toml
from ..loop.config import TrainerConfig

STAGES = {"identity": IdentityTraining, "spatial": AnimateTraining, "joint": AnimateTraining}
EPOCHS = {"identity": 10, "spatial": 100, "joint": 50}  # the paper's
# what one stage hands to the next, so that nobody may set it
HANDED = {
    "identity": ("out",),
    "spatial": ("out", "stage", "identity", "animate_net"),
    "joint": ("out", "stage", "identity", "controlnet", "animate_net"),
}
FIXED = {
    "identity": {},
    "spatial": {"stage": "spatial", "batch_unit": "frames", "train_identity": False, "train_unet": False},
    "joint": {"stage": "joint", "batch_unit": "frames"},
}
DEFAULTS = {"references": 4, "remove_background": True}  # of all stages
OWN_DEFAULTS = {"joint": {"train_identity": True}}
TRAINER_DEFAULTS = {"unit": "epochs", "save_every": 1, "sample_every": 1}
FRAMES = AnimateTraining.frames  # of a clip of the joint stage, where nothing is said
MAX_EPOCHS = 10**6


@dataclass(frozen=True)
class RecipeTraining:
    """Settings of the three stages; paths of what they hand to each other are filled in as they are made."""

    out: Path  # folder with a folder for each stage
    identity: IdentityTraining
    spatial: AnimateTraining
    joint: AnimateTraining


def load_recipe(path: Path) -> RecipeTraining:
    """Read the settings from a TOML file; relative paths in it start at its own folder.

    What stands at the top is for every stage that knows it, what stands in the tables `identity`, `spatial` and `joint`
    for one. The keys are those of the stages' own files.

    Raises:
        InputError: not there, no TOML, an unknown or absent name, or a value of another type or out of range.
        MissingDependency: Python 3.10 without tomli.
    """
    path = Path(path)
    content = {**DEFAULTS, **read_toml(path)}
    epochs = {stage: _epochs(content.pop(f"{stage}_epochs", EPOCHS[stage]), stage, path) for stage in STAGES}
    tables = {stage: _table(content.pop(stage, {}), stage, path) for stage in STAGES}
    trainer = _table(content.pop("trainer", {}), "trainer", path)
    if not isinstance(content.get("out"), str):
        raise InputError(f"{path} lacks out, the folder that gets a folder for each stage.")
    _check_names(content, path)
    configs = {}
    for stage, kind in STAGES.items():
        table = tables[stage]
        _check_own(table, stage, path)
        names = {field.name for field in dataclasses.fields(kind)}
        shared = {name: value for name, value in content.items() if name in names}
        values = {**shared, **OWN_DEFAULTS.get(stage, {}), **table, **FIXED[stage], "out": f"{content['out']}/{stage}"}
        own_trainer = _table(table.get("trainer", {}), f"{stage}.trainer", path)
        values["trainer"] = {**TRAINER_DEFAULTS, **trainer, **own_trainer, "epochs": epochs[stage]}
        if stage != "identity":  # who is shown is the file of the stage before, which is not there yet
            values["identity"] = f"{content['out']}/identity/identity_adapter.safetensors"
        if stage == "joint" and "batch_size" not in own_trainer:
            values["trainer"] |= _split(values["trainer"], values.get("frames", FRAMES), path)
        configs[stage] = read_settings(kind, values, path, f"{stage}.")
    return RecipeTraining(configs["identity"].out.parent, **configs)


def _split(trainer: Mapping[str, Any], frames: object, path: Path) -> dict[str, int]:
    """The frames of a step as whole clips: how many frames are in memory at a time, and how often."""
    parts = {name: trainer.get(name, getattr(TrainerConfig, name)) for name in ("batch_size", "gradient_accumulation")}
    numbers = [frames, *parts.values()]
    if not all(type(number) is int and 0 < number < 10**9 for number in numbers):
        return parts  # what reads the settings says what is wrong
    total, batch = parts["batch_size"] * parts["gradient_accumulation"], parts["batch_size"] // frames * frames
    batch = batch if batch and total % batch == 0 else frames
    if total % batch:
        raise InputError(
            f"{path}: a step of {total} frames (batch_size · gradient_accumulation) cannot be made of clips of "
            f"{frames} frames; change joint.frames, or set batch_size and gradient_accumulation in [joint.trainer]."
        )
    return {"batch_size": batch, "gradient_accumulation": total // batch}


def _epochs(value: object, stage: str, path: Path) -> int:
    if type(value) is not int or not is_finite_number(value):
        raise InputError(f"{path}: {stage}_epochs must be a whole number, not {value!r}.")
    return int(check_range(value, 1, MAX_EPOCHS, f"{stage}_epochs"))


def _table(value: object, name: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{path}: {name} must be a table, [{name}], not {value!r}.")
    if name.endswith("trainer") and (counted := {"steps", "epochs"} & value.keys()):
        raise InputError(
            f"{path}: {name}.{min(counted)} is not for the recipe, whose stages are counted in epochs; set "
            f"{', '.join(f'{stage}_epochs' for stage in STAGES)}."
        )
    return value


def _check_names(content: Mapping[str, Any], path: Path) -> None:
    """Check that every name at the top is for some stage."""
    field_names = {field.name for kind in STAGES.values() for field in dataclasses.fields(kind)}
    field_names -= {"stage", "identity", "controlnet", "animate_net", "batch_unit"}
    if unknown := [name for name in content if name not in field_names]:
        raise InputError(
            f"{path} holds unknown names: {', '.join(unknown)}. At the top stand {', '.join(sorted(field_names))}, "
            f"{', '.join(f'{stage}_epochs' for stage in STAGES)}, and the tables trainer, {', '.join(STAGES)}."
        )


def _check_own(table: Mapping[str, Any], stage: str, path: Path) -> None:
    handed = [name for name in table if name in (*HANDED[stage], "checkpoint", "data")]
    if handed:
        raise InputError(f"{path}: {stage}.{handed[0]} is set by the recipe itself; leave it out there.")
    contradicted = [name for name, value in FIXED[stage].items() if table.get(name, value) != value]
    if contradicted:
        name = contradicted[0]
        raise InputError(f"{path}: {stage}.{name} is {FIXED[stage][name]!r} in the recipe; leave it out there.")
