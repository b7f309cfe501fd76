"""Socket types, one per core dataclass, and a schema that both old and new ComfyUI take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from comfy_api.latest import io

CATEGORY = "PortraitTalk"
MOST_PICTURES = 5  # of a person, besides a batch
ESSENTIALS = "Video Tools"  # section of newer ComfyUI's list of essential nodes

Landmarks = io.Custom("PORTRAITTALK_LANDMARKS")  # portraittalk_core.types.LandmarkTrack
Keypoints = io.Custom("PORTRAITTALK_KEYPOINTS")  # portraittalk_core.types.KeypointTrack
KeypointRenderer = io.Custom("PORTRAITTALK_KEYPOINT_RENDERER")  # nodes.bindings.keypoints.KeypointNetworks
LipRenderer = io.Custom("PORTRAITTALK_LIP_RENDERER")  # nodes.bindings.lips.LipNetworks
LipReferences = io.Custom("PORTRAITTALK_LIP_REFERENCES")  # nodes.bindings.lip_select.ChosenReferences
MotionEngine = io.Custom("PORTRAITTALK_MOTION_ENGINE")  # portraittalk_core.engines.contract.MotionEngine
FaceEmbedding = io.Custom("PORTRAITTALK_FACE_EMBEDDING")  # portraittalk_core.face.identity.embedding.FaceEmbedding
IdentityAdapter = io.Custom("PORTRAITTALK_IDENTITY_ADAPTER")  # nodes.bindings.unet.BoundAdapter
AnimateControl = io.Custom("PORTRAITTALK_CONTROL")  # nodes.animate_control.AnimateControl
GazeBreath = io.Custom("PORTRAITTALK_GAZE_AND_BREATH")  # portraittalk_core.motion.options.MotionOptions
Style = io.Custom("PORTRAITTALK_STYLE_PRIOR")  # nodes.style_use.ChosenStyle
AudioEncoderOutput = io.Custom("AUDIO_ENCODER_OUTPUT")  # of ComfyUI's own audio encoders
Boxes = io.Custom("BBOX")  # other packs' boxes: lists of four numbers
BoundingBox = io.Custom("BOUNDING_BOX")  # newer ComfyUI's own detectors' boxes
Curve = io.Custom("CURVE")  # newer ComfyUI's drawn curves
FaceLandmarks = io.Custom("FACE_LANDMARKS")  # newer ComfyUI's own face landmarks


def face_at_input(tooltip: str) -> io.Input:
    """The input for a mask or box that says which face is meant."""
    return io.MultiType.Input("face_at", types=[io.Mask, BoundingBox, Boxes], optional=True, tooltip=tooltip)


def curve_input(name: str, tooltip: str) -> io.Input:
    """The input for a number that changes over time: a list of FLOAT, one a frame, or a CURVE over the whole clip."""
    return io.MultiType.Input(name, types=[io.Float, Curve], optional=True, tooltip=tooltip)


def growing(name: str, one: io.Input, most: int, tooltip: str, more: Callable[[str], io.Input]) -> list[io.Input]:
    """Optional inputs that grow as they are used; on ComfyUI without such inputs, `most` plain ones.

    Either way they are called name.one0, name.one1, …, so that a graph works on both.

    Args:
        name: of them together.
        one: one of them, by whose id they are called.
        most: how many there may be.
        tooltip: of them together.
        more: makes a plain one of a name.
    """
    if hasattr(io, "Autogrow"):
        template = io.Autogrow.TemplatePrefix(one, one.id, 0, most)
        return [io.Autogrow.Input(name, template, optional=True, tooltip=tooltip)]
    return [more(f"{name}.{one.id}{number}") for number in range(most)]


def grown(name: str, one: str, most: int, inputs: dict[str, object]) -> list[object | None]:
    """What a node got by `growing`, in order; None where nothing is connected."""
    values = inputs.get(name)  # by number, on newer ComfyUI
    values = inputs if values is None else {f"{name}.{key}": value for key, value in values.items()}
    return [values.get(f"{name}.{one}{number}") for number in range(most)]


def growing_pictures(name: str, tooltip: str) -> list[io.Input]:
    """Optional IMAGE inputs that grow as they are used, see `growing`."""

    def more(key: str, **settings: object) -> io.Input:
        return io.Image.Input(key, tooltip=tooltip, **settings)

    return growing(name, more("picture"), MOST_PICTURES, tooltip, partial(more, optional=True))


def given_pictures(name: str, inputs: dict[str, object]) -> list[object]:
    """The IMAGEs that a node got by `growing_pictures`, in order."""
    return [image for image in grown(name, "picture", MOST_PICTURES, inputs) if image is not None]


def choice(name: str, entries: dict[str, list[io.Input]], beside: list[io.Input], tooltip: str) -> list[io.Input]:
    """A list whose entries have inputs of their own; on ComfyUI without such lists, a plain list with inputs beside it.

    Args:
        name: of the list.
        entries: the inputs of each.
        beside: all of those inputs.
        tooltip: of the list.
    """
    if hasattr(io, "DynamicCombo"):
        options = [io.DynamicCombo.Option(entry, inputs) for entry, inputs in entries.items()]
        return [io.DynamicCombo.Input(name, options=options, tooltip=tooltip)]
    return [io.Combo.Input(name, options=list(entries), tooltip=tooltip), *beside]


def chosen(name: str, value: str | dict[str, object], beside: dict[str, object]) -> tuple[str, dict[str, object]]:
    """The entry of a `choice`, and values of its inputs.

    They lie in the list's value on newer ComfyUI, and beside it on older ones and in graphs in API format made there;
    such a node has `accept_all_inputs`.
    """
    if not isinstance(value, dict):
        return value, beside
    inside = {key: given for key, given in value.items() if key != name and given is not None}  # None: not given
    return value[name], beside | inside


def keypoint_outputs(tooltip: str) -> list[io.Output]:
    """The outputs of a node that makes a keypoint track."""
    return [
        Keypoints.Output("keypoints_out", display_name="keypoints", tooltip=tooltip),
        io.Image.Output("plot", display_name="plot", tooltip="Expression and head over time."),
        io.Int.Output("frame_count", display_name="frame_count", tooltip="Number of frames."),
        io.Float.Output("fps_out", display_name="fps", tooltip="Frames per second."),
    ]


def film_landmarks_input(name: str = "film_landmarks") -> io.Input:
    """The optional input of a film's own landmarks."""
    text = "The film's own landmarks, where they are known: its face is not searched for again."
    return Landmarks.Input(name, optional=True, tooltip=text)


def schema(**fields: object) -> io.Schema:
    """A schema in this pack's category, without the fields that this ComfyUI does not know.

    A node that shows something without being an output node sets `has_intermediate_output`, so that newer ComfyUI shows
    it again where the node's result comes from the cache.
    """
    supported = {field.name for field in dataclasses.fields(io.Schema)}
    return io.Schema(category=CATEGORY, **{name: value for name, value in fields.items() if name in supported})


def advanced(widget: io.Input) -> io.Input:
    """Mark an input as advanced; ComfyUI before 0.4 has no argument for it but passes the mark on."""
    widget.extra_dict = {**(widget.extra_dict or {}), "advanced": True}
    return widget
