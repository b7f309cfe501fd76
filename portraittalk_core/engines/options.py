"""Files and options of motion engines: a command's flags, and a manifest's columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import check_options, fields_given, option, options_of
from .contract import EngineFiles
from .registry import engine_specs

if TYPE_CHECKING:
    from .contract import MotionEngine


@dataclass(frozen=True)
class EngineFileOptions:
    """Files that a motion engine is opened from."""

    engine: Path | None = option(
        None, metavar="FILE", help="Weights of another motion engine, known by their content; none: the built-in one."
    )
    encoder: Path | None = option(None, metavar="FILE", help="Speech encoder that the engine needs.")
    face_model: Path | None = option(
        None, metavar="FOLDER", help="Folder with the 3-D face model that the engine needs."
    )

    def __post_init__(self) -> None:
        check_options(self)


def option_kinds() -> tuple[type, ...]:
    """The dataclasses whose options choose an engine: its files, and what single engines have."""
    return (EngineFileOptions, *(spec.options for spec in engine_specs() if spec.options is not None))


def engine_files(values: Mapping[str, object]) -> EngineFiles:
    """The argument of `open_engine` from values of `option_kinds`, by column; others are passed over."""
    files = EngineFileOptions(**fields_given(EngineFileOptions, values))
    own = {spec.name: fields_given(spec.options, values) for spec in engine_specs() if spec.options is not None}
    return EngineFiles(
        files.engine, files.encoder, files.face_model, {name: given for name, given in own.items() if given}
    )


def unused_columns(files: EngineFiles, engine: MotionEngine) -> list[str]:
    """Columns of what is given besides the weights and the opened engine has no use for."""
    specs = {spec.name: spec for spec in engine_specs()}
    taken = {file.option for file in specs[engine.name].files} if engine.name in specs else {"encoder", "face_model"}
    unused = [name for name in ("encoder", "face_model") if getattr(files, name) is not None and name not in taken]
    others = [(specs[name].options, given) for name, given in files.options.items() if name != engine.name]
    return unused + [spec.column for kind, given in others for spec in options_of(kind) if spec.name in given]
