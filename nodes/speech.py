"""The AudioToLandmarks node: a speech-driven landmark track of a portrait."""

from __future__ import annotations

from fractions import Fraction

from comfy_api.latest import io

from ..portraittalk_core.errors import InputError
from ..portraittalk_core.motion.dub_options import DubOptions
from ..portraittalk_core.motion.options import MotionOptions
from .bindings import convert, convert_audio, convert_landmarks
from .bindings.curves import frame_values
from .bindings.face_place import index_at
from .bindings.progress import Progress, face_mesh, show_text
from .engine import to_engine
from .gaze import GIVEN, gaze_breath_input, given_motion
from .sockets import (
    ESSENTIALS,
    AudioEncoderOutput,
    FaceLandmarks,
    Landmarks,
    MotionEngine,
    Style,
    curve_input,
    face_at_input,
    schema,
)
from .widgets import face_index_widget, later_widgets, points_widget, widget, widgets

# options of MotionOptions by where they stand among the inputs, which saved graphs rely on; new ones come last
MAIN = ("fps", "mouth_gain", "head_motion", "blink_rate", "seed")
FINE = ("silence_gate_db", "smoothing", "offset_ms")
EMOTION = ("emotion", "emotion_strength")


class AudioToLandmarks(io.ComfyNode):
    """Node that generates a landmark track of a portrait from speech, or dubs a driving track."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkAudioToLandmarks",
            display_name="AudioToLandmarks",
            description="Moves the face of a portrait to speech: 478 landmarks a video frame. Nothing to download.",
            search_aliases=["lip sync", "talking head", "audio to face", "speech to face"],
            inputs=[*_main_inputs(), *_motion_inputs()],
            is_output_node=True,  # its timeline: runs with nothing after it, and is sent again by a cached run
            outputs=[
                Landmarks.Output("landmarks", display_name="landmarks", tooltip="The face in every frame."),
                io.Int.Output("frame_count", display_name="frame_count", tooltip="Frames: seconds × fps, rounded up."),
                io.Float.Output("fps_out", display_name="fps", tooltip="Frames per second, for Create Video."),
                io.Image.Output("plot", display_name="plot", tooltip="The mouth's curves over the waveform."),
                io.Image.Output("film_out", display_name="film", tooltip="film as film_end has it; else the portrait."),
            ],
            hidden=[io.Hidden.unique_id],
            essentials_category=ESSENTIALS,
        )

    @classmethod
    def execute(cls, portrait, audio, fps, face_index, face_landmarks=None, engine=None, **motion) -> io.NodeOutput:
        """Detect the face and generate its landmarks, or dub the driving landmarks."""
        from ..portraittalk_core.plots.timeline import timeline_payload

        speech, picture = convert_audio.to_speech(audio), convert.to_portrait(portrait)
        style, face_at = (motion.pop(name, None) for name in ("style", "face_at"))
        film, pictures = _extended_film(motion, speech, portrait)
        speech, fps = _as_long_as(film, speech, fps, cls.hidden.unique_id)
        motion_engine = to_engine(engine, motion.pop("audio_encoder_output", None), speech)
        options, face = _motion_options(speech, fps, **motion), (picture, face_landmarks, face_index)
        source, place = (face, speech, motion_engine), (face_at, convert.to_pictures(portrait).size)
        make = _speaking(*source, place) if film is None else _dubbing(film, *source)
        track = _in_style(make, options, style, speech.num_frames(options.fps))
        node_ui = {"portraittalk_timeline": [timeline_payload(track, speech, options.gain_curve)]}  # for timeline.js
        return io.NodeOutput(track, len(track), float(track.fps), convert.to_plot(track, speech), pictures, ui=node_ui)


def _in_style(make, options, node_style, num_frames):
    from ..portraittalk_core.style.reference import in_style

    return in_style(make, options, None if node_style is None else node_style.over(num_frames, options.fps))


def _speaking(face, speech, engine, place):
    """A function from motion options to the landmark track of a speaking portrait."""
    from ..portraittalk_core.pipelines.talk import landmarks_of_speech

    picture, face_landmarks, face_index = face
    if face_landmarks is not None and place[0] is not None:
        raise InputError("face_at goes without face_landmarks, whose faces are chosen by face_index.")
    reference = _detect_face(picture, face_index, *place) if face_landmarks is None else _connected_face(*face)
    return lambda options: landmarks_of_speech(picture, speech, options, 0, reference, engine, Progress())


def _dubbing(film, face, speech, engine):
    """A function from motion options to the film's track with its mouth dubbed; no face detection is needed."""
    from ..portraittalk_core.face.crop import fit_track_to
    from ..portraittalk_core.motion.dub import dub_track

    height, width = face[0].shape[:2]
    fitted = fit_track_to(film, width, height)
    return lambda options: dub_track(fitted, speech, options, engine, Progress())


def _extended_film(inputs, speech, portrait):
    """The film's landmarks and pictures, longer where the speech is and film_end says how; taken out of the inputs.

    None are landmarks without a film, and the portrait takes the place of pictures that are not there.
    """
    from ..portraittalk_core.motion.dub import film_order

    names = {"driving_landmarks": None, "film": None, "film_end": "cut"}
    track, film, film_end = (inputs.pop(name, default) for name, default in names.items())
    if track is None:
        if film is not None:
            raise InputError("film goes with driving_landmarks: connect Landmarks From Video, or disconnect film.")
        return None, portrait
    if film is not None and len(convert.to_pictures(film)) != len(track):
        count = len(convert.to_pictures(film))
        raise InputError(f"film has {count} pictures, driving_landmarks {len(track)} frames; connect one film to both.")
    pictures = portrait if film is None else film
    order = film_order(len(track), speech.num_frames(track.fps), film_end)
    if len(order) == len(track):
        return track, pictures
    longer = track.at(order)
    return longer, pictures if film is None else film[order]


def _as_long_as(film, speech, fps, node_id):
    """The speech cut or padded to the length of a film, and its fps; a message on the node tells where they differ."""
    from ..portraittalk_core.motion.dub import fit_speech

    if film is None:
        return speech, fps
    fitted = fit_speech(speech, len(film), film.fps)
    if fitted.cut_s:
        text = f"The video ends {fitted.cut_s:.2f} s before the speech: the rest of the speech is left out."
        show_text(node_id, text)
    if fitted.rest_s:
        show_text(node_id, f"The speech ends {fitted.rest_s:.2f} s before the video: the mouth rests there.")
    return fitted.speech, film.fps


def _motion_options(
    speech, fps, gain_points="[]", gain_curve=None, emotion_points="[]", gaze_and_breath=None, **motion
):
    from ..portraittalk_core.motion.expression import emotion_points as drawn_emotions
    from ..portraittalk_core.motion.gain import gain_curve as drawn_gain
    from ..portraittalk_core.motion.gain import gain_of_values
    from ..portraittalk_core.types import as_fps

    exact = as_fps(fps)
    num_frames = speech.num_frames(exact)
    curve = drawn_gain(gain_points, num_frames, exact)
    if gain_curve is not None:
        connected = gain_of_values(frame_values(gain_curve, num_frames), num_frames)
        curve = connected if curve is None else curve * connected
    emotions = tuple(drawn_emotions(emotion_points))
    motion |= given_motion(gaze_and_breath)
    return MotionOptions(fps=exact, gain_curve=curve, emotion_points=emotions, **motion)


def _detect_face(picture, face_index, face_at, size):
    from ..portraittalk_core.face.mesh.landmarks import find_portrait

    with face_mesh(notes=True) as mesh:
        index = face_index if face_at is None else index_at(face_at, picture, mesh, "the portrait", size)
        return find_portrait(picture, index, source="the portrait", mesh=mesh).landmarks


def _connected_face(picture, face_landmarks, face_index):
    from ..portraittalk_core.types import Portrait

    track = convert_landmarks.to_track(face_landmarks, Fraction(25), face_index).slice(0, 1)
    return Portrait(picture, track, "the portrait").landmarks  # which checks that they belong to a picture of this size


def _main_inputs() -> list[io.Input]:
    return [
        io.Image.Input("portrait", tooltip="The picture whose face is to speak; of a batch, the first one."),
        io.Audio.Input("audio", tooltip="What it says. Voice alone works best; music under it blurs the lips."),
        widget(MotionOptions, "fps", min=8, max=60),
        *widgets(MotionOptions, MAIN[1:]),
        face_index_widget("Which face of several: 0 is the largest; faces of about one size count from left to right."),
    ]


def _motion_inputs() -> list[io.Input]:
    return [
        *widgets(MotionOptions, FINE),
        points_widget(
            "gain_points",
            "mouth_gain over time, as [[seconds, gain], …]; drawn in the timeline. [] is 1 throughout.",
        ),
        curve_input(
            "gain_curve",
            "mouth_gain over time, times what the timeline says: a list of numbers, one a frame, or a CURVE, 0 to 1 "
            "over the whole clip.",
        ),
        MotionEngine.Input(
            "engine", optional=True, tooltip="From Load Motion Engine; the built-in engine if nothing is connected."
        ),
        AudioEncoderOutput.Input(
            "audio_encoder_output", optional=True,
            tooltip="From ComfyUI's own Audio Encoder, for engines that need a speech encoder (GeneFace++).",
        ),
        FaceLandmarks.Input(
            "face_landmarks", optional=True,
            tooltip="Landmarks of the portrait from newer ComfyUI's own detector, instead of finding the face here.",
        ),
        Landmarks.Input(
            "driving_landmarks", optional=True,
            tooltip="To dub a video: its landmarks. The mouth follows the sound, head and eyes stay the video's, which "
            "also sets length and fps. portrait is then a frame of that video.",
        ),
        Style.Input("style", optional=True, tooltip="How to speak, from StylePrior; the amounts above multiply it."),
        widget(DubOptions, "film_end", optional=True, advanced=True),
        points_widget(
            "emotion_points",
            "emotion over time, as [[seconds, emotion, strength], …], times emotion_strength. [] is one "
                "throughout.",
        ),
        *(widget(MotionOptions, name, optional=True) for name in EMOTION),
        *later_widgets(MotionOptions, [*MAIN, *FINE, *EMOTION, *GIVEN]),  # behind every other widget
        face_at_input("Where the face is in the portrait, as a mask or box; goes before face_index."),
        io.Image.Input(
            "film", optional=True,
            tooltip="The pictures of driving_landmarks, one for each frame: the output film is as long as the new "
            "track.",
        ),
        gaze_breath_input(),
    ]  # fmt: skip
