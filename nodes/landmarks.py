"""Landmark track nodes: tracking a video, preview, saving and loading."""

from __future__ import annotations

import math

from comfy_api.latest import io, ui

from ..portraittalk_core.motion.dub_options import DubOptions
from ..portraittalk_core.motion.options import MotionOptions
from .bindings import convert, convert_audio, paths
from .bindings.outputs import valid_prefix
from .bindings.progress import PREVIEW_PX, Progress, counted
from .bindings.tracking import of_one_person, tracked
from .save_file import length_text, save_schema, save_to_output
from .sockets import FaceLandmarks, Landmarks, advanced, face_at_input, schema
from .widgets import face_index_widget, widget

FILL = ["hold", "interpolate", "error"]


class LandmarksFromVideo(io.ComfyNode):
    """Node that tracks the landmarks of one face in a video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkLandmarksFromVideo",
            display_name="Landmarks From Video",
            description="Follows one face through a video. Connect a VIDEO, or IMAGE frames, or FACE_LANDMARKS.",
            search_aliases=["face tracking", "facial landmarks"],
            inputs=[
                io.Video.Input("video", optional=True, tooltip="The video to watch, at its own frame rate."),
                io.Image.Input("frames", optional=True, tooltip="Frames instead of a video."),
                FaceLandmarks.Input(
                    "face_landmarks", optional=True, tooltip="Landmarks from newer ComfyUI's own detector, instead."
                ),
                widget(
                    MotionOptions, "fps",
                    tooltip="Frames per second of the frames or face_landmarks input; a video knows its own.",
                ),
                face_index_widget("Which face of several in the first frame: 0 is the largest."),
                advanced(
                    io.Combo.Input(
                        "on_missing", options=FILL, default="hold",
                        tooltip="Frames without the face: repeat the last place, move straight to the next, or stop.",
                    )
                ),
                face_at_input("Where the face is in the first frame, as a mask or box; goes before face_index."),
                widget(
                    DubOptions, "scenes", default="all", optional=True, advanced=True,
                    tooltip="Of a video with cuts: same leaves scenes out that show another face than the first one, "
                    "so that a dub keeps them as filmed; all follows whoever is there.",
                ),
            ],
            outputs=[
                Landmarks.Output("landmarks", display_name="landmarks", tooltip="The face in every frame."),
                io.Int.Output("frame_count", display_name="frame_count", tooltip="Number of frames."),
                io.Float.Output("fps_out", display_name="fps", tooltip="Frames per second."),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(cls, fps, face_index, on_missing, face_at=None, scenes="all", **watched) -> io.NodeOutput:
        """Track the face in whichever input is connected."""
        from ..portraittalk_core.pipelines.same_person import DlibPerson, ScenesSeen

        scene_faces = ScenesSeen(DlibPerson()) if scenes == "same" else None
        track = tracked(fps, (face_index, face_at), (on_missing, scene_faces and scene_faces.see), **watched)
        if scene_faces is not None and watched.keys() & {"video", "frames"}:
            track = of_one_person(track, scene_faces, cls.hidden.unique_id)
        return io.NodeOutput(track, len(track), float(track.fps))


class PreviewLandmarks(io.ComfyNode):
    """Node that draws a track as frames of line drawings and as curves over time."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkPreviewLandmarks",
            display_name="Preview Landmarks",
            description="Draws a landmark track: frames of line drawings, and its curves over time.",
            inputs=[
                Landmarks.Input("landmarks", tooltip="The track to look at."),
                io.Audio.Input("audio", optional=True, tooltip="Its waveform is drawn behind the mouth's curves."),
                io.Int.Input(
                    "max_frames", default=64, min=1, max=1024,
                    tooltip="At most this many frames are drawn, evenly spread over the track.",
                ),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="Line drawings, at most max_frames."),
                io.Image.Output("plot", display_name="plot", tooltip="Mouth, jaw, eyes and head pose over time."),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, landmarks, max_frames, audio=None) -> io.NodeOutput:
        """Draw the frames and the plot; show the plot on the node."""
        from ..portraittalk_core.face.draw import draw_landmarks
        from ..portraittalk_core.plots.track import plot_track

        step = max(1, math.ceil(len(landmarks) / max_frames))
        indices = range(0, len(landmarks), step)
        drawings = (next(draw_landmarks(landmarks, i, PREVIEW_PX)) for i in indices)
        frames = list(counted(drawings, len(indices), Progress()))
        speech = convert_audio.to_speech(audio) if audio is not None else None
        plot = convert.to_image([plot_track(landmarks, speech)])
        return io.NodeOutput(convert.to_image(frames), plot, ui=ui.PreviewImage(plot, cls=cls))


class SaveLandmarks(io.ComfyNode):
    """Node that saves a track to a file in the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return save_schema(
            Landmarks.Input("landmarks", tooltip="The track to keep."),
            "landmarks",
            node_id="PortraitTalkSaveLandmarks",
            display_name="Save Landmarks",
            description="Writes a landmark track to ComfyUI's output folder, as a small safetensors file.",
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        """Refuse a name before anything runs."""
        return valid_prefix(filename_prefix)

    @classmethod
    def execute(cls, landmarks, filename_prefix) -> io.NodeOutput:
        """Write the next numbered file."""
        size = (landmarks.width, landmarks.height)
        return save_to_output(landmarks, filename_prefix, length_text(landmarks), cls.hidden.unique_id, size)


class LoadLandmarks(io.ComfyNode):
    """Node that loads a track from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkLoadLandmarks",
            display_name="Load Landmarks",
            description="Reads a landmark track from ComfyUI's input or output folder.",
            inputs=[
                io.Combo.Input(
                    "file", options=paths.track_names(),
                    tooltip="A .safetensors track in the input folder, or one that Save Landmarks wrote ([output]).",
                )
            ],
            outputs=[
                Landmarks.Output("landmarks", display_name="landmarks", tooltip="The face in every frame."),
                io.Int.Output("frame_count", display_name="frame_count", tooltip="Number of frames."),
                io.Float.Output("fps_out", display_name="fps", tooltip="Frames per second."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, file) -> bool | str:
        """Accept files that appeared after the list was made."""
        return paths.validated(lambda: paths.track_path(file))

    @classmethod
    def fingerprint_inputs(cls, file) -> str:
        """Read again when the file has changed."""
        return paths.fingerprint([paths.track_path(file)])

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        """Read the file."""
        from ..portraittalk_core.media.records import load_record
        from ..portraittalk_core.types import LandmarkTrack

        track = load_record(LandmarkTrack, paths.track_path(file))
        return io.NodeOutput(track, len(track), float(track.fps))
