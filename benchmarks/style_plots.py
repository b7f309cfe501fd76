"""Plots of a style evaluation: a map of segments, and a strip of frames in several styles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.media.image import save_picture
from portraittalk_core.plots.curves import INK, figure_picture, new_figure

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PERPLEXITY = 8.0


def flat(points: Tensor) -> tuple[Tensor, str]:
    """Planar embedding (M, 2) of points (M, D), and its method: t-SNE with scikit-learn, else classical scaling."""
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        return classical_scaling(points), "classical multidimensional scaling (scikit-learn is not installed)"
    embedding = TSNE(2, perplexity=min(PERPLEXITY, (len(points) - 1) / 3), init="pca", random_state=0)
    return torch.from_numpy(embedding.fit_transform(points.double().numpy())), "t-SNE (scikit-learn)"


def classical_scaling(points: Tensor) -> Tensor:
    """(M, 2) classical multidimensional scaling (Torgerson) of points (M, D)."""
    squares = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    centred = squares - squares.mean(0) - squares.mean(1, keepdim=True) + squares.mean()
    values, vectors = torch.linalg.eigh(-centred / 2)
    return vectors[:, -2:].flip(1) * values[-2:].flip(0).clamp(min=0).sqrt()


def save_map(points: Tensor, labels: Tensor, names: Sequence[str], title: str, path: Path) -> str:
    """Plot segments coloured by their clip; returns the embedding's method.

    Each clip has a colour and a marker; thin lines lead from its segments to their middle, where its number stands.
    """
    from matplotlib import colormaps

    plane, method = flat(points)
    figure = new_figure(8.6)
    axes = figure.subplots()
    for order, label in enumerate(labels.unique().tolist()):
        clip_points = plane[labels == label]
        middle, colour = clip_points.mean(0), colormaps["tab20"](order % 20)
        for x, y in clip_points.tolist():
            axes.plot([x, float(middle[0])], [y, float(middle[1])], color=colour, linewidth=0.7, alpha=0.6, zorder=1)
        style = {"marker": MARKERS[order % len(MARKERS)], "color": [colour], "edgecolors": INK, "linewidths": 0.5}
        axes.scatter(*clip_points.T, s=44, zorder=2, label=f"{order + 1} {names[label]}", **style)
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": colour, "alpha": 0.85}
        axes.annotate(str(order + 1), middle.tolist(), fontsize=8, ha="center", va="center", bbox=box, zorder=3)
    axes.set_title(f"{title}\n{method}", fontsize=11, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9, frameon=False, title="clip")
    save_picture(figure_picture(figure), path)
    return method


def save_strip(rows: dict[str, list[Tensor]], times_s: Sequence[float], title: str, path: Path) -> None:
    """Plot pictures (H, W, 3) uint8, one row for each style, one column for each time."""
    height, width = next(iter(rows.values()))[0].shape[:2]
    figure = new_figure(0.5 + 11.3 / len(times_s) * height / width * len(rows))
    grid = figure.subplots(len(rows), len(times_s), squeeze=False)
    for number, (line, (name, pictures)) in enumerate(zip(grid, rows.items(), strict=True)):
        line[0].set_ylabel(name, fontsize=13, color=INK)
        for axes, picture, time_s in zip(line, pictures, times_s, strict=True):
            axes.imshow(picture.numpy())
            axes.set_xticks([])
            axes.set_yticks([])
            if number == 0:
                axes.set_title(f"{time_s:.2f} s", fontsize=10, color=INK)
    figure.suptitle(title, fontsize=12, color=INK)
    save_picture(figure_picture(figure), path)
