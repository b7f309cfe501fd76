"""The Several Speakers node: a video of one picture whose faces speak, each its own sound."""

from __future__ import annotations

from functools import partial

from comfy_api.latest import io

from ..portraittalk_core.motion.options import MotionOptions
from .bindings import convert
from .bindings.progress import show_text
from .bindings.temp_video import temp_video, video_ui
from .gaze import GIVEN, gaze_breath_input, given_motion
from .sockets import ESSENTIALS, BoundingBox, Boxes, KeypointRenderer, MotionEngine, growing, grown, schema
from .widgets import ai_mark_widget, crf_widget, keep_frames_widget, later_widgets, marked, widget, widgets

VOICES, VOICE, PLACES, PLACE = "voices", "voice", "faces_at", "face_at"
MOST_VOICES = 5
VOICE_TEXT = "What the faces say, a sound each; all begin together, and who does not speak listens."
PLACE_TEXT = "Where the face of the voice of the same number is, as a mask or box; goes before faces."
MAIN = ("fps", "mouth_gain", "head_motion", "blink_rate", "seed")
# of MotionOptions, in the order in which saved graphs know them
FINE = ("silence_gate_db", "smoothing", "offset_ms", "emotion", "emotion_strength")


class SeveralSpeakers(io.ComfyNode):
    """Node that lets several faces of one picture speak."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkSeveralSpeakers",
            display_name="Several Speakers",
            description="Lets several faces of one picture speak, each with a sound of its own. Needs no weights. Who "
            "does not speak listens. Any length: frames go straight into a video file.",
            search_aliases=["talking head", "dialogue", "conversation", "multi person", "InfiniteTalk", "MultiTalk"],
            inputs=_inputs(),
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="All frames, or the first (keep_frames)."),
                io.Video.Output("video", display_name="video", tooltip="The video with the sum of all sounds."),
            ],
            hidden=[io.Hidden.unique_id],
            essentials_category=ESSENTIALS,
            has_intermediate_output=True,
        )

    @classmethod
    @marked
    def execute(cls, portrait, faces, keep_frames, crf=16, listeners="", **inputs) -> io.NodeOutput:
        """Find the faces, render them together, and write the video."""
        from .bindings.together import run

        voices, places = (_pop_grown(inputs, name, one) for name, one in ((VOICES, VOICE), (PLACES, PLACE)))
        made_by = inputs.pop("engine", None), inputs.pop("keypoint_renderer", None)
        motion = MotionOptions(**given_motion(inputs.pop("gaze_and_breath", None), one_face=False), **inputs)
        buffer, out = run(portrait, (voices, places, faces, listeners), motion, made_by, (keep_frames, crf))
        if buffer.surprises:
            show_text(cls.hidden.unique_id, buffer.text)
        return io.NodeOutput(convert.to_image(buffer.pictures), temp_video(out), ui=video_ui(out, buffer.text))


def _pop_grown(inputs, name, one):
    """What is connected to the inputs of a name, which are taken out of all inputs."""
    values = grown(name, one, MOST_VOICES, inputs)
    for key in [key for key in inputs if key.split(".")[0] == name]:
        del inputs[key]
    return values


def _inputs() -> list[io.Input]:
    return [
        io.Image.Input("portrait", tooltip="A picture of several people; of a batch, the first."),
        *growing(VOICES, _voice(VOICE), MOST_VOICES, VOICE_TEXT, partial(_voice, optional=True)),
        *growing(PLACES, _place(PLACE), MOST_VOICES, PLACE_TEXT, partial(_place, optional=True)),
        MotionEngine.Input(
            "engine", optional=True, tooltip="From Load Motion Engine; the built-in engine if nothing is connected."
        ),
        KeypointRenderer.Input(
            "keypoint_renderer", optional=True,
            tooltip="From Load Keypoint Renderer: draws the faces; the warp, without weights, if nothing is connected.",
        ),
        io.String.Input(
            "faces", default="",
            tooltip="Whose each voice is: numbers of faces from left to right, such as 0, 2; empty counts 0, 1, 2, …",
        ),
        io.String.Input(
            "listeners", default="", optional=True,
            tooltip="Further faces, which say nothing but listen: numbers from left to right, such as 2, 3.",
        ),
        *widgets(MotionOptions, MAIN),
        keep_frames_widget(),
        crf_widget(optional=True),
        *(widget(MotionOptions, name, optional=True) for name in FINE),
        ai_mark_widget(),
        *later_widgets(MotionOptions, [*MAIN, *FINE, *GIVEN]),  # behind every other widget
        gaze_breath_input(),
    ]  # fmt: skip


def _voice(key: str, **settings: object) -> io.Input:
    return io.Audio.Input(key, tooltip=VOICE_TEXT, **settings)


def _place(key: str, **settings: object) -> io.Input:
    return io.MultiType.Input(key, types=[io.Mask, BoundingBox, Boxes], tooltip=PLACE_TEXT, **settings)
