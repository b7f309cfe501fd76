"""Speech nodes of keypoints: Audio2Exp, and motion engines that make keypoints."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..portraittalk_core.motion.dub_options import DubOptions
from ..portraittalk_core.motion.options import MotionOptions
from ..portraittalk_core.renderers.implicit.options import PUBLIC_ALPHA, KeypointRenderOptions
from .bindings import convert, convert_audio, paths
from .engine import AUTO as NO_ENCODER
from .sockets import KeypointRenderer, Keypoints, MotionEngine, curve_input, keypoint_outputs, schema
from .widgets import face_index_widget, points_widget, widget, widgets

PING_PONG = "ping-pong"


class Audio2Exp(io.ComfyNode):
    """Node that edits the expression of a keypoint track by speech."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkAudio2Exp",
            display_name="Audio2Exp",
            description="Lets the mouth of a keypoint track follow speech, by ControlTalk's network: head, eyes and "
            "all else stay. alpha says how far the mouth opens: 0 keeps it shut.",
            search_aliases=["ControlTalk", "lip sync", "dubbing", "mouth opening"],
            inputs=[*_main_inputs(), *_advanced_inputs()],
            outputs=keypoint_outputs("The same head, speaking."),
            hidden=[io.Hidden.unique_id],
            is_output_node=True,  # its timeline: runs with nothing after it, and is sent again by a cached run
        )

    @classmethod
    def validate_inputs(cls, audio2exp, encoder) -> bool | str:
        """Accept files that appeared after the lists were made."""
        from .bindings.keypoint_files import audio2exp_path

        return paths.validated(lambda: (audio2exp_path(audio2exp), _encoder_path(encoder)))

    @classmethod
    def fingerprint_inputs(cls, audio2exp, encoder, **other_inputs) -> str:
        """Edit again when a file has changed."""
        from .bindings.keypoint_files import audio2exp_path

        return paths.fingerprint([audio2exp_path(audio2exp), _encoder_path(encoder)], other_inputs)

    @classmethod
    def execute(cls, keypoints, audio, audio2exp, encoder, **inputs) -> io.NodeOutput:
        """Edit the track; send its timeline to the page."""
        from ..portraittalk_core.plots.keypoint_timeline import keypoint_timeline_payload
        from .bindings.keypoint_files import audio2exp_path
        from .bindings.keypoint_speech import as_long_as, drive, strength
        from .bindings.keypoints import plot_of

        speech = convert_audio.to_speech(audio)
        base = as_long_as(keypoints, speech, inputs.pop("film_end", PING_PONG))
        alpha, gain = strength(inputs, len(base), base.fps)
        track = drive((audio2exp_path(audio2exp), _encoder_path(encoder)), base, speech, alpha, **inputs)
        node_ui = {"portraittalk_timeline": [keypoint_timeline_payload(track, speech, gain)]}  # for timeline.js
        return io.NodeOutput(track, plot_of(track, speech), len(track), float(track.fps), ui=node_ui)


class AudioToKeypoints(io.ComfyNode):
    """Node that generates a keypoint track of a speaking face by a motion engine which makes keypoints."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkAudioToKeypoints",
            display_name="AudioToKeypoints",
            description="Moves head and face to speech by a motion engine that makes keypoints itself, such as "
            "JoyVASA. Engines that make landmarks go through AudioToLandmarks and Landmarks To Keypoints.",
            search_aliases=["JoyVASA", "talking head", "audio to keypoints", "speech to face"],
            inputs=[
                MotionEngine.Input("engine", tooltip="From Load Motion Engine, of a file that makes keypoints."),
                io.Image.Input("portrait", tooltip="The picture whose face is to speak; of a batch, the first one."),
                io.Audio.Input("audio", tooltip="What it says. Voice alone works best."),
                KeypointRenderer.Input(
                    "keypoint_renderer", optional=True,
                    tooltip="The networks that will draw: the motion then begins where the portrait's face stands.",
                ),
                widget(MotionOptions, "fps", min=8, max=60),
                *widgets(MotionOptions, ("mouth_gain", "head_motion", "seed")),
                face_index_widget("Which face of several: 0 is the largest."),
                widget(MotionOptions, "offset_ms", optional=True),
            ],
            outputs=keypoint_outputs("The speaking face's motion."),
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, engine, portrait, audio, fps, face_index, keypoint_renderer=None, **motion) -> io.NodeOutput:
        """Generate the track and show its plot."""
        from ..portraittalk_core.types import as_fps
        from .bindings.keypoint_speech import find_face, spoken
        from .bindings.keypoints import plot_of

        speech, options = convert_audio.to_speech(audio), MotionOptions(fps=as_fps(fps), **motion)
        face = find_face(convert.to_portrait(portrait), face_index)
        track = spoken(engine, face, speech, options, keypoint_renderer)
        plot = plot_of(track, speech)
        return io.NodeOutput(track, plot, len(track), float(track.fps), ui=ui.PreviewImage(plot, cls=cls))


def _encoder_path(name):
    from ..portraittalk_core.errors import InputError

    if name == NO_ENCODER:
        raise InputError(
            "Audio2Exp hears by HuBERT: put TencentGameMate/chinese-hubert-large into models/audio_encoders and "
            "choose it as encoder."
        )
    return paths.encoder_path(name)


def _main_inputs() -> list[io.Input]:
    from .bindings.keypoint_files import audio2exp_names

    return [
        Keypoints.Input("keypoints", tooltip="The face that is to speak: of a video, or one frame of a picture."),
        io.Audio.Input("audio", tooltip="What it says. Voice alone works best."),
        io.Combo.Input(
            "audio2exp", options=audio2exp_names(),
            tooltip="ControlTalk's lipControlNet.pt in models/controltalk, or one that you trained.",
        ),
        io.Combo.Input(
            "encoder", options=[NO_ENCODER, *paths.encoder_names()], default=NO_ENCODER,
            tooltip="chinese-hubert-large in models/audio_encoders, by which the network hears.",
        ),
        widget(
            KeypointRenderOptions, "alpha", default=PUBLIC_ALPHA,
            tooltip="How far the mouth opens: 0 keeps it shut, 0.7 is natural, 2 exaggerates.",
        ),
    ]  # fmt: skip


def _advanced_inputs() -> list[io.Input]:
    more = {"optional": True, "advanced": True}
    return [
        points_widget(
            "alpha_points",
            "alpha over time, as [[seconds, factor], …]; drawn in the timeline. [] is 1 throughout.",
        ),
        widget(
            KeypointRenderOptions, "silence_pass", **more,
            tooltip="Let the network hear silence first, which shuts the mouth that the keypoints have.",
        ),
        widget(
            KeypointRenderOptions, "audio_offset", **more,
            tooltip="Frames by which it hears later (positive) or earlier (negative).",
        ),
        widget(
            DubOptions, "film_end", default=PING_PONG, **more,
            tooltip="Where the speech is longer than the keypoints: cut ends it there, hold keeps the last frame, "
            "loop begins anew, ping-pong goes backwards and forwards.",
        ),
        curve_input(
            "alpha_curve",
            "alpha over time, times what the timeline says: a list of numbers, one a frame, or a CURVE, 0 to 1 over "
            "the whole clip.",
        ),
    ]  # fmt: skip
