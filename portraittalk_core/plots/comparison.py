"""Plots of one evaluated video: its metrics over time, and its worst frames."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..evaluation.report.page import charts_of
from ..evaluation.result import EvaluationResult, WorstFrame
from .curves import INK, draw_curves, figure_picture, finish_rows, new_figure

ROW_IN = 1.3  # height of a panel
GAP_PX, CAPTION_PX, TEXT_PX = 6, 24, 14
GROUND = "#eceff2"


def plot_row(row: EvaluationResult, title: str) -> Tensor:
    """Plot all curves of a result, one panel each; without any, a picture that says so.

    Args:
        row: what was measured.
        title: a line above.

    Returns:
        (H, W, 3) uint8.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    charts = charts_of(row)
    figure = new_figure(0.7 + ROW_IN * max(1, len(charts)))
    figure.suptitle(title, x=0.02, ha="left", fontsize=12, color=INK)
    if not charts:
        figure.text(0.5, 0.4, row.error or "nothing could be measured over time", ha="center", fontsize=11, color=INK)
        return figure_picture(figure)
    panels = list(figure.subplots(len(charts), 1, squeeze=False)[:, 0])
    length = 0
    for axes, chart in zip(panels, charts, strict=True):
        curves = {_label(chart.title, name): _numbers(values) for name, values in chart.curves.items()}
        longest = max(map(len, curves.values()))
        length = max(length, longest)
        curves = {name: _filled(values, longest) for name, values in curves.items()}
        draw_curves(axes, np.arange(longest) / row.fps, curves, chart.unit)
        for mark in chart.marks_s:
            axes.axvline(mark, color=INK, lw=0.7, ls=":")
    finish_rows(panels, max(length, 2) / row.fps)
    return figure_picture(figure)


def worst_pictures(row: EvaluationResult) -> list[Tensor]:
    """The worst frames, generated and target side by side with time and reason below.

    Returns:
        Of one size, (H, W, 3) uint8; none if there are none.
    """
    return [_side_by_side(frame) for frame in row.worst]


def _label(title: str, name: str) -> str:
    return f"{title}: {name}" if name else title


def _numbers(values: list[float | None]) -> Tensor:
    return torch.tensor([np.nan if value is None else value for value in values], dtype=torch.float64)


def _filled(values: Tensor, length: int) -> Tensor:
    return torch.cat([values, torch.full((length - len(values),), torch.nan, dtype=torch.float64)])


def _side_by_side(frame: WorstFrame) -> Tensor:
    codes = [code for code in (frame.generated, frame.target) if code]
    images = [Image.open(io.BytesIO(base64.b64decode(code)), formats=("JPEG",)).convert("RGB") for code in codes]
    width = sum(image.width for image in images) + GAP_PX * (len(images) - 1)
    height = max(image.height for image in images)
    canvas = Image.new("RGB", (width, height + CAPTION_PX), GROUND)
    x_px = 0
    for image in images:
        canvas.paste(image, (x_px, 0))
        x_px += image.width + GAP_PX
    # Pillow's own font is drawn without its optional FreeType too, but then knows Latin letters only
    caption = f"{frame.time_s:.2f} s: {frame.why}"
    ImageDraw.Draw(canvas).text((4, height + 3), caption, fill=INK, font=ImageFont.load_default(TEXT_PX))
    return torch.from_numpy(np.asarray(canvas).copy())
