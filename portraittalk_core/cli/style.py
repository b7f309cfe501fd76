"""The command `style`, and the style options of other commands."""

from __future__ import annotations

import argparse
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..options import options_of
from ..style.options import CoefficientOptions, StyleBlend, StyleUse
from .arguments import (
    PICTURE_SUFFIXES,
    Command,
    add_face,
    add_file,
    add_options,
    check_output,
    chosen_face,
    open_chosen_mesh,
    options_from,
)
from .progress import progress_bar

if TYPE_CHECKING:
    from ..engines.contract import MotionEngine
    from ..speech.encoders import SpeechEncoder
    from ..style.extractor import StyleExtractor
    from ..style.features import StyleFeatures
    from ..style.prior import Style, StylePrior
    from ..types import StyleStatistics

EXAMPLES = """examples:
  portraittalk style --video anna.mp4 --out anna.safetensors --plot anna.png
  portraittalk talk --portrait me.jpg --speech hello.wav --style anna.safetensors --out hello.mp4
  portraittalk talk --portrait me.jpg --speech hello.wav --style lively --style-strength 0.7 --out hello.mp4
  portraittalk style --video anna.mp4 --extractor extractor.safetensors --face-recon epoch_20.pth --out a.safetensors
  portraittalk style --blend calm anna.safetensors --share 0.3 --out a_little_of_anna.safetensors
  portraittalk style --blend calm lively --over-time points.json --out calm_to_lively.safetensors"""
FILES = (".safetensors",)
NO_EXTRACTOR = Path("none")
POINTS_EXAMPLE = "[[0, 0], [4, 1]]"


def add_style(parser: argparse.ArgumentParser) -> None:
    """Add the style options of commands that make motion."""
    group = parser.add_argument_group("style")
    group.add_argument(
        "--style",
        metavar="STYLE",
        type=_file_or_name,
        help="how to speak: a name (calm, lively, whispering, …), a style file, or a video of somebody",
    )
    add_options(group, StyleUse, skip=("seed",))  # which the motion has too


def add_style_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command `style`."""
    add_file(parser, "--video", "IN", "video of the person", False)
    add_file(parser, "--speech", "IN", "sound of the person; the video's own if not given", False)
    add_file(parser, "--out", "OUT.safetensors", "style to write")
    add_file(parser, "--plot", "OUT.png", "picture of it to write", False)
    what = (
        "style extractor of `portraittalk train style`; with --video the built-in one, if not given; none: motion "
        "statistics alone"
    )
    add_file(parser, "--extractor", "FILE|none", what, False)
    add_file(parser, "--encoder", "FILE", "Whisper tiny, for an extractor that hears by it", False)
    what = "measures the expressions of --video, for an extractor that takes 3DMM coefficients or blendshapes"
    kinds = "a 3DMM encoder (epoch_20.pth), a task file of MediaPipe with blendshapes, or the folder of a BFM"
    add_file(parser, "--face-recon", "FILE|FOLDER", f"{what}: {kinds}, known by its content", False)
    what = (
        "expression coefficients of a clip, measured elsewhere: (frames, 64 or 257) of a 3DMM, (frames, 52) blendshapes"
    )
    add_file(parser, "--coefficients", "FILE", f"{what}; safetensors, .mat, .npy or .pth", False)
    add_options(parser, CoefficientOptions)
    group = parser.add_argument_group("a blend of two styles, instead of a reference")
    what = "two styles to mix: each a name, a style file, or a video of somebody"
    group.add_argument("--blend", metavar=("STYLE", "STYLE"), nargs=2, type=_file_or_name, help=what)
    add_options(group, StyleBlend)
    what = f"share of the second style over time, as [[seconds, share], …], for example {POINTS_EXAMPLE}"
    add_file(group, "--over-time", "IN.json", what, False)


def style(args: argparse.Namespace) -> None:
    """Measure a person's style from video or sound, or blend two styles, and write it."""
    from ..media.files import atomic_write
    from ..media.image import save_picture
    from ..media.records import save_record
    from ..plots.style import plot_style

    _check_source(args)
    check_output(args.out, [path for path in args.blend or () if isinstance(path, Path)], FILES)
    if args.plot is not None:
        check_output(args.plot, (), PICTURE_SUFFIXES)
    prior = _of_reference(args) if args.blend is None else _of_two_styles(args)
    with atomic_write(args.out) as part:  # which takes its name once the picture is written: both files, or none
        save_record(prior, part)
        if args.plot is not None:
            save_picture(plot_style(prior), args.plot)
    print(f"{args.out}: the style of {prior.source}, {len(prior)} numbers ({prior.space})")


def _check_source(args: argparse.Namespace) -> None:
    """Check that there is a reference, or two styles, and nothing that would not count.

    Raises:
        InputError: with the flags.
    """
    blending = ("share", "over_time")
    if args.blend is None:
        if flags := [_flag(name) for name in blending if getattr(args, name) is not None]:
            raise InputError(f"{' and '.join(flags)} needs --blend: the two styles to mix; give them, or leave it out.")
        _check_reference(args)
        return
    of_a_reference = ("video", "speech", "extractor", "encoder", "face_recon", "coefficients", "coefficients_fps")
    if flags := [_flag(name) for name in of_a_reference if getattr(args, name) is not None]:
        raise InputError(f"{' and '.join(flags)} cannot be used with --blend, which mixes styles that there are.")
    if args.share is not None and args.over_time is not None:
        raise InputError("--share and --over-time cannot be used together: a share is fixed, or changes over time.")


def _check_reference(args: argparse.Namespace) -> None:
    """Check that there is a reference, and that nothing is given in vain.

    Raises:
        InputError: with the flags.
    """
    if args.video is None and args.speech is None and args.coefficients is None:
        raise InputError("a style needs a reference: give --video, or --speech with --extractor; or --blend.")
    if args.encoder is not None and args.extractor in (None, NO_EXTRACTOR):
        raise InputError("--encoder needs --extractor: without one a style is seen, not heard.")
    for name in ("face_recon", "coefficients"):
        if getattr(args, name) is not None and args.extractor in (None, NO_EXTRACTOR):
            raise InputError(f"{_flag(name)} needs --extractor: one that was trained on such coefficients.")
    if args.face_recon is not None and args.video is None:
        raise InputError("--face-recon needs --video, whose pictures it looks at.")
    if args.face_recon is not None and args.coefficients is not None:
        raise InputError("--face-recon and --coefficients are two expressions of one person; give one of them.")
    if args.coefficients_fps is not None and args.coefficients is None:
        raise InputError("--coefficients-fps needs --coefficients: the file whose frame rate it is.")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _of_two_styles(args: argparse.Namespace) -> Style:
    """The blend of --blend, with a fixed share or one that changes over time.

    Raises:
        InputError: a style that changes over time already, or styles that have no space in common.
    """
    from ..media.text_files import read_text
    from ..motion.points import MAX_POINTS_BYTES
    from ..style.blend_points import blend_points
    from ..style.prior import BlendedStyle, interpolate, shared

    share, ends = options_from(args, StyleBlend).share, [_end_of_blend(given) for given in args.blend]
    for end in ends:
        if isinstance(end, BlendedStyle):
            raise InputError(f"{end.source} changes over time already; blend the styles that it was made of instead.")
    first, second = shared(*ends)
    if args.over_time is None:
        return interpolate(first, second, share)
    text = read_text(args.over_time, "the points of the blend", f"give a JSON file such as {POINTS_EXAMPLE}",
                     MAX_POINTS_BYTES)  # fmt: skip
    return BlendedStyle(first, second, blend_points(text))


def _end_of_blend(name_or_path: Path | str) -> Style:
    """One of two styles to blend; a file's keeps its own strength, noise and seed."""
    from ..style.prior import load_style

    is_file = isinstance(name_or_path, Path) and name_or_path.suffix in FILES
    return load_style(name_or_path) if is_file else _open_style(name_or_path, StyleUse())


def chosen_statistics(args: argparse.Namespace) -> StyleStatistics | None:
    """Style statistics of `--style`; None without one, and of a style that changes over time (see `engine_in_style`).

    Raises:
        InputError: no such name or file, or a style that can be seen neither in motion nor by a style attention.
    """
    selected = chosen_style(args)
    if selected is None or selected.strength == 0:
        return None
    from ..style.prior import BlendedStyle
    from ..style.reference import statistics_of

    shown_in_pictures = getattr(args, "style_attention", None) is not None
    if isinstance(selected, BlendedStyle) or selected.statistics_part is None and shown_in_pictures:
        return None
    return statistics_of(selected)


def steady_statistics(args: argparse.Namespace) -> StyleStatistics | None:
    """Style statistics of `--style` where there is no timeline.

    Raises:
        InputError: a style that changes over time, and as of `chosen_statistics`.
    """
    from ..style.prior import BlendedStyle

    if isinstance(selected := chosen_style(args), BlendedStyle):
        raise InputError(f"{selected.source} changes over time, which has no end here; give one of its styles.")
    return chosen_statistics(args)


def engine_with_style(args: argparse.Namespace, engine: MotionEngine) -> MotionEngine:
    """The engine, moving from one style to the other where `--style` changes over time.

    Raises:
        InputError: its styles know no motion, and no style attention shows them either.
    """
    selected = chosen_style(args)
    if selected is None:
        return engine
    from ..pipelines.style_over_time import engine_in_style

    shown_in_pictures = getattr(args, "style_attention", None) is not None
    return engine if selected.statistics_part is None and shown_in_pictures else engine_in_style(engine, selected)


def chosen_style(args: argparse.Namespace) -> Style | None:
    """The style of `--style`; None without one."""
    name_or_path = getattr(args, "style", None)
    if name_or_path is None:
        unused = [spec.flag for spec in options_of(StyleUse) if getattr(args, spec.column, None) is not None]
        if unused := [flag for flag in unused if flag != "--seed"]:  # which the motion has too
            raise InputError(f"{' and '.join(unused)} needs --style: how to speak; give one, or leave it out.")
        return None
    return _open_style(name_or_path, options_from(args, StyleUse))


@functools.lru_cache(maxsize=2)  # used by the motion engine and by the renderer
def _open_style(name_or_path: Path | str, use: StyleUse) -> Style:
    from ..style.prior import load_style, used_as
    from ..style.reference import named_style

    if isinstance(name_or_path, str):
        return named_style(name_or_path, use)
    if name_or_path.suffix in FILES:
        return used_as(load_style(name_or_path), use.strength, use.noise, use.seed)
    return _measured_style(name_or_path, None, use, None)


def _of_reference(args: argparse.Namespace) -> StylePrior:
    from ..style.extractor import load_extractor
    from ..style.extractor_files import BUILT_IN

    path = args.extractor
    if path is None and args.video is not None:
        path = BUILT_IN  # which needs no sound and no weights of the user's
    extractor = None if path in (None, NO_EXTRACTOR) else load_extractor(path)
    return _measured_style(args.video, args.speech, StyleUse(), extractor, args)


def _measured_style(
    video: Path | None, speech: Path | None, use: StyleUse, extractor: StyleExtractor | None,
    args: argparse.Namespace | None = None,
) -> StylePrior:  # fmt: skip
    from ..style.reference import Reference, speech_pieces, style_of

    coefficients = () if args is None or args.coefficients is None else (_given_coefficients(args),)
    if video is None:
        from ..media.audio import load_speech

        sounds = () if speech is None else (load_speech(speech),)
        source = (speech or args.coefficients).name
        return style_of(Reference((), sounds, source, coefficients), use, extractor, _encoder(args))
    from ..media.audio import load_speech
    from ..media.video_read import probe_video

    pieces, measured = _tracked(video, args)
    has_sound = extractor is not None and extractor.hears and probe_video(video).has_sound
    sound = speech if speech is not None else video if has_sound else None
    sounds = () if sound is None else speech_pieces(load_speech(sound), pieces)
    reference = Reference(tuple(track for _, track in pieces), sounds, video.name, coefficients or measured)
    return style_of(reference, use, extractor, _encoder(args))


def _tracked(video: Path, args: argparse.Namespace | None) -> tuple[list, tuple]:
    """Pieces of a video with the face's landmarks, and their expressions if --face-recon measures them."""
    from ..face.mesh.landmarks import open_mesh
    from ..media.video_read import probe_video, read_pictures
    from ..style.expression_source import ExpressionRecorder, open_expression_source
    from ..style.reference import ReferenceOptions, track_pieces

    probe = probe_video(video)
    which = ReferenceOptions() if args is None else ReferenceOptions(chosen_face(args), args.face_order)
    total = round(probe.seconds * probe.fps)
    recon = getattr(args, "face_recon", None)
    recorder = None if recon is None else ExpressionRecorder(open_expression_source(recon))
    with open_mesh() if args is None else open_chosen_mesh(args) as mesh, progress_bar("watching") as on_progress:
        pictures = read_pictures(video, probe.fps, on_progress=on_progress)
        pieces = track_pieces(pictures, probe.fps, total, mesh, which, video.name, recorder)
    return pieces, () if recorder is None else recorder.features(pieces, video.name)


def _given_coefficients(args: argparse.Namespace) -> StyleFeatures:
    from ..style.expression_source import read_coefficients

    return read_coefficients(args.coefficients, options_from(args, CoefficientOptions).fps)


def _encoder(args: argparse.Namespace | None) -> SpeechEncoder | None:
    from ..speech.encoders import load_speech_encoder

    return None if args is None or args.encoder is None else load_speech_encoder(args.encoder)


def _file_or_name(text: str) -> Path | str:
    return Path(text) if Path(text).suffix or "/" in text or os.sep in text else text


def _add(parser: argparse.ArgumentParser) -> None:
    add_style_command(parser)
    add_face(parser)


COMMAND = Command("style", "keep how somebody speaks, as a style that can be lent to any face", EXAMPLES, _add, style)
