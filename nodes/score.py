"""Scores of generated videos against true ones."""

from __future__ import annotations

from contextlib import ExitStack

from comfy_api.latest import io, ui

from .bindings import convert
from .bindings.progress import Progress, face_mesh
from .sockets import Landmarks, schema

ACCEPTED = [io.Video, io.Image, Landmarks]


class ADFDScore(io.ComfyNode):
    """How well a generated video follows the true one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkADFDScore",
            display_name="ADFD Score",
            description="Compares a generated video with the true one: ADFD (1 perfect, 0 worst), landmark distance, "
            "PSNR and SSIM, with the number of frames used. Needs at least 2 frames that show the face in both.",
            search_aliases=["metric", "lip sync score", "landmark distance", "psnr", "ssim"],
            inputs=[
                io.MultiType.Input(
                    "generated", types=ACCEPTED, tooltip="What was made: a VIDEO, IMAGE frames, or a landmark track."
                ),
                io.MultiType.Input(
                    "target", types=ACCEPTED,
                    tooltip="What it should be: the real video of the same speech. Two tracks compare landmarks only.",
                ),
                io.Float.Input(
                    "fps", default=25.0, min=1.0, max=240.0, step=0.001,
                    tooltip="Frames per second of IMAGE inputs; videos and tracks know their own.",
                ),
                io.Int.Input("face_index", default=0, min=0, max=15, tooltip="Which face: 0 is the largest."),
            ],
            outputs=[
                io.Float.Output("score", display_name="score", tooltip="ADFD: 1 perfect, 0 worst, −1 none."),
                io.String.Output("report", display_name="report", tooltip="All numbers as JSON."),
                io.Image.Output("plot", display_name="plot", tooltip="Where in time the score was lost."),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, generated, target, fps, face_index) -> io.NodeOutput:
        """Score, plot, and show the main numbers."""
        report = _score(generated, target, fps, face_index)
        text = _summary(report)
        plot = convert.to_image([_plot(report, text)])
        shown = ui.PreviewImage(plot, cls=cls).as_dict() | ui.PreviewText(text).as_dict()
        return io.NodeOutput(-1.0 if report.adfd is None else report.adfd, report.to_json(), plot, ui=shown)


def _score(generated, target, fps, face_index):
    from ..portraittalk_core.errors import InputError
    from ..portraittalk_core.evaluation.score import score_tracks, score_videos
    from ..portraittalk_core.types import LandmarkTrack, as_fps

    tracks = [isinstance(value, LandmarkTrack) for value in (generated, target)]
    if all(tracks):
        return score_tracks(generated, target)
    if any(tracks):
        raise InputError(
            "a landmark track can only be compared with another track; use Landmarks From Video on the other."
        )
    with ExitStack() as files, face_mesh() as mesh:
        sources = [
            _source(value, as_fps(fps), name, files)
            for value, name in ((generated, "the generated video"), (target, "the target video"))
        ]
        return score_videos(*sources, mesh=mesh, face_index=face_index, on_progress=Progress())


def _source(value, fps, name, files):
    from dataclasses import replace

    from ..portraittalk_core.evaluation.source import PictureSource

    if hasattr(value, "shape"):
        return convert.picture_source(value, fps, name)
    in_memory = convert.video_frames(value)
    if in_memory is not None:
        return convert.picture_source(*in_memory, name)
    return replace(PictureSource.of_file(files.enter_context(convert.video_file(value))), name=name)


def _summary(report) -> str:
    if report.adfd is None:
        return f"n/a: {report.note}"
    text = f"ADFD {report.adfd:.3f} (place {report.adfd_spatial:.3f}, motion {report.adfd_motion:.3f})"
    text += f", mouth off by {report.mouth_landmark_distance:.1f} % of the eye distance"
    if report.psnr is not None:
        text += f", PSNR {report.psnr:.1f} dB, SSIM {report.ssim:.3f}"
    return f"{text}; {report.num_frames_with_face} of {report.num_frames} frames used"


def _plot(report, title):
    import torch

    from ..portraittalk_core.plots.track import plot_score
    from ..portraittalk_core.types import as_fps

    if report.over_time is None:
        return plot_score(torch.zeros(1), torch.zeros(1), 25.0, title)
    over_time = report.over_time
    return plot_score(over_time.spatial_per_frame, over_time.motion_per_frame, float(as_fps(report.fps)), title)
