"""The command `live`: a portrait that speaks while somebody speaks."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ..errors import InputError
from ..motion.options import MotionOptions
from ..motion.point_files import PointFiles
from ..pipelines.live_options import LiveOptions
from .arguments import Command, add_face, add_file, add_options, add_portrait, options_from
from .portrait import portrait_from
from .style import add_style, steady_statistics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

EXAMPLES = """examples:
  portraittalk live --portrait me.jpg
  portraittalk live --portrait me.jpg --output http --port 8190
  portraittalk live --portrait me.jpg --microphone hw:1,0 --output /dev/video2
  arecord -f S16_LE -r 16000 -t wav | portraittalk live --portrait me.jpg --stdin
  portraittalk live --portrait me.jpg --speech hello.wav"""


def live(args: argparse.Namespace) -> None:
    """Show a portrait that speaks what is heard."""
    sources = [flag for flag in ("speech", "stdin", "microphone") if getattr(args, flag)]
    if len(sources) > 1:
        flags = " and ".join(f"--{flag}" for flag in sources)
        raise InputError(f"{flags} are two sounds; give one of them, or none to listen to the default microphone.")
    options = options_from(args, MotionOptions, style_statistics=steady_statistics(args))
    if options.offset_ms < 0:
        raise InputError(f"--offset-ms must be at least 0 here, but is {options.offset_ms:g}: nothing is shown early.")
    live_options = options_from(args, LiveOptions)
    options = options_from(args, PointFiles).read_into(options)
    from ..engines.builtin.mouth_model import load_mouth
    from ..media.live_video import open_live_output
    from ..pipelines.live import live as run_live

    load_mouth(args.engine)  # loaded now, so that a wrong file is told before a window opens
    portrait, sound = portrait_from(args), _sound(args)
    height, width = portrait.picture.shape[:2]
    output = open_live_output(live_options.output, width, height, options.fps, live_options.port)
    try:
        print(f"showing {portrait.source} in {output.where}; Ctrl-C ends it", flush=True)
        print(run_live(portrait, sound, output.show, options, network=args.engine).text)
    finally:
        output.close()


def _sound(args: argparse.Namespace) -> Iterable[Tensor]:
    from ..media import live_sound

    if args.speech is not None:
        from ..media.audio import load_speech

        return iter([load_speech(args.speech).waveform])
    if args.stdin:
        return live_sound.stream_sound(sys.stdin.buffer)
    return live_sound.microphone_sound(args.microphone or "")


def _add(parser: argparse.ArgumentParser) -> None:
    add_portrait(parser)
    sound = parser.add_argument_group("sound", "the default microphone, or one of these")
    sound.add_argument("--microphone", metavar="NAME", help="another microphone, as the system's sound calls it")
    sound.add_argument("--stdin", action="store_true", help="a WAV that is piped in")
    add_file(sound, "--speech", "IN", "a sound or video file, at its own pace", False)
    add_options(parser.add_argument_group("pictures"), LiveOptions)
    motion = parser.add_argument_group("motion")
    add_options(motion, MotionOptions)
    add_options(motion, PointFiles, skip=("gain_points",))
    network = "your own network of `train mouth` or `train closures`; if not given, the built-in one"
    add_file(motion, "--engine", "FILE", network, False)
    add_style(parser)
    add_face(parser)


COMMAND = Command("live", "show a portrait that speaks while you speak", EXAMPLES, _add, live)
