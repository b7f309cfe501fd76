"""Registry of all renderers by name."""

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
from .implicit.options import FACEVID2VID_FILES, LIVEPORTRAIT_FILES, FaceVid2VidOptions, ImplicitOptions
from .lip.options import IPLAP_FILES, LIPS_FILES, MUSETALK_FILES, IpLapOptions, LipOptions, MuseTalkOptions
from .vexpress.options import FILES as VEXPRESS_FILES
from .vexpress.options import VExpressRendererOptions
from .warp.options import WarpOptions

DEFAULTS = {PORTRAIT: "warp", FILM: "lips"}  # which is taken of each source where none is named
DEFAULT = DEFAULTS[PORTRAIT]

_SPECS: dict[str, RendererSpec] = {}


def register(spec: RendererSpec) -> RendererSpec:
    """Register a renderer, built in or third-party, and return its spec.

    Raises:
        InputError: another renderer has this name.
    """
    if spec.name in _SPECS:
        raise InputError(f"there is a renderer {spec.name!r} already; give yours another name.")
    _SPECS[spec.name] = spec
    return spec


def unregister(name: str) -> None:
    """Remove a third-party renderer from the registry."""
    _SPECS.pop(name, None)


def renderer_specs(source: str | None = None) -> tuple[RendererSpec, ...]:
    """Specs of all renderers, or of those that take a source ("portrait" or "film")."""
    return tuple(spec for spec in _SPECS.values() if source is None or source in spec.sources)


def renderer_spec(name: str, source: str | None = None) -> RendererSpec:
    """Spec of one renderer.

    Raises:
        InputError: there is none of this name, or it does not take such a source; the text names those that do.
    """
    names = [spec.name for spec in renderer_specs(source)]
    what = "renderer" if source is None else f"renderer of a {source}"
    return _SPECS[check_choice(name, names, what)]


def open_renderer(name: str = DEFAULT, **options: Any) -> Renderer:
    """Build a renderer by name and options.

    Args:
        name: one of the registry.
        options: fields of its options; what is left out has its default.

    Raises:
        InputError: an unknown renderer or option, or a value out of its range.
        MissingDependency: a file or a package that it needs is not there.
    """
    spec = renderer_spec(name)
    names = [field.name for field in options_of(spec.options)]
    for option in options:
        if option not in names:
            has = f"it has {', '.join(names)}" if names else "it has none"
            raise InputError(f"the renderer {name} has no option {option!r}; {has}.")
    return build(spec, spec.options(**options))


def build(spec: RendererSpec, options: object) -> Renderer:
    """Build the renderer of a spec with checked options."""
    return builder(spec)(options)


def builder(spec: RendererSpec) -> Callable[[object], Renderer]:
    """Import the function that builds a renderer."""
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
        frozenset({PORTRAIT, FILM}),
    )
)
register(
    RendererSpec(
        "liveportrait",
        "moves LivePortrait's implicit keypoints",
        ImplicitOptions,
        "implicit.build:build",
        LIVEPORTRAIT_FILES,
        frozenset({PORTRAIT, FILM}),
    )
)
register(
    RendererSpec(
        "facevid2vid",
        "moves face-vid2vid's implicit keypoints, with ControlTalk's own weights",
        FaceVid2VidOptions,
        "implicit.build:build",
        FACEVID2VID_FILES,
        frozenset({PORTRAIT, FILM}),
    )
)
register(
    RendererSpec(
        "lips",
        "paints the mouth of a film from its own lips, landmarks and the sound, with weights trained here",
        LipOptions,
        "lip.build:build",
        LIPS_FILES,
        frozenset({PORTRAIT, FILM}),
    )
)
register(
    RendererSpec(
        "iplap",
        "paints the mouth of a film with IP-LAP's weights",
        IpLapOptions,
        "lip.build:build",
        IPLAP_FILES,
        frozenset({PORTRAIT, FILM}),
    )
)
register(
    RendererSpec(
        "musetalk",
        "paints the mouth of a film with MuseTalk's weights",
        MuseTalkOptions,
        "lip.build:build",
        MUSETALK_FILES,
        frozenset({PORTRAIT, FILM}),
    )
)
