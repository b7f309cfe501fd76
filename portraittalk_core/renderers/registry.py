"""All renderers by name: the only list of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from ..checks import check_choice
from ..errors import InputError
from ..options import options_of
from .contract import FILM, PORTRAIT, Renderer, RendererSpec
from .identitynet.options import FILES as IDENTITYNET_FILES
from .identitynet.options import IdentityNetOptions
from .vexpress.options import FILES as VEXPRESS_FILES
from .vexpress.options import VExpressRendererOptions
from .warp.options import WarpOptions

DEFAULT = "warp"

_SPECS: dict[str, RendererSpec] = {}


def register(spec: RendererSpec) -> RendererSpec:
    """Add a renderer, one from outside too, and return its row.

    Raises:
        InputError: another renderer has this name.
    """
    if spec.name in _SPECS:
        raise InputError(f"there is a renderer {spec.name!r} already; give yours another name.")
    _SPECS[spec.name] = spec
    return spec


def unregister(name: str) -> None:
    """Take a renderer from outside away again."""
    _SPECS.pop(name, None)


def renderer_specs(source: str | None = None) -> tuple[RendererSpec, ...]:
    """The rows of all renderers, or of those that take a source ("portrait" or "film")."""
    return tuple(spec for spec in _SPECS.values() if source is None or source in spec.sources)


def renderer_spec(name: str, source: str | None = None) -> RendererSpec:
    """The row of one renderer.

    Raises:
        InputError: there is none of this name, or it does not take such a source; the text names those that do.
    """
    names = [spec.name for spec in renderer_specs(source)]
    what = "renderer" if source is None else f"renderer of a {source}"
    return _SPECS[check_choice(name, names, what)]


def open_renderer(name: str = DEFAULT, **options: Any) -> Renderer:
    """A renderer, ready for jobs.

    Args:
        name: one of the registry.
        options: fields of its options; what is left out has its default.

    Raises:
        InputError: an unknown renderer or option, or a value out of its range.
        MissingDependency: a file or a package that it needs is not there.
    """
    spec = renderer_spec(name)
    known = [one.name for one in options_of(spec.options)]
    for given in options:
        if given not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise InputError(f"the renderer {name} has no option {given!r}; {has}.")
    return build(spec, spec.options(**options))


def build(spec: RendererSpec, options: object) -> Renderer:
    """The renderer of a row, with checked options."""
    return builder(spec)(options)


def builder(spec: RendererSpec) -> Callable[[object], Renderer]:
    """The function that builds a renderer, imported now."""
    if callable(spec.build):
        return spec.build
    module, _, name = spec.build.partition(":")
    return getattr(importlib.import_module(f".{module}", __package__), name)


register(
    RendererSpec(
        "warp",
        "bends the portrait itself; needs no weights",
        WarpOptions,
        "warp.build:build",
        sources=frozenset({PORTRAIT, FILM}),
    )
)
register(
    RendererSpec(
        "identitynet",
        "lets your SD1.5 checkpoint paint every warped frame anew",
        IdentityNetOptions,
        "identitynet.build:build",
        IDENTITYNET_FILES,
        frozenset({PORTRAIT, FILM}),
    )
)
register(
    RendererSpec(
        "vexpress",
        "paints with V-Express's weights",
        VExpressRendererOptions,
        "vexpress.build:build",
        VEXPRESS_FILES,
    )
)
