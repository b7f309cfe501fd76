"""Motion flags: the options of `MotionOptions`, and the engine.

The library is imported inside the functions, so that ``--help`` need not wait for torch.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..engines.options import engine_files, option_kinds, unused_columns
from ..engines.registry import engine_specs, nameable_engines
from ..errors import InputError
from ..motion.dub_options import OF_THE_FILM
from ..motion.options import MotionOptions
from ..motion.point_files import PointFiles
from ..options import check_option, columns_of
from .arguments import add_file, add_options, options_from
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
    for kind in option_kinds():
        add_options(group, kind, skip=("engine",))


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
    from ..engines.registry import open_engine

    options = columns_of(*option_kinds())
    given = {column: getattr(args, column) for column in options if getattr(args, column) is not None}
    for column, value in given.items():
        check_option(options[column], value, options[column].flag)
    files = engine_files(given)
    engine = open_engine(files)
    if unused := unused_columns(files, engine):
        flags = " and ".join(options[column].flag for column in unused)
        raise InputError(f"{flags} cannot be used with the engine {engine.name}; leave it out, or give its --engine.")
    return engine_with_style(args, engine)
