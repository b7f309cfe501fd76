"""Widgets of the core's option fields, with their default, range, step and tooltip."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction

from comfy_api.latest import io

from ..portraittalk_core.face.options import FaceOptions
from ..portraittalk_core.media import made_mark
from ..portraittalk_core.media.options import WriteOptions
from .sockets import advanced

MOST_FACES = 16  # that a picture may have, for a widget
MOST_SOUND_TRACKS = 64  # that a video may have, for a widget
FEW_FRAMES = 300  # a batch of more is seldom wanted as IMAGE
CRF, LARGEST_CRF = 16, 40  # of the nodes: temporary files that Save Video encodes again must show no loss


def widget(kind: type, name: str, **changes: object) -> io.Input:
    """The widget of one option.

    Args:
        kind: a dataclass with `portraittalk_core.options.option` fields.
        name: of the field.
        changes: arguments of the widget that differ from the field's, such as a narrower ``max``; ``id`` renames it,
            ``advanced`` moves it to or from the advanced ones.

    Raises:
        ValueError: a kind of option that has no widget, or one without a default.
    """
    from ..portraittalk_core.options import option_of

    field = option_of(kind, name)
    arguments = {"default": field.default, "tooltip": field.help, **changes}
    name, hidden = arguments.pop("id", field.name), arguments.pop("advanced", field.advanced)
    if field.kind is int and field.name == "seed":
        arguments.setdefault("control_after_generate", True)
    if arguments["default"] is None:
        raise ValueError(f"the option {field.name} has no default; give the widget one.")
    control = _widget(field, name, arguments)
    return advanced(control) if hidden else control


def widgets(kind: type, names: Sequence[str]) -> list[io.Input]:
    """The widgets of several options, in the order of the names."""
    return [widget(kind, name) for name in names]


def later_widgets(kind: type, placed: Sequence[str]) -> list[io.Input]:
    """The widgets of shared options that a node has not placed: new ones, which must stand behind all others.

    A saved graph keeps a node's values by their order: a new widget in between would shift the values behind it. And it
    holds none for a new widget, which therefore is optional.
    """
    from ..portraittalk_core.options import options_of

    fields = [field for field in options_of(kind) if field.shared and field.name not in placed]
    return [widget(kind, field.name, optional=True) for field in fields]


def face_index_widget(tooltip: str, **changes: object) -> io.Input:
    """The widget that says which of several faces is meant."""
    return widget(FaceOptions, "face_index", max=MOST_FACES - 1, tooltip=tooltip, **changes)


def sound_track_widget(of: str) -> io.Input:
    """The widget that chooses one of a video's sound tracks."""
    text = f"Which sound track of {of}, from 1; 0 is the one that the file names as its default."
    return advanced(io.Int.Input("sound_track", default=0, min=0, max=MOST_SOUND_TRACKS, optional=True, tooltip=text))


def keep_frames_widget(kinds: str = "IMAGE") -> io.Input:
    """The widget that says whether a node gives all frames, beside the video; `kinds` are what it gives them as."""
    text = (
        f"Give all frames as {kinds} too: auto does so up to {FEW_FRAMES} frames and 2 GB of memory, else the first "
        "frame only. A minute of IMAGE at 512×512 takes 4.7 GB."
    )
    return io.Combo.Input("keep_frames", options=["auto", "always", "never"], default="auto", tooltip=text)


def points_widget(name: str, tooltip: str) -> io.Input:
    """The advanced text widget of control points over time; [] are none."""
    return advanced(io.String.Input(name, default="[]", optional=True, tooltip=tooltip))


def crf_widget(**changes: object) -> io.Input:
    """The widget for the quality of the video that a node writes."""
    text = f"Quality of the video file: lower is better and larger; {CRF} shows no loss."
    return widget(WriteOptions, "crf", default=CRF, max=LARGEST_CRF, tooltip=text, advanced=True, **changes)


def ai_mark_widget() -> io.Input:
    """The widget that says whether the video is marked as AI-generated; it stands behind the others."""
    text = "The video's metadata says that it is AI-generated; Save Video keeps that."
    return widget(WriteOptions, "ai_mark", tooltip=text, optional=True, advanced=True)


def marked(execute: Callable[..., object]) -> Callable[..., object]:
    """A node's execute, whose video is marked as AI-generated as the widget `ai_mark` says."""

    @functools.wraps(execute)
    def executed(cls, *args, ai_mark: bool = True, **inputs) -> object:
        with made_mark.ai_mark(ai_mark):
            return execute(cls, *args, **inputs)

    return executed


def _widget(field: object, name: str, arguments: dict) -> io.Input:
    if field.choices:
        return io.Combo.Input(name, options=arguments.pop("options", list(field.choices)), **arguments)
    if field.kind is bool:
        return io.Boolean.Input(name, **arguments)
    if field.kind is str:
        return io.String.Input(name, **arguments)
    if field.kind not in (int, float, Fraction) or field.many:
        raise ValueError(f"the option {field.name} has no widget: it is neither a number, a word nor true or false.")
    number = int if field.kind is int else float
    limits = {"min": field.low, "max": field.high, "step": field.step} | arguments
    for key in ("min", "max", "step"):
        if limits[key] is not None:
            arguments[key] = number(limits[key])
    arguments["default"] = number(arguments["default"])
    return (io.Int if field.kind is int else io.Float).Input(name, **arguments)
