"""AnimateNet: frames that follow the landmarks and hold together."""

from __future__ import annotations

from comfy_api.latest import io

from . import convert, paths
from .sockets import AnimateControl, Landmarks, advanced, schema

NO_MODULE = "none"
STYLES = ["mediapipe_face", "head_kps", "landmarks"]
MODES = ["chunked", "sliding"]
PREVIEW_FRAMES, PREVIEW_PX = 32, 512


class AnimateNetControl(io.ComfyNode):
    """Landmarks, a ControlNet and a motion module to what holds the sampler's frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkAnimateNetControl",
            display_name="AnimateNet Control",
            description="Makes every frame follow the landmarks, by a ControlNet that gets each frame's own drawing, "
            "and hold together over time, by an AnimateDiff motion module. Any length.",
            search_aliases=["ControlNet", "AnimateDiff", "motion module", "landmark control"],
            inputs=[
                Landmarks.Input("landmarks", tooltip="Where the face goes, frame by frame."),
                io.ControlNet.Input(
                    "control_net", optional=True, tooltip="A landmark ControlNet for SD1.5, from Load ControlNet Model."
                ),
                io.Combo.Input(
                    "motion_module", options=[NO_MODULE, *paths.motion_names()], default=NO_MODULE,
                    tooltip="AnimateDiff v1, v2, v3 or AnimateLCM for SD1.5, from models/animatediff_models.",
                ),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=4.0, step=0.01,
                    tooltip="How strictly frames follow the drawings; 0 is no ControlNet.",
                ),
                io.Float.Input(
                    "start_percent", default=0.0, min=0.0, max=1.0, step=0.01,
                    tooltip="Part of the steps at which the ControlNet sets in.",
                ),
                io.Float.Input(
                    "end_percent", default=1.0, min=0.0, max=1.0, step=0.01, tooltip="… and at which it ends."
                ),
                io.Float.Input(
                    "mouth_weight", default=1.5, min=0.0, max=4.0, step=0.05,
                    tooltip="How much more the ControlNet counts around the mouth; 1 is everywhere alike.",
                ),
                io.Float.Input(
                    "motion_strength", default=1.0, min=0.0, max=2.0, step=0.01,
                    tooltip="How strongly the motion module acts; 0 is off.",
                ),
                io.Combo.Input(
                    "mode", options=MODES, default="chunked",
                    tooltip="Long video: each chunk begins with the last frames of the one before; or sliding windows.",
                ),
                *_advanced_inputs(),
            ],
            outputs=[
                AnimateControl.Output("control", display_name="control", tooltip="For IdentityNet Sampler."),
                io.Image.Output("hints", display_name="hints", tooltip="The first drawings, at most 32."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, motion_module) -> bool | str:
        """Accept files that appeared after the list was made."""
        try:
            _motion_file(motion_module)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, landmarks, motion_module, strength, start_percent, end_percent, **given) -> io.NodeOutput:
        """Open the motion module, and draw the first frames."""
        from .animate_control import AnimateControl as Control

        window, overlap = given.pop("window", 16), given.pop("overlap", 4)
        video, motion = _video(given.pop("mode"), window, overlap), _motion(motion_module)
        control = Control(
            landmarks, strength=strength, percents=(start_percent, end_percent), motion=motion, video=video, **given
        )
        return io.NodeOutput(control, convert.to_image(control.preview(*_preview_size(landmarks), PREVIEW_FRAMES)))


def _advanced_inputs() -> list[io.Input]:
    return [
        advanced(
            io.Int.Input(
                "window", default=16, min=2, max=64, optional=True,
                tooltip="Frames that the motion module sees at once; 16 is what it was trained on.",
            )
        ),
        advanced(
            io.Int.Input(
                "overlap", default=4, min=0, max=32, optional=True, tooltip="Frames that neighbours share."
            )
        ),
        advanced(
            io.Combo.Input(
                "style", options=STYLES, default="mediapipe_face", optional=True,
                tooltip="The drawing that your ControlNet was trained on.",
            )
        ),
    ]  # fmt: skip


def _video(mode, window, overlap):
    from ..portraittalk_core.diffusion.windowed import VideoOptions

    return VideoOptions(mode, window, overlap)


def _motion(name):
    """The motion module under ComfyUI's memory management; None for none."""
    from ..portraittalk_core.animate.temporal import load_motion_modules
    from .comfy_motion import managed_motion
    from .comfy_unet import OPERATIONS

    path = _motion_file(name)
    return None if path is None else managed_motion(load_motion_modules(path, OPERATIONS))


def _motion_file(name):
    return None if name == NO_MODULE else paths.motion_path(name)


def _preview_size(track):
    """Width and height, the longer one PREVIEW_PX, multiples of 8."""
    scale = PREVIEW_PX / max(track.width, track.height)
    return tuple(max(64, 8 * round(side * scale / 8)) for side in (track.width, track.height))
