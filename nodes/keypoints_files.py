"""Keypoint track files: the Save Keypoints and Load Keypoints nodes."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .bindings import paths
from .bindings.outputs import valid_prefix
from .save_file import length_text, save_schema, save_to_output
from .sockets import Keypoints, keypoint_outputs, schema


class SaveKeypoints(io.ComfyNode):
    """Node that saves a keypoint track to a file in the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return save_schema(
            Keypoints.Input("keypoints", tooltip="The track to keep."),
            "keypoints",
            node_id="PortraitTalkSaveKeypoints",
            display_name="Save Keypoints",
            description="Writes a keypoint track to ComfyUI's output folder, as a small safetensors file.",
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        """Refuse a name before anything runs."""
        return valid_prefix(filename_prefix)

    @classmethod
    def execute(cls, keypoints, filename_prefix) -> io.NodeOutput:
        """Write the next numbered file."""
        summary = f"{length_text(keypoints)}, {keypoints.layout}"
        return save_to_output(keypoints, filename_prefix, summary, cls.hidden.unique_id)


class LoadKeypoints(io.ComfyNode):
    """Node that loads a keypoint track from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkLoadKeypoints",
            display_name="Load Keypoints",
            description="Reads a keypoint track from ComfyUI's input or output folder.",
            inputs=[
                io.Combo.Input(
                    "file", options=paths.track_names(),
                    tooltip="A .safetensors track in the input folder, or one that Save Keypoints wrote ([output]).",
                )
            ],
            outputs=keypoint_outputs("The motion that the file holds."),
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, file) -> bool | str:
        """Accept files that appeared after the list was made."""
        return paths.validated(lambda: paths.track_path(file, "keypoint"))

    @classmethod
    def fingerprint_inputs(cls, file) -> str:
        """Read again when the file has changed."""
        return paths.fingerprint([paths.track_path(file, "keypoint")])

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        """Read the file; show the plot on the node."""
        from ..portraittalk_core.media.records import load_record
        from ..portraittalk_core.types import KeypointTrack
        from .bindings.keypoints import plot_of

        track = load_record(KeypointTrack, paths.track_path(file, "keypoint"))
        plot = plot_of(track)
        return io.NodeOutput(track, plot, len(track), float(track.fps), ui=ui.PreviewImage(plot, cls=cls))
