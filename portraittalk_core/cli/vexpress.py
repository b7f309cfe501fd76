"""The renderer `vexpress` of `portraittalk talk`: its options, and what they become."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, MissingDependency
from .arguments import chosen_place
from .progress import progress_bar
from .style import style_cues

if TYPE_CHECKING:
    from ..engines.registry import MotionEngine
    from ..pipelines.talk import TalkResult
    from ..renderers.vexpress.pipeline import VExpressOptions
    from ..types import MotionOptions, Portrait, Speech

NAME = "vexpress"
WEIGHTS = "huggingface.co/tk93/V-Express (research use only)"
ENCODER = "facebook/wav2vec2-base-960h (pytorch_model.bin or model.safetensors)"
VAE = "any full SD1.5 checkpoint, for its VAE, or --vae with a VAE's file or taesd_decoder.safetensors"
STEPS, GUIDANCE, SAMPLER = 25, 3.5, "ddim"  # of the public code
OF_IDENTITYNET = ("identity_adapter", "faces", "lora", "only_face", "controlnet", "animatenet", "motion_module")


def add_vexpress(parser: argparse.ArgumentParser) -> None:
    """The options of the command; --checkpoint, --steps, --cfg, --sampler, --width and so on are IdentityNet's too."""
    group = parser.add_argument_group(
        "vexpress (pip install diffusers)",
        "also --vae or --checkpoint (for its VAE), --style-attention, --width, --height, --overlap, --device, "
        f"--precision, and --steps ({STEPS}), --cfg ({GUIDANCE}) and --sampler ({SAMPLER})",
    )
    group.add_argument("--vexpress-folder", metavar="FOLDER", type=Path, help=f"folder with its five files, {WEIGHTS}")
    group.add_argument("--speech-encoder", metavar="FILE", type=Path, help=ENCODER)
    number = {"metavar": "X", "type": float}
    group.add_argument("--reference-weight", **number, default=0.95, help="how strongly the portrait's look acts")
    group.add_argument("--audio-weight", **number, default=3.0, help="how strongly the speech acts")
    group.add_argument("--vexpress-window", metavar="N", type=int, default=24, help="frames that it sees at once")


def vexpress_options(args: argparse.Namespace) -> bool:
    """Whether V-Express is asked for; what is wrong with its options is told before any work.

    Raises:
        MissingDependency: a file that is not there.
        InputError: a file is missing from the command line, or a number is out of range.
    """
    if args.renderer != NAME:
        return False
    needed = (
        (args.vexpress_folder, "--vexpress-folder FOLDER", f"V-Express's five files from {WEIGHTS}"),
        (args.vae or args.checkpoint, "--vae FILE" if args.vae else "--checkpoint FILE", VAE),
        (args.speech_encoder, "--speech-encoder FILE", ENCODER),
    )
    for path, flag, what in needed:
        if path is None:
            raise InputError(f"--renderer {NAME} needs {flag}: {what}.")
        if not path.exists():
            raise MissingDependency(f"{flag.split()[0]} {path} is not there; give {what}.")
    of_identitynet = [name for name in OF_IDENTITYNET if getattr(args, name)]
    if of_identitynet:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in of_identitynet)
        raise InputError(f"{flags} cannot be used with {NAME}; leave it out, or take --renderer identitynet.")
    if args.schedule is not None:
        raise InputError(f"--schedule {args.schedule} cannot be used with {NAME}, which has one of its own; leave it.")
    _painting(args)
    return True


def talk_with_vexpress(
    args: argparse.Namespace, portrait: Portrait, speech: Speech, options: MotionOptions, engine: MotionEngine
) -> TalkResult:
    """Portrait and speech to a video that V-Express has painted; the head moves as the motion engine has it."""
    from ..renderers.repaint import Watch
    from ..renderers.vexpress.pipeline import VExpressFiles, load_models
    from ..renderers.vexpress.talk import talk_vexpress
    from ..style.attention_files import VEXPRESS

    files = VExpressFiles([args.vexpress_folder], args.vae or args.checkpoint, args.speech_encoder)
    place = chosen_place(args)
    style = style_cues(args, place, VEXPRESS)  # what is wrong with it is told before much is read
    models = replace(load_models(files, *place), style=style)
    track = engine(speech, portrait.landmarks, options)
    with progress_bar("painting") as on_progress:
        video, watch = (args.speech, args.crf), Watch(on_progress)
        return talk_vexpress(portrait, track, speech, models, args.out, _painting(args), video, watch)


def _painting(args: argparse.Namespace) -> VExpressOptions:
    from ..renderers.vexpress.pipeline import VExpressOptions

    return VExpressOptions(
        args.width,
        args.height,
        STEPS if args.steps is None else args.steps,
        args.sampler or SAMPLER,
        args.seed,
        GUIDANCE if args.cfg is None else args.cfg,
        args.reference_weight,
        args.audio_weight,
        args.vexpress_window,
        args.overlap,
        "no_retarget",  # the track is the portrait's own
    )
