"""Expression coefficients beside prepared videos, measured by the user's own model of faces.

Shapes: T frames of a video, D numbers of an expression.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...errors import InputError
from ...face.expression_fit import between
from ...media.tensor_file import save_tensors
from ...progress import Progress
from ...style.expression_source import ExpressionSource
from ...weights.load import read_metadata
from .video_clips import VideoClip, VideoData

EXPRESSION = "expression.safetensors"  # in the folder of a prepared video
VALUES, FEATURE, MEASURED_BY = "values", "feature", "measured_by"  # its tensor (T, D), and its metadata


def measure_expressions(
    folder: Path, data: VideoData, source: ExpressionSource, on_progress: Progress | None = None
) -> list[tuple[str, str]]:
    """Write the expression coefficients of prepared videos beside their landmarks; those that are there stay.

    Args:
        folder: that the videos were prepared into.
        data: the videos.
        source: of `style.expression_source.open_expression_source`.
        on_progress: called with videos done and in all, after every frame; may raise to stop.

    Returns:
        Names of videos whose face the source did not see, with the reason.

    Raises:
        OutputError: a file cannot be written.
    """
    notify, total, failed = on_progress or (lambda *_: None), len(data.videos), []
    for done, video in enumerate(data.videos):
        notify(done, total)
        path = Path(folder) / video.name / EXPRESSION
        mark = {FEATURE: source.feature, MEASURED_BY: source.name}
        if path.is_file() and mark.items() <= read_metadata(path).items():
            continue
        try:
            values = _measured(video, source, lambda done=done: notify(done, total))
        except InputError as error:
            failed.append((video.name, str(error)))
            continue
        save_tensors({VALUES: values}, path, mark)
    notify(total, total)
    return failed


def _measured(video: VideoClip, source: ExpressionSource, tick: object) -> Tensor:
    """(T, D) coefficients of every frame."""
    if source.fit is not None:
        return source.fit([video.track])[0].contiguous()
    rows = []
    for number in video.track.valid.nonzero()[:, 0].tolist():
        tick()
        picture = ((video.read(number) + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous()
        rows.append((number, source.look(picture, video.track.points_px[number])))
    numbered_rows = [(number, row) for number, row in rows if row is not None]
    if not numbered_rows:
        raise InputError(f"{source.name} sees no face in it")
    valid = torch.zeros(len(video.track), dtype=torch.bool)
    valid[[number for number, _ in numbered_rows]] = True
    return between(torch.stack([row for _, row in numbered_rows]), valid)
