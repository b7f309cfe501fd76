"""The renderer `identitynet` of `portraittalk talk`: its options, and what they become."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .animatenet import add_animation, animation_of, check_animation, placed_track
from .arguments import chosen_place
from .progress import progress_bar
from .resume import add_resume, resumed
from .vexpress import NAME as VEXPRESS
from .vexpress import add_vexpress

if TYPE_CHECKING:
    from ..diffusion.checkpoint import SD15
    from ..engines.registry import MotionEngine
    from ..pipelines.talk import TalkResult
    from ..renderers.identitynet.adapter import IdentityAdapter
    from ..renderers.identitynet.painter import DiffusersPainter
    from ..types import LandmarkTrack, MotionOptions, Portrait, Speech

RENDERERS = ("warp", "identitynet")  # of `dub`; `talk` has another
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
DEFAULT_PROMPT = "portrait photo of a person speaking, sharp focus, natural light"
DEFAULT_NEGATIVE = "blurry, deformed teeth, text, watermark"
PRESETS = {
    "quality": {"steps": 30, "cfg": 3.5, "sampler": "dpmpp_2m", "schedule": "karras"},
    "balanced": {"steps": 20, "cfg": 3.5, "sampler": "euler", "schedule": "normal"},
    "fast": {"steps": 4, "cfg": 1.0, "sampler": "lcm", "schedule": "sgm_uniform"},
}


def add_renderer(parser: argparse.ArgumentParser, portrait: bool = True) -> None:
    """The options of the commands `talk` and, without a portrait, `dub`."""
    group = parser.add_argument_group("renderer")
    group.add_argument(
        "--renderer",
        choices=(*RENDERERS, VEXPRESS) if portrait else RENDERERS,
        default="warp",
        help="warp needs no weights; identitynet lets your SD1.5 checkpoint paint every warped frame anew"
        + ("; vexpress paints with V-Express's weights" if portrait else ""),
    )
    group = parser.add_argument_group("identitynet (pip install diffusers onnxruntime)")

    def path(flag: str, metavar: str, meaning: str, **more: object) -> None:
        group.add_argument(flag, metavar=metavar, type=Path, help=meaning, **more)

    def number(flag: str, kind: type, default: float, meaning: str) -> None:
        group.add_argument(flag, metavar="N" if kind is int else "X", type=kind, default=default, help=meaning)

    path("--checkpoint", "FILE", "SD1.5 checkpoint, one file; required")
    path("--vae", "FILE", "SD1.5 VAE instead of the checkpoint's, or taesd_decoder.safetensors: rougher, 16 x as fast")
    path("--identity-adapter", "FILE", "IP-Adapter FaceID file for SD1.5; without one the face is not held")
    path("--face-models", "FOLDER", "folder with InsightFace's buffalo_l; needed with an adapter")
    path("--faces", "PICTURE", "pictures of the person; if not given, the portrait", nargs="+", default=[])
    path("--clip-vision", "FILE", "CLIP-ViT-H vision model, for the adapters FaceID plus and IP-Adapter")
    path("--tokenizer", "FOLDER", "CLIP's tokenizer; if not given, ComfyUI's or the one on the hub")
    group.add_argument("--lora", metavar="FILE[:X]", action="append", default=[], help="LoRA file and its strength")
    group.add_argument("--prompt", metavar="TEXT", default=DEFAULT_PROMPT, help="what the frames are to show")
    group.add_argument("--negative-prompt", metavar="TEXT", default=DEFAULT_NEGATIVE, help="what they are not to show")
    number("--identity-strength", float, 0.8, "how strongly the face acts; 0 is the plain checkpoint")
    number("--adapter-lora", float, 1.0, "strength of the LoRA inside the adapter; 0 for none")
    number("--denoise", float, 0.45, "0 gives the warp back, 0.3 to 0.6 paint mouth and skin anew")
    _add_sampling(group)
    number("--width", int, 512, "of the frames, a multiple of 8")
    number("--height", int, 512, "of the frames, a multiple of 8")
    if portrait:
        group.add_argument(
            "--only-face",
            action="store_true",
            help="paint a square around the face, --width by --height, and paste it into the portrait at its own size",
        )
    number("--batch-size", int, 1, "frames painted at once")
    add_animation(parser)
    if portrait:
        add_vexpress(parser)
    add_resume(group)
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, mps; if not given, the fastest there is")
    group.add_argument("--precision", choices=PRECISIONS, default="auto", help="auto: fp16 on a GPU, else fp32")


def _add_sampling(group: argparse._ArgumentGroup) -> None:
    """Options whose defaults are those of the preset."""

    def of_presets(name: str) -> str:
        return ", ".join(str(preset[name]) for preset in PRESETS.values())

    group.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default="balanced",
        help="sets what of the next four is not given; fast needs an LCM or Lightning LoRA (--lora) or AnimateLCM",
    )
    group.add_argument("--steps", metavar="N", type=int, help=f"of denoising, for every frame ({of_presets('steps')})")
    group.add_argument(
        "--cfg",
        metavar="X",
        type=float,
        help=f"how strictly the prompt is followed; 1 asks for it alone, in half the time ({of_presets('cfg')})",
    )
    names = "as ComfyUI names it"
    group.add_argument("--sampler", metavar="NAME", help=f"{names}: euler, dpmpp_2m, … ({of_presets('sampler')})")
    group.add_argument("--schedule", metavar="NAME", help=f"{names}: normal, karras, … ({of_presets('schedule')})")


def apply_preset(args: argparse.Namespace) -> None:
    """Give every option that was not given the preset's value."""
    for name, value in PRESETS[args.preset].items():
        if getattr(args, name) is None:
            setattr(args, name, value)


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
    from ..checks import check_range
    from ..diffusion.samplers import OWN_SCHEDULE, SAMPLERS, SCHEDULES, SamplerOptions
    from ..face.fit import check_size
    from ..renderers.identitynet.adapter import IdentityOptions

    apply_preset(args)
    check_animation(args)
    check_size(args.width, args.height)
    if getattr(args, "only_face", True) and args.width != args.height:  # a dub is always of the face only
        raise InputError(f"--only-face paints a square; --width {args.width} and --height {args.height} differ.")
    check_range(args.cfg, 0, 100, "--cfg")
    check_range(args.steps, 1, 1000, "--steps")
    check_range(args.denoise, 0, 1, "--denoise")
    check_range(args.batch_size, 1, 256, "--batch-size")
    for word, choices, name in ((args.sampler, SAMPLERS, "--sampler"), (args.schedule, SCHEDULES, "--schedule")):
        if word not in choices:
            raise InputError(f"{name} {word} is not known; choose one of {', '.join(choices)}.")
    own = OWN_SCHEDULE.get(args.sampler, SCHEDULES)
    if args.schedule not in own:
        raise InputError(f"--sampler {args.sampler} has no --schedule {args.schedule}; choose one of {', '.join(own)}.")
    IdentityOptions(args.identity_strength)
    SamplerOptions(args.sampler, args.schedule, args.steps, args.denoise, args.seed)
    return True


def talk_with_identity(
    args: argparse.Namespace, portrait: Portrait, speech: Speech, options: MotionOptions, engine: MotionEngine
) -> TalkResult:
    """Portrait and speech to a video that SD1.5 has painted."""
    from ..face.fit import fit_to, fitted
    from ..renderers.repaint import Watch, paint_talk, paint_track

    if args.only_face:
        return _talk_face_only(args, portrait, speech, options, engine)
    placed = fitted(portrait, fit_to(portrait, args.width, args.height))
    video = (args.speech, args.crf)
    if args.controlnet is None and args.head_placement == "track":  # the track need never exist as a whole
        painter = make_painter(args, portrait, None)
        with resumed(args) as sections, progress_bar("painting") as on_progress:
            watch = Watch(on_progress, sections=sections)
            return paint_talk(placed, speech, painter, args.out, options, engine=engine, video=video, watch=watch)
    track = placed_track(args, placed, engine(speech, placed.landmarks, options))
    painter = make_painter(args, portrait, track)
    with resumed(args) as sections, progress_bar("painting") as on_progress:
        watch = Watch(on_progress, sections=sections)
        whole = {"transfer": "absolute", "sound": args.speech, "crf": args.crf}
        return paint_track(placed, track, painter, args.out, watch=watch, **whole)


def _talk_face_only(
    args: argparse.Namespace, portrait: Portrait, speech: Speech, options: MotionOptions, engine: MotionEngine
) -> TalkResult:
    from ..face.crop import CropOptions, plan_face_crop
    from ..renderers.face_region import paint_face
    from ..renderers.repaint import Watch

    track = placed_track(args, portrait, engine(speech, portrait.landmarks, options))
    plan = plan_face_crop(track, CropOptions(size=args.width))
    painter = make_painter(args, portrait, plan.track_on_crop())
    with resumed(args) as sections, progress_bar("painting") as on_progress:
        video, watch = (args.speech, args.crf), Watch(on_progress, sections=sections)
        return paint_face(portrait, track, painter, args.out, plan, video=video, watch=watch)


def make_painter(args: argparse.Namespace, portrait: Portrait, track: LandmarkTrack | None) -> DiffusersPainter:
    """What paints: SD1.5 with the face, held by the track's landmarks on the painted pictures if there is a control."""
    from ..diffusion.checkpoint import load_sd15
    from ..diffusion.denoiser import Condition
    from ..diffusion.samplers import SamplerOptions
    from ..diffusion.text import encode_text, find_tokenizer
    from ..diffusion.vae import load_vae
    from ..diffusion.windowed import VideoOptions
    from ..renderers.identitynet.painter import DiffusersPainter, PaintOptions

    device, dtype = chosen_place(args)
    adapter = _adapter(args)
    faces = None if adapter is None else _faces(args, portrait, adapter)
    sd15 = load_sd15(args.checkpoint, device, dtype)
    if sd15.text_encoder is None:
        raise InputError(f"{args.checkpoint.name} holds no text encoder; use a full SD1.5 checkpoint.")
    if args.vae is not None:
        sd15 = replace(sd15, vae=load_vae(args.vae, device, dtype, sd15.vae))
    _merge_loras(args, sd15, adapter)
    tokenizer = find_tokenizer(args.tokenizer)
    texts = [encode_text(sd15.text_encoder, tokenizer, text) for text in (args.prompt, args.negative_prompt)]
    branches = {} if adapter is None else _branches(args, adapter.to(device, dtype), faces.to(device))
    sampling = SamplerOptions(args.sampler, args.schedule, args.steps, args.denoise, args.seed)
    cond = Condition(texts[0], texts[1], args.cfg)
    video = VideoOptions(args.long_video, args.window, args.overlap)
    animation = animation_of(args, track, (device, dtype))
    return DiffusersPainter(sd15, cond, branches, PaintOptions(sampling, args.batch_size, video), animation)


def _adapter(args: argparse.Namespace) -> IdentityAdapter | None:
    from ..renderers.identitynet.adapter import load_adapter

    return None if args.identity_adapter is None else load_adapter(args.identity_adapter)


def _faces(args: argparse.Namespace, portrait: Portrait, adapter: IdentityAdapter) -> object:
    """(2, T, 768) tokens of the person."""
    from ..face.fit import face_surroundings
    from ..face.identity.encoder import CROP_PX, FaceEncoder, find_face_models
    from ..media.image import load_picture

    pictures = [load_picture(path) for path in args.faces] or [face_surroundings(portrait)]
    names = [path.name for path in args.faces] or [portrait.source]
    with FaceEncoder(find_face_models([args.face_models])) as encoder:
        found = encoder.encode(pictures, names, crop_px=CROP_PX)
    embedding = found.embedding
    if args.clip_vision is not None:
        from ..face.identity.clip_crop import load_clip_vision, with_clip_view

        embedding = with_clip_view(embedding, found.crops, load_clip_vision(args.clip_vision))
    return adapter.tokens(embedding)


def _merge_loras(args: argparse.Namespace, sd15: SD15, adapter: IdentityAdapter | None) -> None:
    from ..checks import check_range
    from ..diffusion.lora import merge_lora
    from ..diffusion.lora_file import read_lora
    from ..renderers.identitynet.adapter_lora import kohya_lora

    for given in args.lora:
        name, _, number = given.rpartition(":")
        path, strength = (name, number) if name and _is_number(number) else (given, "1")
        merge_lora(sd15, read_lora(Path(path)), check_range(float(strength), -10, 10, "a LoRA's strength"), path)
    if adapter is not None and adapter.lora and args.adapter_lora and args.identity_strength:
        merge_lora(sd15, kohya_lora(adapter.lora), args.adapter_lora, args.identity_adapter.name)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _branches(args: argparse.Namespace, adapter: IdentityAdapter, tokens: object) -> dict:
    from ..diffusion.sites import SITES
    from ..renderers.identitynet.adapter import IdentityOptions, identity_branches

    keys = [site.adapter_key for site in SITES]
    made = identity_branches(adapter, tokens, keys, IdentityOptions(args.identity_strength))
    return {index: [branch] for index, branch in made.items()}
