"""Evaluation nodes: all metrics of a generated video against its target, or without a reference."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from comfy_api.latest import io, ui

from ..portraittalk_core.evaluation.options import EvaluationOptions
from ..portraittalk_core.motion.options import MotionOptions
from .bindings import convert, paths
from .bindings.evaluation import evaluation_clip, identity_reference
from .bindings.outputs import new_output, valid_prefix
from .bindings.progress import Progress, face_mesh, show_text
from .sockets import schema
from .widgets import face_index_widget, sound_track_widget, widget

PICTURES = [io.Video, io.Image]
MAIN = ("adfd", "m_lmd", "ssim", "mouth_correlation", "lse_c")
OWN_MAIN = ("sound_mouth_correlation", "lse_c", "identity", "jitter", "blink_rate", "head_std")
LINK = "portraittalk_report"  # what web/report.js reads


class CompareVideos(io.ComfyNode):
    """Node with all metrics of a generated video against the target video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkCompareVideos",
            display_name="Compare Videos",
            description="Measures everything that can be measured of a generated video against the true one, aligned "
            "by time, and writes an HTML report with plots, worst frames and the definition behind every number.",
            search_aliases=["metric", "psnr", "ssim", "lpips", "fid", "fvd", "lmd", "syncnet", "lse", "adfd"],
            inputs=[
                io.MultiType.Input("generated", types=PICTURES, tooltip="What was made: a VIDEO or IMAGE frames."),
                io.MultiType.Input(
                    "target", types=PICTURES, tooltip="What it should be: the real video of the same speech."
                ),
                widget(
                    EvaluationOptions, "align",
                    tooltip="Remove an offset in time, up to half a second, before comparing; the report names it.",
                ),
                widget(
                    EvaluationOptions, "crop",
                    tooltip="What PSNR, SSIM and LPIPS look at: the whole frame, or the same face crop of both.",
                ),
                *_common_inputs(),
                sound_track_widget("generated"),
            ],
            outputs=[
                io.String.Output("table", display_name="table", tooltip="All numbers, one a line."),
                io.Float.Output("adfd", display_name="ADFD", tooltip="1 perfect, 0 worst, or not available."),
                io.Float.Output("ssim", display_name="SSIM", tooltip="1 for equal pictures; 0 if not available."),
                io.Float.Output(
                    "mouth_correlation", display_name="mouth_correlation",
                    tooltip="How alike the mouths open: 1 alike, 0 unrelated or not available.",
                ),
                io.Float.Output("lse_c", display_name="LSE-C", tooltip="SyncNet's confidence; 0 if not available."),
                io.Image.Output("plot", display_name="plot", tooltip="The curves over time."),
                io.Image.Output(
                    "worst_frames", display_name="worst_frames",
                    tooltip="Where most was lost: generated left, target right. A grey picture if there are none.",
                ),
                io.String.Output("report", display_name="report", tooltip="Path of the HTML report."),
                io.Float.Output(
                    "identity_to_target", display_name="identity_to_target",
                    tooltip="Likeness of the face to the target's: 1 the same; 0 if not available.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        """Refuse a name before anything runs."""
        return valid_prefix(filename_prefix)

    @classmethod
    def execute(cls, generated, target, filename_prefix, **options) -> io.NodeOutput:
        """Measure, write the report, and show the main numbers."""
        scored = _scored(generated, target, filename_prefix, MAIN, **options)
        show_text(cls.hidden.unique_id, scored.display_text)
        numbers = [scored.value(name) for name in ("adfd", "ssim", "mouth_correlation", "lse_c")]
        outputs = (scored.table, *numbers, scored.plot, scored.worst, scored.path, scored.value("identity_to_target"))
        return io.NodeOutput(*outputs, ui=scored.ui(cls))


class ScoreWithoutReference(io.ComfyNode):
    """Node with the metrics of a video that need no ground truth."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkScoreWithoutReference",
            display_name="Score Without Reference",
            description="Measures a video by itself, where no true video exists: lip sync, jitter, picture change, "
            "blinks, head motion, and likeness to a portrait. Writes an HTML report.",
            search_aliases=["metric", "reference free", "lip sync score", "syncnet", "lse", "jitter", "flicker"],
            inputs=[
                io.MultiType.Input("video", types=PICTURES, tooltip="What was made: a VIDEO or IMAGE frames."),
                *_common_inputs(),
                sound_track_widget("the video"),
            ],
            outputs=[
                io.String.Output("table", display_name="table", tooltip="All numbers, one a line."),
                io.Float.Output(
                    "sync", display_name="sync",
                    tooltip="Correlation of sound level and mouth opening: a proxy that needs no weights. 0 if none.",
                ),
                io.Float.Output("lse_c", display_name="LSE-C", tooltip="SyncNet's confidence; 0 if not available."),
                io.Float.Output(
                    "identity", display_name="identity", tooltip="Likeness to the portrait; 0 if not available."
                ),
                io.Float.Output("jitter", display_name="jitter", tooltip="Trembling of the face; 0 if not available."),
                io.Float.Output("blink_rate", display_name="blink_rate", tooltip="Blinks per minute."),
                io.Float.Output("head_motion", display_name="head_motion", tooltip="How far the head turns, degrees."),
                io.Image.Output("plot", display_name="plot", tooltip="The curves over time."),
                io.String.Output("report", display_name="report", tooltip="Path of the HTML report."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        """Refuse a name before anything runs."""
        return valid_prefix(filename_prefix)

    @classmethod
    def execute(cls, video, filename_prefix, **options) -> io.NodeOutput:
        """Measure, write the report, and show the main numbers."""
        scored = _scored(video, None, filename_prefix, OWN_MAIN, **options)
        show_text(cls.hidden.unique_id, scored.display_text)
        names = ("sound_mouth_correlation", "lse_c", "identity", "jitter", "blink_rate", "head_std")
        outputs = (scored.table, *(scored.value(name) for name in names), scored.plot, scored.path)
        return io.NodeOutput(*outputs, ui=scored.ui(cls))


def _common_inputs() -> list[io.Input]:
    return [
        io.String.Input(
            "filename_prefix", default="reports/PortraitTalk",
            tooltip="Folder and start of the report's name inside the output folder; a number is added.",
        ),
        io.Image.Input("portrait", optional=True, tooltip="The person whom the video should show."),
        io.Audio.Input("audio", optional=True, tooltip="The speech, where IMAGE frames are given or to replace it."),
        widget(
            MotionOptions, "fps", optional=True,
            tooltip="Frames per second of IMAGE inputs; videos know their own.",
        ),
        face_index_widget("Which face: 0 is the largest.", optional=True, advanced=True),
        widget(
            EvaluationOptions, "max_frames", default=0, min=0, max=100_000, optional=True, advanced=True,
            tooltip="Measure at most so many frames from the start; 0 is all.",
        ),
    ]  # fmt: skip


@dataclass(frozen=True)
class _Scored:
    """Outputs and displayed text of an evaluation node."""

    report: object  # portraittalk_core.evaluation.score_report.ScoreReport
    table: str
    summary: str
    plot: object  # IMAGE
    worst: object  # IMAGE
    path: str
    link: dict  # name and folder, as ComfyUI's /view takes them

    @property
    def display_text(self) -> str:
        return f"{self.summary}\nReport: {self.path}"

    def value(self, name: str) -> float:
        from ..portraittalk_core.evaluation.report.text import value_of

        return value_of(self.report, name)

    def ui(self, cls) -> dict:
        pictures = ui.PreviewImage(self.plot, cls=cls).as_dict()
        return pictures | ui.PreviewText(self.display_text).as_dict() | {LINK: [self.link]}


def _scored(generated, target, prefix, names, audio=None, fps=25.0, portrait=None, **options) -> _Scored:
    from ..portraittalk_core.evaluation.report.text import short_text, table_text

    path, name, subfolder = new_output(prefix, ".html")
    report = _evaluated(generated, target, audio, fps, portrait, options)
    _write(report, path)
    summary = short_text(report, names)
    plot, worst = _pictures(report.results[0], summary)
    link = {"filename": name, "subfolder": subfolder, "type": "output"}
    return _Scored(report, table_text(report), summary, plot, worst, str(path), link)


def _evaluated(generated, target, audio, fps, portrait, options):
    from ..portraittalk_core.evaluation.evaluate import evaluate
    from ..portraittalk_core.evaluation.networks import open_networks
    from ..portraittalk_core.evaluation.score_report import ScoreReport

    sound_track = options.pop("sound_track", 0)
    settings = EvaluationOptions(**options | {"max_frames": options.get("max_frames") or None})
    with ExitStack() as files:
        name = "the video" if target is None else "the generated video"
        clip = evaluation_clip(generated, name, fps, audio, files, sound_track)
        target_clip = None if target is None else evaluation_clip(target, "the target video", fps, None, files)
        networks, mesh = open_networks(paths.weight_folders()), files.enter_context(face_mesh())
        identity = identity_reference(portrait, target is not None, mesh, files)
        resources = {"mesh": mesh, "identity": identity, "networks": networks, "on_progress": Progress()}
        return ScoreReport.of_one(evaluate(clip, target_clip, settings, **resources), settings)


def _write(report, path) -> None:
    from ..portraittalk_core.evaluation.report.write import write_report

    for ending in (".html", ".json"):
        write_report(report, path.with_suffix(ending))


def _pictures(result, title):
    import torch

    from ..portraittalk_core.errors import MissingDependency
    from ..portraittalk_core.plots.comparison import plot_row, worst_pictures

    grey = torch.full((1, 64, 64, 3), 0.5)
    try:
        plot = convert.to_image([plot_row(result, title)])
    except MissingDependency:  # of matplotlib: the report has its own plots
        plot = grey
    pictures = worst_pictures(result)
    return plot, convert.to_image(pictures) if pictures else grey
