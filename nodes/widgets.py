"""Widgets of options that the core's dataclasses declare, with their default, range, step and tooltip."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from comfy_api.latest import io

from ..portraittalk_core.face.options import FaceOptions
from ..portraittalk_core.media.options import WriteOptions
from .sockets import advanced

MOST_FACES = 16  # that a picture may have, for a widget
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

    one = option_of(kind, name)
    told = {"default": one.default, "tooltip": one.help, **changes}
    name, hidden = told.pop("id", one.name), told.pop("advanced", one.advanced)
    if one.kind is int and one.name == "seed":
        told.setdefault("control_after_generate", True)
    if told["default"] is None:
        raise ValueError(f"the option {one.name} has no default; give the widget one.")
    made = _widget(one, name, told)
    return advanced(made) if hidden else made


def widgets(kind: type, names: Sequence[str]) -> list[io.Input]:
    """The widgets of several options, in the order of the names."""
    return [widget(kind, name) for name in names]


def later_widgets(kind: type, placed: Sequence[str]) -> list[io.Input]:
    """The widgets of shared options that a node has not placed: new ones, which must stand behind all others.

    A saved graph keeps a node's values by their order: a new widget in between would shift the values behind it. And it
    holds none for a new widget, which therefore is optional.
    """
    from ..portraittalk_core.options import options_of

    return [widget(kind, one.name, optional=True) for one in options_of(kind) if one.shared and one.name not in placed]


def face_index_widget(tooltip: str, **changes: object) -> io.Input:
    """The widget that says which of several faces is meant."""
    return widget(FaceOptions, "face_index", max=MOST_FACES - 1, tooltip=tooltip, **changes)


def crf_widget(**changes: object) -> io.Input:
    """The widget for the quality of the video that a node writes."""
    text = f"Quality of the video file: lower is better and larger; {CRF} shows no loss."
    return widget(WriteOptions, "crf", default=CRF, max=LARGEST_CRF, tooltip=text, advanced=True, **changes)


def _widget(one: object, name: str, told: dict) -> io.Input:
    if one.choices:
        return io.Combo.Input(name, options=told.pop("options", list(one.choices)), **told)
    if one.kind is bool:
        return io.Boolean.Input(name, **told)
    if one.kind is str:
        return io.String.Input(name, **told)
    if one.kind not in (int, float, Fraction) or one.many:
        raise ValueError(f"the option {one.name} has no widget: it is neither a number, a word nor true or false.")
    number = int if one.kind is int else float
    limits = {"min": one.low, "max": one.high, "step": one.step} | told
    told |= {key: number(value) for key, value in limits.items() if key in ("min", "max", "step") and value is not None}
    told["default"] = number(told["default"])
    return (io.Int if one.kind is int else io.Float).Input(name, **told)
