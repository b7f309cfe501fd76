"""Flags of all renderers, and the renderer of --renderer."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, PortraitTalkError
from ..options import options_of
from ..renderers.animatenet.options import AnimateNetOptions
from ..renderers.contract import PORTRAIT
from ..renderers.registry import DEFAULTS, build, renderer_spec, renderer_specs
from ..renderers.warp.options import KEEP
from .arguments import VIDEO_SUFFIXES, add_options, check_output, options_from
from .resume import add_resume

if TYPE_CHECKING:
    from ..renderers.contract import Renderer, RendererSpec

OPTION_NAME = re.compile(r"`([a-z]\w*)`")  # option names in error texts of the core
NOT_OF_FILMS = ("only_face", "background")  # of a film only the face is painted anyway


def add_renderer(parser: argparse.ArgumentParser, source: str = PORTRAIT) -> None:
    """Add the choice of a renderer, and every option of each.

    Args:
        parser: of the command.
        source: "portrait" or "film", what is to be rendered.
    """
    specs = renderer_specs(source)
    parser.add_argument_group("renderer").add_argument(
        "--renderer",
        choices=tuple(spec.name for spec in specs),
        help=f"{'. '.join(f'{spec.name} {spec.title}' for spec in specs)}. If not given, {_default_of(source)}",
    )
    skip = () if source == PORTRAIT else NOT_OF_FILMS
    for spec in specs:
        if not options_of(spec.options):
            continue
        group = parser.add_argument_group(spec.name + _needs(spec))
        if issubclass(spec.options, AnimateNetOptions):
            animatenet_names = [option.name for option in options_of(AnimateNetOptions)]
            add_options(group, spec.options, skip=(*skip, *animatenet_names))
            group = parser.add_argument_group(f"{spec.name}: frames that follow the landmarks and hold together")
            add_options(group, spec.options, names=animatenet_names)
        else:
            add_options(group, spec.options, skip=skip)
    add_resume(parser)


def _default_of(source: str) -> str:
    return " and ".join(f"{name} for a {kind}" for kind, name in sorted(DEFAULTS.items(), key=lambda x: x[0] != source))


def renderer_options(args: argparse.Namespace, source: str = PORTRAIT) -> tuple[RendererSpec, object]:
    """Spec and checked options of the selected renderer.

    Raises:
        InputError: a value out of range, or an option that the renderer does not have.
        MissingDependency: a file that it needs is not there.
    """
    spec = renderer_spec(args.renderer or DEFAULTS[source], source)
    columns = {option.column for option in options_of(spec.options) if option.shared} | set(SHARED)
    for other in renderer_specs(source):
        foreign = [option for option in options_of(other.options) if option.column not in columns]
        if flags := [option.flag for option in foreign if getattr(args, option.column, None) is not None]:
            raise InputError(
                f"{', '.join(flags)} cannot be used with {spec.name}; leave it out, or take --renderer {other.name}."
            )
    with flags_named():
        return spec, options_from(args, spec.options)


def check_video_output(out: Path, inputs: Iterable[Path], options: object) -> Path:
    """Check, before long work starts, the file or folder that a renderer with these options writes; see `check_output`.

    Raises:
        InputError: its format cannot hold what the renderer draws, or it is an input.
        OutputError: it cannot be written.
    """
    if getattr(options, "background", KEEP) == KEEP:
        if out.suffix.lower() == ".webm" and hasattr(options, "background"):
            names = " or ".join(VIDEO_SUFFIXES)
            raise InputError(f"{out} is for transparency: add --background transparent, or let it end in {names}.")
        return check_output(out, inputs, VIDEO_SUFFIXES)
    from ..media.alpha_write import check_alpha_path

    return check_output(check_alpha_path(out), inputs, ())


def open_renderer(spec: RendererSpec, options: object) -> Renderer:
    """Open the selected renderer; faulty files fail now."""
    with flags_named():
        return build(spec, options)


@contextlib.contextmanager
def flags_named() -> Iterator[None]:
    """Replace option names in errors by their flags: "`control_end`" becomes "--control-end"."""
    try:
        yield
    except PortraitTalkError as error:
        text = OPTION_NAME.sub(lambda match: "--" + match[1].replace("_", "-"), str(error))
        raise (error if text == str(error) else type(error)(text)) from error.__cause__


def _needs(spec: RendererSpec) -> str:
    """What stands behind a renderer's name in the help."""
    flags = ", ".join(file.flag for file in spec.files if file.needed)
    return f" (needs {flags})" if flags else ""


SHARED = ("seed",)  # of the motion too
