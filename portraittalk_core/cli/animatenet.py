"""Options of `talk --renderer identitynet` that hold frames to landmarks and to each other, and what they become."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .style import style_cues

if TYPE_CHECKING:
    from ..diffusion.motion_modules import MotionModules
    from ..renderers.animatenet.control import FrameControl
    from ..renderers.identitynet.painter import Animation, FaceCues
    from ..types import LandmarkTrack, Portrait

MOUTH_WEIGHT = 1.5


def add_animation(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    group = parser.add_argument_group("identitynet: frames that follow the landmarks and hold together")
    number = {"metavar": "X", "type": float}
    group.add_argument("--controlnet", metavar="FILE", type=Path, help="landmark ControlNet for SD1.5")
    group.add_argument("--control-strength", **number, default=1.0, help="how strictly frames follow the landmarks")
    group.add_argument("--control-start", **number, default=0.0, help="part of the steps at which it sets in, 0..1")
    group.add_argument("--control-end", **number, default=1.0, help="part of the steps at which it ends")
    group.add_argument("--control-every", metavar="N", type=int, default=1, help="2: it runs in every second step only")
    group.add_argument("--mouth-weight", **number, default=MOUTH_WEIGHT, help="how much more it counts at the mouth")
    group.add_argument("--style-attention", metavar="FILE", type=Path, help="lets the checkpoint see --style too")
    group.add_argument(
        "--control-style",
        choices=("mediapipe_face", "head_kps", "landmarks"),
        default="mediapipe_face",
        help="the drawing that the ControlNet was trained on",
    )
    group.add_argument(
        "--head-placement",
        choices=("track", "follow"),
        default="track",
        help="the head stands where the track has it, or travels there from the portrait's own place without a jump",
    )
    group.add_argument("--animatenet", metavar="FILE", type=Path, help="AnimateNet of `train animatenet`, for control")
    group.add_argument("--landmark-tokens", **number, default=1.0, help="how strongly its landmark tokens act")
    group.add_argument("--placement-tokens", **number, default=1.0, help="how strongly its head placement tokens act")
    group.add_argument("--features", **number, default=0.0, help="how strongly SD1.5 looks at its features; 0 is off")
    group.add_argument("--motion-module", metavar="FILE", type=Path, help="AnimateDiff motion module for SD1.5")
    group.add_argument("--motion-strength", **number, default=1.0, help="how strongly it acts; 0 is off")
    group.add_argument(
        "--long-video",
        choices=("chunked", "sliding"),
        default="chunked",
        help="with a motion module: each chunk begins with the last frames of the one before, or fused windows",
    )
    group.add_argument("--window", metavar="N", type=int, default=16, help="frames that the motion module sees at once")
    group.add_argument("--overlap", metavar="N", type=int, default=4, help="frames that neighbours share")


def check_animation(args: argparse.Namespace) -> None:
    """Say what is wrong with the options before any work.

    Raises:
        InputError: a number out of range, or files that do not go together.
    """
    from ..checks import check_range
    from ..diffusion.windowed import VideoOptions
    from ..renderers.animatenet.animate_net import AnimateOptions
    from ..renderers.animatenet.mouth_weight import MOST

    check_range(args.control_strength, 0, 4, "--control-strength")
    check_range(args.control_start, 0, 1, "--control-start")
    check_range(args.control_end, 0, 1, "--control-end")
    if args.control_end <= args.control_start:
        raise InputError(
            f"--control-end {args.control_end:g} is not behind --control-start {args.control_start:g}: the ControlNet "
            "would never act."
        )
    check_range(args.control_every, 1, 8, "--control-every")
    check_range(args.mouth_weight, 0, MOST, "--mouth-weight")
    check_range(args.features, -1, 3, "--features")
    check_range(args.motion_strength, 0, 2, "--motion-strength")
    AnimateOptions(args.landmark_tokens, args.placement_tokens)
    VideoOptions(args.long_video, args.window, args.overlap)
    if args.animatenet is not None and (args.controlnet is None or args.control_strength == 0):
        raise InputError(
            "--animatenet acts inside of a ControlNet: give --controlnet FILE with a --control-strength above 0."
        )
    if args.features and args.animatenet is None:
        raise InputError("--features needs --animatenet FILE: the attention to features is in that file.")


def placed_track(args: argparse.Namespace, portrait: Portrait, track: LandmarkTrack) -> LandmarkTrack:
    """The track with the head where `--head-placement` wants it."""
    if args.head_placement == "track":
        return track
    from ..renderers.animatenet.head_placement import follow, place, placements

    return place(track, follow(placements(portrait.landmarks)[0], placements(track)))


def animation_of(args: argparse.Namespace, track: LandmarkTrack | None, where: tuple) -> Animation:
    """What holds the frames.

    Args:
        args: parsed and checked.
        track: on the painted pictures; None where no ControlNet is given.
        where: device and dtype.
    """
    from ..diffusion.motion_modules import load_motion_modules
    from ..renderers.identitynet.painter import Animation

    control = motion = told = None
    if args.motion_module is not None and args.motion_strength:
        motion = load_motion_modules(args.motion_module).to(*where)
    if track is not None and args.controlnet is not None and args.control_strength:
        control = _control(args, track, where, motion)
        told = None if args.animatenet is None else _told(args, track, where)
    return Animation(control, motion, args.motion_strength, told, style_cues(args, where))


def _control(
    args: argparse.Namespace, track: LandmarkTrack, where: tuple, motion: MotionModules | None
) -> FrameControl:
    from ..diffusion.samplers import sigma_at_part
    from ..diffusion.schedule import schedule_of
    from ..renderers.animatenet.control import ControlOptions, FrameControl, load_controlnet
    from ..renderers.animatenet.feature_attention import FeatureControl
    from ..renderers.animatenet.hints import track_hints
    from ..renderers.animatenet.mouth_weight import mouth_maps

    network, betas = load_controlnet(args.controlnet, *where), schedule_of(motion)
    window = (sigma_at_part(args.control_start, betas), sigma_at_part(args.control_end, betas))
    options = ControlOptions(args.control_strength, window, args.control_every)
    kind = FeatureControl if args.features else FrameControl
    return kind(network, track_hints(track, args.control_style), options, mouth_maps(track, args.mouth_weight))


def _told(args: argparse.Namespace, track: LandmarkTrack, where: tuple) -> FaceCues:
    from ..renderers.animatenet.animate_net import AnimateOptions, cues_of_track, load_animate_net
    from ..renderers.identitynet.painter import FaceCues

    net = load_animate_net(args.animatenet).to(*where)
    if args.features and not net.features:
        raise InputError(
            f"{args.animatenet.name} has no attention to features; train one with it, or leave --features at 0."
        )
    strengths = AnimateOptions(args.landmark_tokens, args.placement_tokens)
    return FaceCues(net, cues_of_track(track), strengths, args.features)
