"""Flags of all renderers, and the renderer that a command line chooses."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import InputError, PortraitTalkError
from ..options import options_of
from ..renderers.animatenet.options import AnimateNetOptions
from ..renderers.contract import PORTRAIT
from ..renderers.registry import DEFAULT, build, renderer_spec, renderer_specs
from .arguments import add_options, options_from
from .resume import add_resume

if TYPE_CHECKING:
    from ..renderers.contract import Renderer, RendererSpec

OPTION_NAME = re.compile(r"`([a-z]\w*)`")  # as error texts of the core name an option
NOT_OF_FILMS = ("only_face",)  # of a film only the face is painted anyway


def add_renderer(parser: argparse.ArgumentParser, source: str = PORTRAIT) -> None:
    """The choice of a renderer, and every option of each.

    Args:
        parser: of the command.
        source: "portrait" or "film", what is to be rendered.
    """
    specs = renderer_specs(source)
    parser.add_argument_group("renderer").add_argument(
        "--renderer",
        choices=tuple(spec.name for spec in specs),
        default=DEFAULT,
        help="; ".join(f"{spec.name} {spec.title}" for spec in specs),
    )
    skip = () if source == PORTRAIT else NOT_OF_FILMS
    for spec in specs:
        if not options_of(spec.options):
            continue
        group = parser.add_argument_group(f"{spec.name} ({_needs(spec)})" if spec.files else spec.name)
        if issubclass(spec.options, AnimateNetOptions):
            of_animatenet = [one.name for one in options_of(AnimateNetOptions)]
            add_options(group, spec.options, skip=(*skip, *of_animatenet))
            group = parser.add_argument_group(f"{spec.name}: frames that follow the landmarks and hold together")
            add_options(group, spec.options, names=of_animatenet)
        else:
            add_options(group, spec.options, skip=skip)
    add_resume(parser)


def renderer_options(args: argparse.Namespace, source: str = PORTRAIT) -> tuple[RendererSpec, object]:
    """The renderer that is chosen and its options, checked before any work.

    Raises:
        InputError: a value out of range, or an option that the renderer does not have.
        MissingDependency: a file that it needs is not there.
    """
    spec = renderer_spec(args.renderer, source)
    own = {one.column for one in options_of(spec.options)} | set(SHARED)
    for other in renderer_specs(source):
        foreign = [one for one in options_of(other.options) if one.column not in own]
        if flags := [one.flag for one in foreign if getattr(args, one.column, None) is not None]:
            raise InputError(
                f"{', '.join(flags)} cannot be used with {spec.name}; leave it out, or take --renderer {other.name}."
            )
    with flags_named():
        return spec, options_from(args, spec.options)


def open_chosen(spec: RendererSpec, options: object) -> Renderer:
    """The renderer that was chosen; what is wrong with its files is an error now."""
    with flags_named():
        return build(spec, options)


@contextlib.contextmanager
def flags_named() -> Iterator[None]:
    """Errors call options by their flags: "`control_end`" becomes "--control-end"."""
    try:
        yield
    except PortraitTalkError as error:
        text = OPTION_NAME.sub(lambda match: "--" + match[1].replace("_", "-"), str(error))
        raise (error if text == str(error) else type(error)(text)) from error.__cause__


def _needs(spec: RendererSpec) -> str:
    return "needs " + ", ".join(file.flag for file in spec.files if file.needed)


SHARED = ("seed",)  # of the motion too
