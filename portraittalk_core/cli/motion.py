"""Motion flags: the options of `MotionOptions`, and the engine.

The library is imported inside the functions, so that ``--help`` need not wait for torch.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..engines.registry import engine_specs, nameable_engines
from ..errors import InputError
from ..motion.dub_options import OF_THE_FILM
from ..motion.options import MotionOptions
from ..motion.point_files import PointFiles
from ..options import options_of
from .arguments import add_file, add_options, given_options, options_from
from .style import chosen_statistics, engine_with_style

if TYPE_CHECKING:
    from ..engines.contract import MotionEngine


def add_motion(parser: argparse.ArgumentParser, filmed: bool = False) -> None:
    """Add `MotionOptions` and the engine; a filmed face keeps the film's head motion, blinks and frame rate."""
    group = parser.add_argument_group("motion")
    add_options(group, MotionOptions, skip=OF_THE_FILM if filmed else ())
    if not filmed:
        add_options(group, PointFiles)
    group = parser.add_argument_group("motion engine")
    add_file(group, "--engine", "FILE", _engine_help(), False)
    add_file(group, "--encoder", "FILE", "speech encoder that the engine needs", False)
    add_file(group, "--face-model", "FOLDER", "folder with the 3-D face model that the engine needs", False)
    for spec in engine_specs():
        if spec.options is not None:
            add_options(group, spec.options)


def _engine_help() -> str:
    """Help text of --engine, from the registry."""
    files = ", ".join(spec.title for spec in engine_specs() if spec.files)
    names = ", ".join(nameable_engines())
    return (
        f"weights of another engine, known by their content ({files}), or the name of an engine that needs no file "
        f"({names}); if not given, the built-in one"
    )


def motion_options(args: argparse.Namespace) -> MotionOptions:
    """Motion options of the flags, checked before any work."""
    return options_from(args, MotionOptions, style_statistics=chosen_statistics(args))


def motion_engine(args: argparse.Namespace) -> MotionEngine:
    """Open the engine of --engine; a wrong file fails before any work."""
    from ..engines.contract import EngineFiles
    from ..engines.registry import open_engine

    own = {spec.name: given_options(args, spec.options) for spec in engine_specs() if spec.options is not None}
    files = EngineFiles(
        args.engine, args.encoder, args.face_model, {name: given for name, given in own.items() if given}
    )
    engine = open_engine(files)
    spec = next((spec for spec in engine_specs() if spec.name == engine.name), None)
    taken = {file.option for file in spec.files} if spec else {"encoder", "face_model"}
    unused = [name for name in ("encoder", "face_model") if getattr(files, name) is not None and name not in taken]
    other_options = [s.options for s in engine_specs() if s.name in files.options and s.name != engine.name]
    flags = ["--" + name.replace("_", "-") for name in unused]
    flags += [
        option.flag for kind in other_options for option in options_of(kind) if getattr(args, option.column) is not None
    ]
    if flags:
        flags = " and ".join(flags)
        raise InputError(f"{flags} cannot be used with the engine {engine.name}; leave it out, or give its --engine.")
    return engine_with_style(args, engine)
