"""Motion of a command line: the options of `MotionOptions`, and the engine.

The library is imported inside the functions, so that ``--help`` need not wait for torch.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from ..engines.registry import engine_specs, nameable_engines
from ..errors import InputError
from .arguments import add_file
from .style import chosen_manner

if TYPE_CHECKING:
    from ..engines.contract import MotionEngine
    from ..types import MotionOptions, Speech


def add_motion(parser: argparse.ArgumentParser, filmed: bool = False) -> None:
    """Every option of `types.MotionOptions`; a test holds the defaults together, for importing torch here is slow.

    Of a filmed face, head, blinks and frame rate are the film's.
    """
    group = parser.add_argument_group("motion")
    if not filmed:
        group.add_argument("--fps", metavar="RATE", default="25", help="frames per second: 25, 29.97, 30000/1001, …")
    number = {"metavar": "X", "type": float}
    group.add_argument("--mouth-gain", **number, default=1.0, help="0 keeps the mouth closed .. 2 exaggerates")
    if not filmed:
        group.add_argument("--head-motion", **number, default=1.0, help="0 locks the head .. 2 moves it a lot")
        group.add_argument("--blink-rate", **number, default=15.0, help="blinks per minute, 0..40")
    group.add_argument(
        "--silence-gate-db",
        **number,
        default=-45.0,
        help="sound this far below speech keeps the mouth shut",
    )
    group.add_argument("--smoothing", **number, default=0.3, help="0 none .. 1 strong")
    group.add_argument("--offset-ms", **number, default=0.0, help="moves the mouth later, or earlier below 0")
    group.add_argument("--seed", metavar="N", type=int, default=0, help="another number, other blinks and head motion")
    if not filmed:
        add_file(
            group,
            "--gain-points",
            "IN.json",
            "mouth gain over time, as [[seconds, gain], …]; times --mouth-gain",
            False,
        )
    group = parser.add_argument_group("motion engine")
    add_file(group, "--engine", "FILE", _engine_help(), False)
    add_file(group, "--encoder", "FILE", "speech encoder that the engine needs", False)
    add_file(group, "--face-model", "FOLDER", "folder with the 3-D face model that the engine needs", False)


def _engine_help() -> str:
    """What --engine takes, of the registry."""
    files = ", ".join(spec.title for spec in engine_specs() if spec.files)
    names = ", ".join(nameable_engines())
    return (
        f"weights of another engine, known by their content ({files}), or the name of an engine that needs no file "
        f"({names}); if not given, the built-in one"
    )


def motion_options(args: argparse.Namespace) -> MotionOptions:
    """Of the motion engine; a wrong one is told before any work."""
    from ..types import MotionOptions, as_fps

    names = [field.name for field in dataclasses.fields(MotionOptions) if field.name != "gain_curve"]
    given = {name: getattr(args, name) for name in names if hasattr(args, name)}  # a command need not have them all
    given["manner"] = chosen_manner(args)
    return MotionOptions(**given | ({"fps": as_fps(args.fps)} if "fps" in given else {}))


def motion_engine(args: argparse.Namespace) -> MotionEngine:
    """The engine of --engine; a wrong file is reported before any work."""
    from ..engines.contract import EngineFiles
    from ..engines.registry import open_engine

    if args.engine is None:
        return open_engine()
    return open_engine(EngineFiles(args.engine, args.encoder, args.face_model))


def with_gain_curve(options: MotionOptions, args: argparse.Namespace, speech: Speech) -> MotionOptions:
    """The options with the gain that a file of points gives every frame."""
    if args.gain_points is None:
        return options
    from ..motion.gain import gain_curve

    try:
        text = args.gain_points.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the gain points {args.gain_points} cannot be read ({error}); give a JSON file.") from error
    curve = gain_curve(text, speech.num_frames(options.fps), options.fps)
    return dataclasses.replace(options, gain_curve=curve)
