"""The ADFD Score node: landmark and picture metrics of a generated video against its target."""

from __future__ import annotations

from contextlib import ExitStack

from comfy_api.latest import io, ui

from ..portraittalk_core.motion.options import MotionOptions
from .bindings import convert
from .bindings.evaluation import evaluation_clip
from .bindings.progress import Progress, face_mesh
from .sockets import Landmarks, schema
from .widgets import face_index_widget, widget

ACCEPTED = [io.Video, io.Image, Landmarks]


class ADFDScore(io.ComfyNode):
    """Node with ADFD, landmark distance, PSNR and SSIM of a generated video against the target."""

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
                widget(
                    MotionOptions, "fps",
                    tooltip="Frames per second of IMAGE inputs; videos and tracks know their own.",
                ),
                face_index_widget("Which face: 0 is the largest."),
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
        """Evaluate, plot, and show the main numbers."""
        report = _evaluated(generated, target, fps, face_index)
        text = _summary(report.numbers)
        plot = convert.to_image([_plot(report, text)])
        node_ui = ui.PreviewImage(plot, cls=cls).as_dict() | ui.PreviewText(text).as_dict()
        score = report.numbers["adfd"]
        return io.NodeOutput(-1.0 if score is None else score, report.to_json(), plot, ui=node_ui)


def _evaluated(generated, target, fps, face_index):
    from ..portraittalk_core.errors import NoFaceError
    from ..portraittalk_core.evaluation.adfd_report import ADFD_METRICS, AdfdReport
    from ..portraittalk_core.evaluation.evaluate import evaluate
    from ..portraittalk_core.evaluation.options import EvaluationOptions

    options = EvaluationOptions(face_index=face_index, num_worst=0, metrics=ADFD_METRICS)
    with ExitStack() as files:
        clip = evaluation_clip(generated, "the generated video", fps, None, files)
        target_clip = evaluation_clip(target, "the target video", fps, None, files)
        mesh = None if clip.pictures is None else files.enter_context(face_mesh())
        result = evaluate(clip, target_clip, options, mesh=mesh, on_progress=Progress())
    if result.error:
        raise NoFaceError(f"{result.error}; choose videos with an upright face that looks towards the camera.")
    return AdfdReport.of(result)


def _summary(numbers) -> str:
    if numbers["adfd"] is None:
        return f"n/a: {numbers['note']}"
    text = f"ADFD {numbers['adfd']:.3f} (place {numbers['adfd_spatial']:.3f}, motion {numbers['adfd_motion']:.3f})"
    text += f", mouth off by {numbers['mouth_landmark_distance']:.1f} % of the eye distance"
    if numbers["psnr"] is not None:
        text += f", PSNR {numbers['psnr']:.1f} dB, SSIM {numbers['ssim']:.3f}"
    return f"{text}; {numbers['num_frames_with_face']} of {numbers['num_frames']} frames used"


def _plot(report, title):
    from fractions import Fraction

    from ..portraittalk_core.plots.track import plot_score

    return plot_score(report.place, report.motion, float(Fraction(report.numbers["fps"])), title)
