"""The command line: says what can be asked and hands each command its parsed options."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from . import (
    batch as cli_batch,
)
from . import (
    commands as cli_commands,
)
from . import (
    dub as cli_dub,
)
from . import (
    identitynet as cli_identity,
)
from . import (
    prepare as cli_prepare,
)
from . import (
    score as cli_score,
)
from . import (
    style as cli_style,
)
from . import (
    train as cli_train,
)
from .process import EXIT_USER, run_guarded

DEBUG_VARIABLE = "PORTRAITTALK_DEBUG"

DESCRIPTION = "One portrait and a speech clip become a talking-face video."
EPILOG = """examples:
  portraittalk talk --portrait me.jpg --speech hello.wav --out hello.mp4
  portraittalk landmarks --portrait me.jpg --speech hello.wav --out hello.safetensors
  portraittalk plot --track hello.safetensors --speech hello.wav --out hello.png
  portraittalk doctor

exit codes: 0 done, 2 something you gave cannot be used, 3 some of many failed (score, batch), 130 stopped,
1 a fault of this program"""

TALK_EXAMPLES = """examples:
  portraittalk talk --portrait me.jpg --speech hello.wav --out hello.mp4
  portraittalk talk --portrait group.jpg --face-index 1 --face-order left_to_right --speech a.mp3 --out a.mp4
  portraittalk talk --portrait me.png --speech talk.mov --fps 30000/1001 --head-motion 0 --out still.mp4
  portraittalk talk --portrait me.jpg --speech a.wav --renderer identitynet --checkpoint sd15.safetensors --out a.mp4"""
LANDMARKS_EXAMPLES = """example (edit or plot the motion before making pixels of it):
  portraittalk landmarks --portrait me.jpg --speech hello.wav --out hello.safetensors
  portraittalk render --portrait me.jpg --track hello.safetensors --speech hello.wav --out hello.mp4"""
TRACK_EXAMPLES = """example:
  portraittalk track --video interview.mp4 --on-missing interpolate --out interview.safetensors"""
RENDER_EXAMPLES = """example:
  portraittalk render --portrait me.jpg --track hello.safetensors --speech hello.wav --out hello.mp4"""
PLOT_EXAMPLES = """example:
  portraittalk plot --track hello.safetensors --speech hello.wav --out hello.png"""
DOCTOR_EXAMPLES = """examples:
  portraittalk doctor
  portraittalk doctor --models ~/ComfyUI/models --json"""


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the examples' line breaks and tells the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``portraittalk``; None takes those of this process.

    Returns:
        The exit code: 0 done, 2 the user's mistake, 130 stopped, 1 a fault of this program.
    """
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has said what is wrong, or shown the help
        return stop.code if isinstance(stop.code, int) else EXIT_USER
    return run_guarded(lambda: args.run(args), debug=args.debug or os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"))


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `run` to the function that carries it out."""
    parser = argparse.ArgumentParser("portraittalk", description=DESCRIPTION, epilog=EPILOG, formatter_class=_Help)
    parser.add_argument("--version", action="version", version=f"portraittalk {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_talk(commands)
    _add_dub(commands)
    _add_landmarks(commands)
    _add_style(commands)
    _add_track(commands)
    _add_render(commands)
    _add_plot(commands)
    _add_score(commands)
    _add_batch(commands)
    _add_prepare(commands)
    _add_train(commands)
    _add_doctor(commands)
    return parser


def _command(commands: argparse._SubParsersAction, name: str, purpose: str, examples: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=purpose, epilog=examples, formatter_class=_Help)
    parser.set_defaults(run=getattr(cli_commands, name, None))
    parser.add_argument("--debug", action="store_true", help="show tracebacks and all that libraries write")
    return parser


def _add_talk(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "talk", "make a talking video of a portrait and a speech clip", TALK_EXAMPLES)
    _portrait(parser)
    _file(parser, "--speech", "IN", "sound or video file with the speech; it becomes the video's sound")
    _file(parser, "--out", "OUT.mp4", "video to write")
    _motion_options(parser)
    cli_style.add_style(parser)
    _face_options(parser)
    _video_options(parser)
    cli_identity.add_renderer(parser)


def _add_dub(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "dub", "let the face of a video say something else", cli_dub.EXAMPLES)
    parser.set_defaults(run=cli_dub.dub)
    _file(parser, "--video", "IN", "video with a face in it; frames without it stay as they are")
    _file(parser, "--speech", "IN", "sound or video file with the new speech; it becomes the video's sound")
    _file(parser, "--out", "OUT.mp4", "video to write, of the same size, rate and length")
    _motion_options(parser, filmed=True)
    _face_options(parser)
    _video_options(parser)
    cli_identity.add_renderer(parser, portrait=False)


def _add_landmarks(commands: argparse._SubParsersAction) -> None:
    purpose = "make only the motion: the landmark track that a portrait follows to a speech clip"
    parser = _command(commands, "landmarks", purpose, LANDMARKS_EXAMPLES)
    _portrait(parser)
    _file(parser, "--speech", "IN", "sound or video file with the speech")
    _file(parser, "--out", "OUT.safetensors", "track to write")
    _motion_options(parser)
    cli_style.add_style(parser)
    _face_options(parser)


def _add_style(commands: argparse._SubParsersAction) -> None:
    purpose = "keep how somebody speaks, as a style that can be lent to any face"
    parser = _command(commands, "style", purpose, cli_style.EXAMPLES)
    cli_style.add_style_command(parser)
    _face_options(parser)


def _add_track(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "track", "find a face's landmarks in every frame of a real video", TRACK_EXAMPLES)
    _file(parser, "--video", "IN", "video with a face in it")
    _file(parser, "--out", "OUT.safetensors", "track to write")
    parser.add_argument("--fps", metavar="RATE", help="frames per second of the track; if not given, the video's own")
    parser.add_argument(
        "--on-missing",
        choices=("hold", "interpolate", "error"),
        default="hold",
        help="where no face is seen: keep the last landmarks, go straight to the next ones, or stop",
    )
    _face_options(parser)


def _add_render(commands: argparse._SubParsersAction) -> None:
    parser = _command(commands, "render", "make a video of a portrait that follows a landmark track", RENDER_EXAMPLES)
    _portrait(parser)
    _file(parser, "--track", "IN.safetensors", "track made by `landmarks` or `track`")
    _file(parser, "--speech", "IN", "sound or video file that becomes the video's sound; none if left out", False)
    _file(parser, "--out", "OUT.mp4", "video to write")
    parser.add_argument("--fps", metavar="RATE", help="frames per second of the video; if not given, the track's own")
    parser.add_argument(
        "--transfer",
        choices=("auto", "absolute", "relative"),
        default="auto",
        help="use the track's points as they are, carry the motion of another face over, or see which fits",
    )
    _face_options(parser)
    _video_options(parser)


def _add_plot(commands: argparse._SubParsersAction) -> None:
    purpose = "draw a track: mouth, jaw, blink and pose curves over the waveform, and thumbnails"
    parser = _command(commands, "plot", purpose, PLOT_EXAMPLES)
    _file(parser, "--track", "IN.safetensors", "track made by `landmarks` or `track`")
    _file(parser, "--speech", "IN", "sound whose waveform is drawn under the curves", False)
    _file(parser, "--out", "OUT.png", "picture to write")


def _add_score(commands: argparse._SubParsersAction) -> None:
    purpose = "measure made videos against real ones, or by themselves, with a report"
    parser = _command(commands, "score", purpose, cli_score.EXAMPLES)
    parser.set_defaults(run=cli_score.score)
    _mesh_options(cli_score.add_score(parser))


def _add_batch(commands: argparse._SubParsersAction) -> None:
    purpose = "work off a table of talk and score jobs, on one worker or many; finished ones are kept"
    parser = _command(commands, "batch", purpose, cli_batch.EXAMPLES)
    parser.set_defaults(run=cli_batch.batch)
    _mesh_options(cli_batch.add_batch(parser))


def _add_prepare(commands: argparse._SubParsersAction) -> None:
    purpose = "make training clips of a folder of videos: faces, landmarks, speech, and a report of the rest"
    parser = _command(commands, "prepare", purpose, cli_prepare.EXAMPLES)
    parser.set_defaults(run=cli_prepare.prepare)
    cli_prepare.add_prepare(parser)


def _add_train(commands: argparse._SubParsersAction) -> None:
    purpose = "train a network: speech to mouth, from nothing or fitted to a person; a face or its motion into SD1.5"
    parser = _command(commands, "train", purpose, cli_train.EXAMPLES)
    parser.set_defaults(run=cli_train.train)
    cli_train.add_train(parser)


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    purpose = "tell what is installed, which engines work, which weight files are known, and what to do"
    parser = _command(commands, "doctor", purpose, DOCTOR_EXAMPLES)
    parser.add_argument(
        "--models", metavar="FOLDER", type=Path, action="append", default=[], help="look for weight files here too"
    )
    parser.add_argument("--json", action="store_true", help="write JSON instead of tables")


def _file(parser: argparse.ArgumentParser, flag: str, metavar: str, meaning: str, required: bool = True) -> None:
    parser.add_argument(flag, metavar=metavar, type=Path, required=required, help=meaning)


def _portrait(parser: argparse.ArgumentParser) -> None:
    _file(parser, "--portrait", "PICTURE", "picture of a face, 128 to 4096 pixels a side")


def _motion_options(parser: argparse.ArgumentParser, filmed: bool = False) -> None:
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
        _file(
            group,
            "--gain-points",
            "IN.json",
            "mouth gain over time, as [[seconds, gain], …]; times --mouth-gain",
            False,
        )
    group = parser.add_argument_group("motion engine")
    _file(group, "--engine", "FILE", "weights of another engine, known by their content; if not given, ours", False)
    _file(group, "--encoder", "FILE", "speech encoder that the engine needs", False)
    _file(group, "--face-model", "FOLDER", "folder with the 3-D face model that the engine needs", False)


def _face_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("face")
    group.add_argument("--face-index", metavar="N", type=int, default=0, help="which face, from 0")
    group.add_argument(
        "--face-order",
        choices=("size", "left_to_right"),
        default="size",
        help="how faces are counted",
    )
    _mesh_options(group)


def _mesh_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--mesh-backend", choices=("auto", "solutions", "tasks", "torch"), default="auto", help="what finds landmarks"
    )
    group.add_argument(
        "--mesh-model", metavar="FILE", type=Path, help="a face_landmarker.task file for the tasks back end"
    )


def _video_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("video")
    group.add_argument("--crf", metavar="N", type=int, default=18, help="H.264 quality: 0 lossless .. 51 worst")
