"""The Render Keypoints node: a video of a portrait, or of a film's face, moved by keypoints."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..portraittalk_core.motion.dub_options import DubOptions
from ..portraittalk_core.renderers.implicit.options import KeypointRenderOptions
from .bindings import convert, convert_audio
from .bindings.film_sound import KEEP, keep_sound_widget, with_film_sound
from .bindings.progress import Progress, show_text
from .bindings.temp_video import new_temp_video, temp_video
from .sockets import (
    ESSENTIALS,
    KeypointRenderer,
    Keypoints,
    Landmarks,
    advanced,
    face_at_input,
    film_landmarks_input,
    schema,
)
from .video import FrameBuffer
from .widgets import ai_mark_widget, crf_widget, face_index_widget, keep_frames_widget, marked, points_widget, widget

# inputs that say what is drawn
SOURCE = ("portrait", "film", "film_landmarks", "face_index", "face_at", "film_end")


class RenderKeypoints(io.ComfyNode):
    """Node that renders a portrait or a film whose face moves by keypoints."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkRenderKeypoints",
            display_name="Render Keypoints",
            description="Draws a portrait, or every frame of a film, with the motion of a keypoint or landmark track, "
            "and puts the face back into the whole picture. Any length: frames go straight into a video file.",
            search_aliases=["talking head", "LivePortrait", "animate portrait", "dubbing", "ControlTalk"],
            inputs=[*_main_inputs(), *_advanced_inputs()],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="All frames, or the first (keep_frames)."),
                io.Video.Output("video", display_name="video", tooltip="The video with its sound, for Save Video."),
                io.Image.Output(
                    "plot", display_name="plot", tooltip="The mouth's opening, asked and measured (measure_opening)."
                ),
                io.String.Output("report", display_name="report", tooltip="The same as numbers, JSON."),
            ],
            hidden=[io.Hidden.unique_id],
            essentials_category=ESSENTIALS,
            has_intermediate_output=True,
        )

    @classmethod
    @marked
    def execute(cls, keypoint_renderer, keypoints, keep_frames, crf=16, audio=None, **inputs) -> io.NodeOutput:
        """Render the frames, write the video, measure the mouth if that is wanted."""
        out, sound = new_temp_video(), convert_audio.to_sound(audio)
        writing = (out, sound, crf, keep_frames, sound is None and audio is not None)
        speech = convert_audio.to_speech(audio) if inputs.get("lips") == "ours" and sound is not None else None
        buffer, opening = _render(keypoint_renderer, keypoints, writing, inputs, speech)
        text = "; ".join(part for part in (buffer.text, opening.text) if part)
        if buffer.surprises:
            show_text(cls.hidden.unique_id, text)
        node_ui = ui.PreviewImage(opening.plot, cls=cls) if opening.report else ui.PreviewText(text)
        images = convert.to_image(buffer.pictures)
        return io.NodeOutput(images, temp_video(out), opening.plot, opening.report, ui=node_ui)


def _render(networks, motion, writing, inputs, speech):
    """Render the frames into a video file, and measure the mouth in them if that is wanted.

    Args:
        networks: PORTRAITTALK_KEYPOINT_RENDERER.
        motion: a keypoint or landmark track.
        writing: path of the video, its sound, its quality, keep_frames, and whether a sound was lost.
        inputs: of the node.
        speech: what is said, for the built-in engine's lips; None where they are not wanted.

    Returns:
        The frames for IMAGE, and the outputs about the opening.
    """
    from contextlib import ExitStack

    from ..portraittalk_core.renderers.contract import Callbacks, Film, RenderJob
    from ..portraittalk_core.renderers.write import render_video
    from .bindings import keypoint_opening
    from .bindings.keypoint_source import source_and_motion
    from .bindings.keypoint_speech import strength

    out, sound, crf, keep_frames, lost_sound = writing
    source_inputs = {name: inputs.pop(name) for name in SOURCE if name in inputs}
    progress, measure, keep = Progress(), inputs.pop("measure_opening"), inputs.pop(KEEP, False)
    with ExitStack() as files:
        source, track = source_and_motion(motion, files, progress, **source_inputs)
        if keep and isinstance(source, Film):
            sound = with_film_sound(source.path, sound)
        alpha, _ = strength(inputs, len(track), track.fps)
        renderer, job = networks.renderer(alpha, **inputs), RenderJob.of_track(source, track, speech)
        width, height = renderer.output_size(job)
        buffer = FrameBuffer(keep_frames, len(track), 3 * width * height, lost_sound)
        meter = files.enter_context(keypoint_opening.meter(measure, track.fps))
        callbacks = Callbacks(progress, _watching(buffer.preview_callback(progress), meter))
        with networks.on_device(renderer.options.batch_size):
            render_video(renderer, job, out, sound=sound, crf=crf, callbacks=callbacks)
            basis = keypoint_opening.basis_of(meter, track, networks.model, source)
        return buffer, keypoint_opening.outputs_of(meter, track, alpha, basis)


def _watching(on_picture, meter):
    """A callback for pictures that also measures them."""
    if meter is None:
        return on_picture

    def on_frame(picture) -> None:
        on_picture(picture)
        meter.see(picture)

    return on_frame


def _main_inputs() -> list[io.Input]:
    return [
        KeypointRenderer.Input("keypoint_renderer", tooltip="From Load Keypoint Renderer."),
        io.MultiType.Input(
            "keypoints", types=[Keypoints, Landmarks],
            tooltip="How the face moves: keypoints of the same family, or landmarks.",
        ),
        io.Image.Input("portrait", optional=True, tooltip="The picture to move; of a batch, the first."),
        io.Video.Input("film", optional=True, tooltip="A video to move instead: every frame keeps its surroundings."),
        io.Audio.Input("audio", optional=True, tooltip="The sound of the video, in its own quality."),
        widget(
            KeypointRenderOptions, "alpha", default=1.0,
            tooltip="How far the mouth moves: 0 keeps it shut, 1 is as the motion has it, 2 exaggerates.",
        ),
        keep_frames_widget(),
        widget(
            KeypointRenderOptions, "paste",
            tooltip="picture puts the face back into the whole picture, crop gives the networks' square alone.",
        ),
        io.Boolean.Input(
            "measure_opening", default=False,
            tooltip="Measure the mouth in the finished frames and plot it against what was asked.",
        ),
    ]  # fmt: skip


def _advanced_inputs() -> list[io.Input]:
    more = {"optional": True, "advanced": True}
    return [
        points_widget(
            "alpha_points",
            "alpha over time, as [[seconds, factor], …]. [] is 1 throughout.",
        ),
        widget(
            KeypointRenderOptions, "relative", **more,
            tooltip="Carry keypoints over as motion from their first frame on: for another face's keypoints.",
        ),
        widget(
            KeypointRenderOptions, "lips", **more,
            tooltip="Whose lips keypoints of an engine have: engine keeps its own, ours takes the built-in engine's.",
        ),
        widget(
            KeypointRenderOptions, "stitching", **more,
            tooltip="Hold shoulders and border still by LivePortrait's stitching network.",
        ),
        widget(
            KeypointRenderOptions, "bridge", **more,
            tooltip="How landmarks become keypoints: warp measures them on the warped portrait, lips moves lips alone.",
        ),
        widget(
            KeypointRenderOptions, "match_colour", **more,
            tooltip="How far the rendered colours are brought to the picture's own.",
        ),
        widget(
            KeypointRenderOptions, "batch_size", max=64, **more,
            tooltip="Frames rendered at once: more are faster and need more memory.",
        ),
        widget(
            DubOptions, "film_end", **more,
            tooltip="Where the motion is longer than the film: cut ends it there, hold keeps the last picture, loop "
            "begins anew, ping-pong plays backwards and forwards.",
        ),
        advanced(film_landmarks_input()),
        face_index_widget("Which face, if there are several: 0 is the largest.", **more),
        crf_widget(optional=True),
        keep_sound_widget(),
        ai_mark_widget(),
        face_at_input("Where the face is in the first frame that shows it, as a mask or box; before face_index."),
    ]  # fmt: skip
