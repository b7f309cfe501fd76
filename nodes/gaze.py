"""The Gaze And Breath node: where the eyes look, and what moves by itself beside the mouth."""

from __future__ import annotations

from comfy_api.latest import io

from ..portraittalk_core.errors import InputError
from ..portraittalk_core.motion.options import MotionOptions
from .sockets import GazeBreath, schema
from .widgets import points_widget, widget

GAZE = ("gaze", "gaze_yaw", "gaze_pitch")
AMOUNTS = ("eye_motion", "brow_motion", "breath", "idle_motion")
GIVEN = (*GAZE, *AMOUNTS, "gaze_points")  # fields of MotionOptions that this node gives
CONNECT = "Where the eyes look, and how much eyes, brows, breath and head move by themselves; natural without it."


class GazeAndBreath(io.ComfyNode):
    """Node that sets where the eyes look and what moves by itself."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkGazeAndBreath",
            display_name="Gaze And Breath",
            description="Where the eyes of a speaking face look, and how much eyes, brows, breath and head move by "
            "themselves. Without it they move naturally.",
            search_aliases=["eye contact", "look at camera", "saccades", "breathing", "idle motion"],
            inputs=[
                *(widget(MotionOptions, name, advanced=False) for name in (*GAZE, *AMOUNTS)),
                points_widget(
                    "gaze_points",
                    "Where the eyes look over time, as [[seconds, yaw, pitch], …], degrees that are added "
                        "to gaze_yaw and gaze_pitch.",
                ),
            ],
            outputs=[
                GazeBreath.Output(
                    "gaze_and_breath", display_name="gaze_and_breath",
                    tooltip="For AudioToLandmarks and Several Speakers.",
                )
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, gaze_points="[]", **amounts) -> io.NodeOutput:
        """Check the values."""
        from ..portraittalk_core.motion.gaze import gaze_points as drawn_gaze

        return io.NodeOutput(MotionOptions(gaze_points=tuple(drawn_gaze(gaze_points)), **amounts))


def gaze_breath_input() -> io.Input:
    """The input for what this node gives; it stands behind all others."""
    return GazeBreath.Input("gaze_and_breath", optional=True, tooltip=CONNECT)


def given_motion(options: MotionOptions | None, one_face: bool = True) -> dict[str, object]:
    """Arguments of MotionOptions from what is connected; empty for nothing.

    Args:
        options: from the node.
        one_face: whether there is one face, which points over time may move.

    Raises:
        InputError: points over time for several faces.
    """
    if options is None:
        return {}
    if options.gaze_points and not one_face:
        raise InputError("gaze_points move one face; clear them in Gaze And Breath: several faces speak here.")
    return {name: getattr(options, name) for name in GIVEN}
