"""Keypoint nodes: the networks of a keypoint renderer, and motion as keypoints from a video or from landmarks."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..portraittalk_core.motion.options import MotionOptions
from ..portraittalk_core.renderers.implicit.options import BRIDGES
from .bindings import convert, paths
from .bindings.progress import Progress, face_mesh
from .landmarks import FILL
from .sockets import KeypointRenderer, Landmarks, advanced, face_at_input, keypoint_outputs, schema
from .widgets import face_index_widget, widget

PRECISIONS = ["auto", "fp32", "fp16", "bf16"]
SIZES = ["auto", "256", "512"]


class LoadKeypointRenderer(io.ComfyNode):
    """Node that loads the networks of a keypoint renderer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        from .bindings.keypoint_files import DEFAULT, network_names

        return schema(
            node_id="PortraitTalkLoadKeypointRenderer",
            display_name="Load Keypoint Renderer",
            description="Opens the networks that move a face by implicit keypoints: LivePortrait's files, or "
            "face-vid2vid's checkpoint, known by their content.",
            search_aliases=["LivePortrait", "face-vid2vid", "ControlTalk", "implicit keypoints"],
            inputs=[
                io.Combo.Input(
                    "networks", options=network_names(), default=DEFAULT,
                    tooltip="Folder with LivePortrait's five files, .pth or .safetensors, or face-vid2vid's one.",
                ),
                io.Combo.Input(
                    "precision", options=PRECISIONS, default="auto",
                    tooltip="Numbers that the networks compute with: auto takes half precision on a GPU, else fp32.",
                ),
                advanced(
                    io.Combo.Input(
                        "size", options=SIZES, default="auto", optional=True,
                        tooltip="Side of the face's crop: auto is what the files say; face-vid2vid's take 512 too.",
                    )
                ),
                advanced(
                    io.Boolean.Input(
                        "compile", default=False, optional=True,
                        tooltip="torch.compile: the first frames take minutes, all others are faster.",
                    )
                ),
            ],
            outputs=[
                KeypointRenderer.Output(
                    "keypoint_renderer", display_name="keypoint_renderer", tooltip="For the other keypoint nodes."
                ),
                io.String.Output("name", display_name="name", tooltip="Which family, and what else the files hold."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, networks) -> bool | str:
        """Accept files that appeared after the list was made."""
        from .bindings.keypoint_files import network_folder

        return paths.validated(lambda: network_folder(networks))

    @classmethod
    def fingerprint_inputs(cls, networks, **other_inputs) -> str:
        """Read again when a file has changed."""
        from .bindings.keypoint_files import network_folder, weights_in

        return paths.fingerprint(weights_in(network_folder(networks)), other_inputs)

    @classmethod
    def execute(cls, networks, precision, size="auto", compile=False) -> io.NodeOutput:  # noqa: A002 - torch's name
        """Read the networks and put them under ComfyUI's memory management."""
        from .bindings.keypoint_files import network_folder
        from .bindings.keypoints import open_networks

        opened = open_networks(network_folder(networks), precision, None if size == "auto" else int(size), compile)
        return io.NodeOutput(opened, opened.name)


class KeypointsFromVideo(io.ComfyNode):
    """Node that extracts the keypoints of one face from a video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkKeypointsFromVideo",
            display_name="Keypoints From Video",
            description="Reads head and expression of one face out of a video, as keypoints that move any other face. "
            "Connect a VIDEO, or IMAGE frames; a single picture gives one frame.",
            search_aliases=["motion extractor", "expression transfer", "LivePortrait"],
            inputs=[
                KeypointRenderer.Input("keypoint_renderer", tooltip="From Load Keypoint Renderer."),
                io.Video.Input("video", optional=True, tooltip="The video to watch, at its own frame rate."),
                io.Image.Input("frames", optional=True, tooltip="Frames instead of a video."),
                widget(MotionOptions, "fps", tooltip="Frames per second of the frames input; a video knows its own."),
                face_index_widget("Which face of several in the first frame: 0 is the largest."),
                advanced(
                    io.Combo.Input(
                        "on_missing", options=FILL, default="hold",
                        tooltip="Frames without the face: repeat the last motion, move on to the next, or stop.",
                    )
                ),
                face_at_input("Where the face is in the first frame, as a mask or box; goes before face_index."),
                advanced(
                    io.Combo.Input(
                        "crop", options=["fixed", "follow"], default="fixed", optional=True,
                        tooltip="fixed looks at one square, in which the head moves, for another face; follow at each "
                        "frame's own, to dub this very video.",
                    )
                ),
            ],
            outputs=[
                *keypoint_outputs("The face's motion, free of whose face it is."),
                Landmarks.Output(
                    "landmarks", display_name="landmarks", tooltip="The same face as landmarks, found on the way."
                ),
                io.Image.Output(
                    "first_frame", display_name="first_frame", tooltip="The first frame that shows the face."
                ),
            ],
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, keypoint_renderer, fps, face_index, on_missing, face_at=None, **watched) -> io.NodeOutput:
        """Track the face, extract its keypoints, and show their plot."""
        from .bindings.keypoint_extract import extracted
        from .bindings.keypoints import plot_of

        motion = extracted(keypoint_renderer, fps, (face_index, face_at), on_missing, **watched)
        track, plot = motion.keypoints, plot_of(motion.keypoints)
        outputs = (track, plot, len(track), float(track.fps), motion.landmarks, convert.to_image([motion.first]))
        return io.NodeOutput(*outputs, ui=ui.PreviewImage(plot, cls=cls))


class LandmarksToKeypoints(io.ComfyNode):
    """Node that turns a landmark track into a keypoint track of the same motion."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkLandmarksToKeypoints",
            display_name="Landmarks To Keypoints",
            description="Turns landmarks into keypoints of the same motion, without training: so that every motion "
            "engine, style, gain and dub moves a face by keypoints too.",
            inputs=[
                KeypointRenderer.Input("keypoint_renderer", tooltip="From Load Keypoint Renderer."),
                io.Image.Input("portrait", tooltip="The picture that is to move; of a batch, the first."),
                Landmarks.Input("landmarks", tooltip="Where its face goes. Another face's track is carried over."),
                io.Combo.Input(
                    "bridge", options=list(BRIDGES), default="warp",
                    tooltip="warp reads the expression off the warped portrait; lips asks LivePortrait's lip network.",
                ),
            ],
            outputs=keypoint_outputs("The motion of the landmarks."),
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, keypoint_renderer, portrait, landmarks, bridge) -> io.NodeOutput:
        """Convert the track and show its plot."""
        from .bindings.keypoints import keypoints_of_landmarks, plot_of

        face, motion = driven(convert.to_portrait(portrait), landmarks)
        track = keypoints_of_landmarks(keypoint_renderer, face, motion, bridge, Progress())
        plot = plot_of(track)
        return io.NodeOutput(track, plot, len(track), float(track.fps), ui=ui.PreviewImage(plot, cls=cls))


def driven(picture, landmarks):
    """The portrait that a landmark track moves, and the track fitted to it."""
    from ..portraittalk_core.pipelines.render import driven_portrait, fit_track

    with face_mesh() as mesh:
        face = driven_portrait(picture, landmarks, "the portrait", mesh)
    return face, fit_track(face, landmarks)
