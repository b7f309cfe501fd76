"""The command `dub`: a video whose face says something else."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from ..errors import InputError
from .arguments import VIDEO_SUFFIXES, check_crf, check_output, open_asked_mesh
from .identitynet import identity_options, make_painter
from .progress import progress_bar
from .resume import resumed

if TYPE_CHECKING:
    from ..pipelines.dub import Dub
    from ..pipelines.talk import TalkResult

EXAMPLES = """examples:
  portraittalk dub --video interview.mp4 --speech new.wav --out dubbed.mp4
  portraittalk dub --video a.mp4 --speech b.wav --renderer identitynet --checkpoint sd15.safetensors --out c.mp4"""


def dub(args: argparse.Namespace) -> None:
    """Video and speech to a video that says it."""
    from .commands import motion_engine, motion_options

    started = time.perf_counter()
    check_output(args.out, (args.video, args.speech), VIDEO_SUFFIXES)
    check_crf(args.crf)
    options, painted = motion_options(args), identity_options(args)
    if painted and args.head_placement != "track":
        raise InputError("--head-placement follow is for portraits: in a video the head stands where it was filmed.")
    from ..media.audio import load_speech
    from ..pipelines.dub import plan_dub

    engine, speech = motion_engine(args), load_speech(args.speech)
    with open_asked_mesh(args) as mesh, progress_bar("finding landmarks") as on_progress:
        face = (args.face_index, args.face_order)
        planned = plan_dub(args.video, speech, options, engine, mesh=mesh, face=face, on_progress=on_progress)
    result = _painted(args, planned) if painted else _warped(args, planned)
    took_s = time.perf_counter() - started
    print(f"{result.path}: {result.seconds:.2f} s, {result.num_frames} frames at {float(result.fps):g} fps, "
          f"made in {took_s:.1f} s")  # fmt: skip
    if planned.num_faceless:
        print(f"No face was seen in {planned.num_faceless} of {result.num_frames} frames; they say nothing new.")


def _warped(args: argparse.Namespace, planned: Dub) -> TalkResult:
    from ..pipelines.dub import write_dub
    from ..renderers.repaint import Watch

    with progress_bar("dubbing") as on_progress:
        return write_dub(planned, args.out, sound=args.speech, crf=args.crf, watch=Watch(on_progress))


def _painted(args: argparse.Namespace, planned: Dub) -> TalkResult:
    from ..face.crop import CropOptions, plan_face_crop
    from ..pipelines.dub import resting_portrait, write_dub
    from ..renderers.repaint import Watch

    crop = plan_face_crop(planned.spoken, CropOptions(size=args.width))
    painter = make_painter(args, resting_portrait(planned), crop.track_on_crop())
    with resumed(args) as sections, progress_bar("painting") as on_progress:
        watch = Watch(on_progress, sections=sections)
        return write_dub(planned, args.out, sound=args.speech, crf=args.crf, watch=watch, painted=(painter, crop))
