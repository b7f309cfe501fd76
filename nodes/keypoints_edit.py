"""The Edit Keypoints node: gains, head, blinks, smoothing, another face, another track, another length."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..portraittalk_core.motion.dub_options import FILM_ENDS
from ..portraittalk_core.motion.keypoint_options import KeypointEdit
from .sockets import KeypointRenderer, Keypoints, advanced, curve_input, keypoint_outputs, schema
from .widgets import widgets

EDITS = ("mouth_gain", "eyes_gain", "brows_gain", "rest_gain", "head_gain", "pitch_deg", "yaw_deg", "roll_deg")
EDITS += ("blink_rate", "smoothing", "smoother", "seed")  # as saved graphs have them; new ones come last
# what of the other track is taken, by its name in the list
PARTS = {
    "mouth": ("mouth",),
    "eyes": ("eyes",),
    "brows": ("brows",),
    "head": ("head",),
    "head and eyes": ("head", "eyes"),
    "expression": ("mouth", "eyes", "brows", "rest"),
    "all": ("mouth", "eyes", "brows", "rest", "head"),
}
CARRIES = ("relative", "absolute")


class EditKeypoints(io.ComfyNode):
    """Node that edits a keypoint track."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkEditKeypoints",
            display_name="Edit Keypoints",
            description="Changes a keypoint track: how far mouth, eyes, brows and head move, where the head looks, "
            "blinks, jitter, length and frame rate; mixes two tracks; carries motion to another face.",
            search_aliases=["expression editor", "mouth gain", "head pose", "retargeting", "blend expressions"],
            inputs=[
                Keypoints.Input("keypoints", tooltip="The track to change."),
                *widgets(KeypointEdit, EDITS),
                *_other_inputs(),
            ],
            outputs=keypoint_outputs("The changed track."),
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, keypoints, **inputs) -> io.NodeOutput:
        """Edit the track and show its plot."""
        from .bindings.keypoint_edits import edited
        from .bindings.keypoints import plot_of

        edit = KeypointEdit(**{name: inputs.pop(name) for name in EDITS})
        track = edited(keypoints, edit, **_later_edits(inputs))
        plot = plot_of(track)
        return io.NodeOutput(track, plot, len(track), float(track.fps), ui=ui.PreviewImage(plot, cls=cls))


def _later_edits(inputs: dict) -> dict:
    """Arguments of `edited` of the node's optional inputs."""
    from .bindings.keypoint_edits import basis_of

    taken = inputs.get
    return {
        "gain_curve": taken("gain_curve"),
        "mixed": (taken("other"), PARTS[taken("parts", "mouth")], taken("share", 1.0)),
        "carried": (taken("source"), taken("carry", "relative")),
        "length": (taken("fps", 0.0), taken("num_frames", 0), taken("track_end", "ping-pong")),
        "basis": basis_of(taken("keypoint_renderer"), taken("portrait")),
    }


def _other_inputs() -> list[io.Input]:
    return [
        curve_input(
            "gain_curve",
            "mouth_gain over time, times mouth_gain: a list of numbers, one a frame, or a CURVE, 0 to 1 over the whole "
            "track.",
        ),
        Keypoints.Input("other", optional=True, tooltip="A second track, of which parts are mixed in."),
        io.Combo.Input(
            "parts", options=list(PARTS), default="mouth", optional=True,
            tooltip="What of the other track is taken.",
        ),
        io.Float.Input(
            "share", default=1.0, min=0.0, max=1.0, step=0.05, optional=True,
            tooltip="How much of the other track: 0 nothing, 1 all of these parts.",
        ),
        Keypoints.Input(
            "source", optional=True,
            tooltip="The face that is to move, one frame of Keypoints From Video: the motion is carried over to it.",
        ),
        advanced(
            io.Combo.Input(
                "carry", options=list(CARRIES), default="relative", optional=True,
                tooltip="relative adds what the driving face does to the source; absolute takes its head and look.",
            )
        ),
        advanced(
            io.Float.Input(
                "fps", default=0.0, min=0.0, max=120.0, step=0.001, optional=True,
                tooltip="Frames per second of the result; 0 keeps those of the track.",
            )
        ),
        advanced(
            io.Int.Input(
                "num_frames", default=0, min=0, max=1_000_000, optional=True,
                tooltip="Number of frames of the result; 0 keeps that of the track.",
            )
        ),
        advanced(
            io.Combo.Input(
                "track_end", options=list(FILM_ENDS), default="ping-pong", optional=True,
                tooltip="How a track goes on that is to be longer: cut leaves it, hold keeps its last frame, loop "
                "begins anew, ping-pong goes backwards and forwards.",
            )
        ),
        advanced(
            KeypointRenderer.Input(
                "keypoint_renderer", optional=True,
                tooltip="For face-vid2vid: which of its keypoints move the mouth is measured on its own networks.",
            )
        ),
        advanced(io.Image.Input("portrait", optional=True, tooltip="The face on which that is measured.")),
    ]  # fmt: skip
