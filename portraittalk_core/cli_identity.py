"""The renderer `identitynet` of `portraittalk talk`: its options, and what they become."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .cli_progress import progress_bar
from .errors import InputError

if TYPE_CHECKING:
    from .diffusion.checkpoint import SD15
    from .diffusion.painter import Animation, DiffusersPainter
    from .identity.adapter import IdentityAdapter
    from .motion.engines import MotionEngine
    from .pipelines.talk import TalkResult
    from .types import LandmarkTrack, MotionOptions, Portrait, Speech

RENDERERS = ("warp", "identitynet")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
DEFAULT_PROMPT = "portrait photo of a person speaking, sharp focus, natural light"
DEFAULT_NEGATIVE = "blurry, deformed teeth, text, watermark"


def add_renderer(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    group = parser.add_argument_group("renderer")
    group.add_argument(
        "--renderer",
        choices=RENDERERS,
        default="warp",
        help="warp needs no weights; identitynet lets your SD1.5 checkpoint paint every warped frame anew",
    )
    group = parser.add_argument_group("identitynet (pip install diffusers onnxruntime)")

    def path(flag: str, metavar: str, meaning: str, **more: object) -> None:
        group.add_argument(flag, metavar=metavar, type=Path, help=meaning, **more)

    def number(flag: str, kind: type, default: float, meaning: str) -> None:
        group.add_argument(flag, metavar="N" if kind is int else "X", type=kind, default=default, help=meaning)

    path("--checkpoint", "FILE", "SD1.5 checkpoint, one file; required")
    path("--identity-adapter", "FILE", "IP-Adapter FaceID file for SD1.5; without one the face is not held")
    path("--face-models", "FOLDER", "folder with InsightFace's buffalo_l; needed with an adapter")
    path("--faces", "PICTURE", "pictures of the person; if not given, the portrait", nargs="+", default=[])
    path("--clip-vision", "FILE", "CLIP-ViT-H vision model, for the adapters FaceID plus and IP-Adapter")
    path("--tokenizer", "FOLDER", "CLIP's tokenizer; if not given, ComfyUI's or the one on the hub")
    group.add_argument("--lora", metavar="FILE[:X]", action="append", default=[], help="LoRA and its strength")
    group.add_argument("--prompt", metavar="TEXT", default=DEFAULT_PROMPT, help="what the frames are to show")
    group.add_argument("--negative-prompt", metavar="TEXT", default=DEFAULT_NEGATIVE, help="what they are not to show")
    number("--identity-strength", float, 0.8, "how strongly the face acts; 0 is the plain checkpoint")
    number("--adapter-lora", float, 1.0, "strength of the LoRA inside the adapter; 0 for none")
    number("--denoise", float, 0.45, "0 gives the warp back, 0.3 to 0.6 paint mouth and skin anew")
    number("--steps", int, 20, "of denoising, for every frame")
    number("--cfg", float, 3.5, "how strictly the prompt is followed")
    group.add_argument("--sampler", metavar="NAME", default="euler", help="as ComfyUI names it: euler, dpmpp_2m, …")
    group.add_argument("--schedule", metavar="NAME", default="normal", help="as ComfyUI names it: normal, karras, …")
    number("--width", int, 512, "of the frames, a multiple of 8")
    number("--height", int, 512, "of the frames, a multiple of 8")
    number("--batch-size", int, 1, "frames painted at once")
    _add_animation(parser)
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, mps; if not given, the fastest there is")
    group.add_argument("--precision", choices=PRECISIONS, default="auto", help="auto: fp16 on a GPU, else fp32")


def _add_animation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("identitynet: frames that follow the landmarks and hold together")
    number = {"metavar": "X", "type": float}
    group.add_argument("--controlnet", metavar="FILE", type=Path, help="landmark ControlNet for SD1.5")
    group.add_argument("--control-strength", **number, default=1.0, help="how strictly frames follow the landmarks")
    group.add_argument(
        "--control-style",
        choices=("mediapipe_face", "head_kps", "landmarks"),
        default="mediapipe_face",
        help="the drawing that the ControlNet was trained on",
    )
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


def identity_options(args: argparse.Namespace) -> bool:
    """Whether IdentityNet is asked for; what is wrong with its options is told before any work.

    Raises:
        InputError: a file is missing from the command line, or a number is out of range.
    """
    if args.renderer != "identitynet":
        return False
    if args.checkpoint is None:
        raise InputError("--renderer identitynet needs --checkpoint FILE: any SD1.5 checkpoint.")
    if args.identity_adapter is not None and args.face_models is None:
        raise InputError(
            "--identity-adapter needs --face-models FOLDER: where InsightFace's det_10g.onnx and w600k_r50.onnx are."
        )
    from .checks import check_range
    from .diffusion.samplers import SAMPLERS, SCHEDULES, SamplerOptions
    from .diffusion.windowed import VideoOptions
    from .face.fit import check_size
    from .identity.adapter import IdentityOptions

    check_size(args.width, args.height)
    check_range(args.cfg, 0, 100, "--cfg")
    check_range(args.steps, 1, 1000, "--steps")
    check_range(args.denoise, 0, 1, "--denoise")
    check_range(args.batch_size, 1, 256, "--batch-size")
    for word, choices, name in ((args.sampler, SAMPLERS, "--sampler"), (args.schedule, SCHEDULES, "--schedule")):
        if word not in choices:
            raise InputError(f"{name} {word} is not known; choose one of {', '.join(choices)}.")
    IdentityOptions(args.identity_strength)
    check_range(args.control_strength, 0, 4, "--control-strength")
    check_range(args.motion_strength, 0, 2, "--motion-strength")
    VideoOptions(args.long_video, args.window, args.overlap)
    SamplerOptions(args.sampler, args.schedule, args.steps, args.denoise, args.seed)
    return True


def talk_with_identity(
    args: argparse.Namespace, portrait: Portrait, speech: Speech, options: MotionOptions, engine: MotionEngine
) -> TalkResult:
    """Portrait and speech to a video that SD1.5 has painted."""
    from .face.fit import fit_to, fitted
    from .pipelines.repaint import Watch, paint_talk, paint_track

    placed = fitted(portrait, fit_to(portrait, args.width, args.height))
    video = (args.speech, args.crf)
    if args.controlnet is None:
        painter = _painter(args, portrait, None)
        with progress_bar("painting") as on_progress:
            watch = Watch(on_progress)
            return paint_talk(placed, speech, painter, args.out, options, engine=engine, video=video, watch=watch)
    track = engine(speech, placed.landmarks, options)
    painter = _painter(args, portrait, track)
    with progress_bar("painting") as on_progress:
        watch = Watch(on_progress)
        return paint_track(placed, track, painter, args.out, sound=args.speech, crf=args.crf, watch=watch)


def _animation(args: argparse.Namespace, track: LandmarkTrack | None, place: tuple) -> Animation:
    from .animate.hints import track_hints
    from .animate.temporal import load_motion_modules
    from .diffusion.control import ControlOptions, FrameControl, load_controlnet
    from .diffusion.painter import Animation

    control = motion = None
    if track is not None and args.control_strength:
        network = load_controlnet(args.controlnet, *place)
        control = FrameControl(network, track_hints(track, args.control_style), ControlOptions(args.control_strength))
    if args.motion_module is not None and args.motion_strength:
        motion = load_motion_modules(args.motion_module).to(*place)
    return Animation(control, motion, args.motion_strength)


def _painter(args: argparse.Namespace, portrait: Portrait, track: LandmarkTrack | None) -> DiffusersPainter:
    from .diffusion.checkpoint import load_sd15
    from .diffusion.denoiser import Condition
    from .diffusion.painter import DiffusersPainter, PaintOptions
    from .diffusion.samplers import SamplerOptions
    from .diffusion.text import encode_text, find_tokenizer
    from .diffusion.windowed import VideoOptions

    device, dtype = _place(args)
    adapter = _adapter(args)
    faces = None if adapter is None else _faces(args, portrait, adapter)
    sd15 = load_sd15(args.checkpoint, device, dtype)
    if sd15.text_encoder is None:
        raise InputError(f"{args.checkpoint.name} holds no text encoder; use a full SD1.5 checkpoint.")
    _merge_loras(args, sd15, adapter)
    tokenizer = find_tokenizer(args.tokenizer)
    texts = [encode_text(sd15.text_encoder, tokenizer, text) for text in (args.prompt, args.negative_prompt)]
    branches = {} if adapter is None else _branches(args, adapter.to(device, dtype), faces.to(device))
    sampling = SamplerOptions(args.sampler, args.schedule, args.steps, args.denoise, args.seed)
    cond = Condition(texts[0], texts[1], args.cfg)
    video = VideoOptions(args.long_video, args.window, args.overlap)
    animation = _animation(args, track, (device, dtype))
    return DiffusersPainter(sd15, cond, branches, PaintOptions(sampling, args.batch_size, video), animation)


def _place(args: argparse.Namespace) -> tuple[str, object]:
    import torch

    fastest = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = args.device or fastest
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"--device {device} cannot be used here ({reason}); try cpu.") from error
    chosen = args.precision if args.precision != "auto" else "fp32" if device == "cpu" else "fp16"
    return device, {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[chosen]


def _adapter(args: argparse.Namespace) -> IdentityAdapter | None:
    from .identity.adapter import load_adapter

    return None if args.identity_adapter is None else load_adapter(args.identity_adapter)


def _faces(args: argparse.Namespace, portrait: Portrait, adapter: IdentityAdapter) -> object:
    """(2, T, 768) tokens of the person."""
    from .face.face_encoder import CROP_PX, FaceEncoder, find_face_models
    from .face.fit import face_surroundings
    from .media.image import load_picture

    pictures = [load_picture(path) for path in args.faces] or [face_surroundings(portrait)]
    names = [path.name for path in args.faces] or [portrait.source]
    with FaceEncoder(find_face_models([args.face_models])) as encoder:
        found = encoder.encode(pictures, names, crop_px=CROP_PX)
    embedding = found.embedding
    if args.clip_vision is not None:
        from .face.clip_view import load_clip_vision, with_clip_view

        embedding = with_clip_view(embedding, found.crops, load_clip_vision(args.clip_vision))
    return adapter.tokens(embedding)


def _merge_loras(args: argparse.Namespace, sd15: SD15, adapter: IdentityAdapter | None) -> None:
    from .checks import check_range
    from .diffusion.adapter_lora import kohya_lora
    from .diffusion.lora import merge_lora
    from .weights.load import read_tensors

    for given in args.lora:
        name, _, number = given.rpartition(":")
        path, strength = (name, number) if name and _is_number(number) else (given, "1")
        merge_lora(sd15, read_tensors(Path(path)), check_range(float(strength), -10, 10, "a LoRA's strength"), path)
    if adapter is not None and adapter.lora and args.adapter_lora and args.identity_strength:
        merge_lora(sd15, kohya_lora(adapter.lora), args.adapter_lora, args.identity_adapter.name)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _branches(args: argparse.Namespace, adapter: IdentityAdapter, tokens: object) -> dict:
    from .diffusion.sites import SITES
    from .identity.adapter import IdentityOptions, identity_branches

    keys = [site.adapter_key for site in SITES]
    made = identity_branches(adapter, tokens, keys, IdentityOptions(args.identity_strength))
    return {index: [branch] for index, branch in made.items()}
