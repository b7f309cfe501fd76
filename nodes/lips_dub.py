"""The Dub Lips node: a film whose face says something else, its mouth painted anew."""

from __future__ import annotations

from dataclasses import fields

from comfy_api.latest import io

from ..portraittalk_core.motion.dub_options import OF_THE_FILM, DubOptions
from ..portraittalk_core.motion.options import MotionOptions
from ..portraittalk_core.renderers.lip.options import LipPaintOptions, ScriptPaintOptions
from .bindings import convert_audio
from .bindings.film_sound import KEEP, keep_sound_widget
from .lips import REFERENCE_INPUTS, reference_widgets
from .sockets import (
    ESSENTIALS,
    Landmarks,
    LipReferences,
    LipRenderer,
    MotionEngine,
    advanced,
    face_at_input,
    film_landmarks_input,
    schema,
)
from .widgets import ai_mark_widget, crf_widget, face_index_widget, keep_frames_widget, later_widgets, marked, widget

WEIGHTS_OWN = -1  # of crop_pad and of numbers of references: as the weights were trained
MOTION = ("mouth_gain", "silence_gate_db", "smoothing", "offset_ms")
PAINT = ("voice_gate", "sharpen", "match_colour", "blend", "feather", "crop_pad", "max_yaw", "batch_size")


class DubLips(io.ComfyNode):
    """Node that dubs a film with a lip renderer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkDubLips",
            display_name="Dub Lips",
            description="Lets the face of a film say something else: its mouth is painted anew from the film's own "
            "lips and pasted back, everything else stays. Any length: frames go straight into a video file.",
            search_aliases=["lip sync", "dubbing", "Wav2Lip", "MuseTalk", "LatentSync", "IP-LAP", "video translation"],
            inputs=[*_main_inputs(), *_advanced_inputs()],
            outputs=[
                io.Video.Output("video", display_name="video", tooltip="The video with its new sound, for Save Video."),
                io.Image.Output("frames", display_name="frames", tooltip="All frames, or the first (keep_frames)."),
                Landmarks.Output("landmarks", display_name="landmarks", tooltip="The film's face with the new mouth."),
                io.Mask.Output("mask", display_name="mask", tooltip="What was painted, for as many frames as frames."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            essentials_category=ESSENTIALS,
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    @marked
    def execute(cls, film, audio, lip_renderer, engine=None, **inputs) -> io.NodeOutput:
        """Track the face, move its mouth, paint it, and write the video."""
        from .bindings.input_names import inputs_named
        from .bindings.lip_dub import run

        speech, sound = convert_audio.to_speech(audio), convert_audio.to_waveform(audio)
        with inputs_named(**REFERENCE_INPUTS):
            result = run(lip_renderer, film, *_sorted(inputs, speech), sound, cls.hidden, engine)
        return io.NodeOutput(*result.outputs, ui=result.ui)


def _sorted(inputs, speech):
    """The inputs by what they are about: what is painted how, what is known of the film, how the result is given."""
    from .bindings.lip_dub import DubInputs, FaceInputs, OutputInputs

    def pop(*names, **renamed):
        values = {name: inputs.pop(name) for name in names if name in inputs}
        return values | {name: inputs.pop(there) for name, there in renamed.items() if there in inputs}

    face_inputs = FaceInputs(**pop("references", "face_index", "face_at", landmarks="film_landmarks"))
    written = OutputInputs(**pop("keep_frames", "crf", "resume", KEEP))
    of_paint = [field.name for field in fields(ScriptPaintOptions)]
    paint = pop(*of_paint, **REFERENCE_INPUTS)
    for name in (*REFERENCE_INPUTS, "crop_pad"):
        if paint.get(name, WEIGHTS_OWN) < 0:
            paint[name] = None
    dub = DubOptions(**pop("film_end", "scenes"))
    return DubInputs(speech, ScriptPaintOptions(**paint), MotionOptions(**inputs), dub), face_inputs, written


def _main_inputs() -> list[io.Input]:
    return [
        io.Video.Input("film", tooltip="The video whose face is to say something else."),
        io.Audio.Input("audio", tooltip="What it says; also the sound of the video, in its own quality."),
        LipRenderer.Input("lip_renderer", tooltip="From Load Lip Renderer."),
        LipReferences.Input(
            "references", optional=True,
            tooltip="From Select References, of the same film; if nothing is connected they are chosen here.",
        ),
        MotionEngine.Input(
            "engine", optional=True, tooltip="From Load Motion Engine; the built-in engine if nothing is connected."
        ),
        widget(MotionOptions, "mouth_gain"),
        widget(
            LipPaintOptions, "voice_gate",
            tooltip="How far the mouth comes to rest where nobody speaks: in silence, noise and music.",
        ),
        widget(
            LipPaintOptions, "sharpen",
            tooltip="How far the painted part is brought to the sharpness of the film's own, with its grain.",
        ),
        widget(
            LipPaintOptions, "match_colour",
            tooltip="How far the painted colours are brought to the film's own around them.",
        ),
        widget(
            LipPaintOptions, "blend",
            tooltip="What of the painted crop is pasted: lower the face from the nose down, face all of it, box the "
            "crop, mouth its inside alone, into the film as the warp bends it; auto: mouth below 128 pixels.",
        ),
        widget(
            LipPaintOptions, "feather",
            tooltip="Width of the soft edge of what is pasted, as a share of the face's size.",
        ),
        keep_frames_widget("IMAGE and MASK"),
    ]  # fmt: skip


def _advanced_inputs() -> list[io.Input]:
    more = {"optional": True, "advanced": True}
    return [
        *reference_widgets(WEIGHTS_OWN, **more),
        widget(
            LipPaintOptions, "crop_pad", default=WEIGHTS_OWN, min=WEIGHTS_OWN, **more,
            tooltip="Room around the landmarks in the networks' crop, in pixels of the film; -1: the weights' own.",
        ),
        widget(
            LipPaintOptions, "max_yaw", **more,
            tooltip="A face turned aside by more degrees stays as it was filmed.",
        ),
        widget(
            LipPaintOptions, "batch_size", max=64, **more,
            tooltip="Frames painted at once: more are faster and need more memory.",
        ),
        *(widget(MotionOptions, name, optional=True) for name in MOTION[1:]),
        widget(
            DubOptions, "film_end", **more,
            tooltip="Where the speech is longer than the film: cut ends it there, hold keeps the last picture, loop "
            "begins anew, ping-pong plays backwards and forwards.",
        ),
        widget(
            DubOptions, "scenes", **more,
            tooltip="Of a film with cuts: same are the scenes that show the first one's person, all are all.",
        ),
        face_index_widget("Which face of several in the first frame that shows them: 0 is the largest.", **more),
        face_at_input("Where the face is in the first frame that shows it, as a mask or box; before face_index."),
        advanced(film_landmarks_input()),
        crf_widget(optional=True),
        advanced(
            io.Boolean.Input(
                "resume", default=True, optional=True,
                tooltip="Keep what was painted on disk until the video is whole: a job that was stopped goes on.",
            )
        ),
        *later_widgets(MotionOptions, [*MOTION, *OF_THE_FILM, "seed"]),  # behind every other widget
        *later_widgets(LipPaintOptions, [*PAINT, *REFERENCE_INPUTS, "reference_frames"]),
        keep_sound_widget(),
        ai_mark_widget(),
        widget(
            ScriptPaintOptions, "inference", **more,
            tooltip="For IP-LAP alone: public shows it what its own script does, at 25 frames a second and "
            "with the engine landmark_generator; script pastes as it does, too; own: any rate, any engine.",
        ),
    ]  # fmt: skip
