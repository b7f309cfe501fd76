"""Clustering strength: distance between styles over the distance within styles.

Shapes: M clips, D numbers of a style vector, K styles.
Source: SVP, equation 7 (its formula is lost: `docs/design/styles.md` 3); nearest-centroid accuracy beside it, since the
strength is large, too, where several styles fall onto one another.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..checks import check_finite, check_shape
from ..errors import InputError


def clustering_strength(styles: Tensor, labels: Tensor) -> float:
    """Mean distance between the centroids of styles over the mean distance of clips to their own centroid.

    Args:
        styles: (M, D).
        labels: (M,) equal for clips of one style.

    Returns:
        ≥ 0; infinity where no style scatters.

    Raises:
        InputError: fewer than two styles, or values that are not finite.
    """
    points, index, centroids = _clusters(styles, labels)
    between = torch.pdist(centroids).mean()
    within = (points - centroids[index]).norm(dim=1).mean()
    return _over(float(between), float(within))


def pairwise_clustering_strength(styles: Tensor, labels: Tensor) -> float:
    """Mean distance of clips of different styles over the mean distance of clips of one style, of all pairs.

    Arguments, result and errors as of `clustering_strength`; some style needs two clips.
    """
    points, index, _ = _clusters(styles, labels)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    same = index[:, None] == index[None]
    pairs = ~torch.eye(len(points), dtype=torch.bool)
    if not bool((same & pairs).any()):
        raise InputError("no style has two clips, so there is no distance within a style; give more clips.")
    return _over(float(distances[~same].mean()), float(distances[same & pairs].mean()))


def nearest_centroid_accuracy(
    styles: Tensor,
    labels: Tensor,
    reference: tuple[Tensor, Tensor] | None = None,
    leave_one_out: bool = False,
) -> float:
    """Accuracy of nearest-centroid classification of clips by style; chance is 1 / K.

    Args:
        styles: (M, D).
        labels: (M,) equal for clips of one style.
        reference: other clips (N, D) and their labels (N,) that the centroids are of; None takes the clips themselves.
        leave_one_out: the own centroid of each clip is that of the others of its style, which is honest with few clips.

    Returns:
        0..1.

    Raises:
        InputError: fewer than two styles; a style without a centroid; leave_one_out with known clips, or with a style
            of one clip.
    """
    if reference is None:
        points, index, centroids = _clusters(styles, labels)
        distances = torch.cdist(points, centroids, compute_mode="donot_use_mm_for_euclid_dist")
        if leave_one_out:
            counts = index.bincount()
            if int(counts.min()) < 2:
                raise InputError(
                    f"{int((counts < 2).sum())} styles have one clip only; to leave one out, two are needed."
                )
            # without itself, a clip is n / (n − 1) times as far from the centroid
            sizes, rows = counts[index].double(), torch.arange(len(points))
            distances[rows, index] *= sizes / (sizes - 1)
        return float((distances.argmin(1) == index).double().mean())
    if leave_one_out:
        raise InputError("leave_one_out is for centroids of the clips themselves; leave out one of the two.")
    _, _, centroids = _clusters(*reference)
    names = reference[1].unique()
    check_finite(check_shape(styles, f"M {centroids.shape[1]}", "style vectors"), "style vectors")
    if strangers := sorted(set(labels.tolist()) - set(names.tolist())):
        raise InputError(f"the styles {strangers[:6]} are not among the known clips.")
    distances = torch.cdist(styles.double().cpu(), centroids, compute_mode="donot_use_mm_for_euclid_dist")
    return float((names.cpu()[distances.argmin(1)] == labels.cpu()).double().mean())


def _clusters(styles: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points (M, D) float64, number of each one's style (M,), centroids (K, D)."""
    check_finite(check_shape(styles, "M D", "style vectors"), "style vectors")
    check_shape(labels, f"{len(styles)}", "style labels")
    names, index = labels.cpu().unique(return_inverse=True)
    if len(names) < 2:
        raise InputError(f"{len(styles)} clips of {len(names)} styles: two styles are needed to tell them apart.")
    points = styles.detach().double().cpu()
    sums = torch.zeros(len(names), points.shape[1], dtype=torch.float64).index_add_(0, index, points)
    return points, index, sums / index.bincount()[:, None]


def _over(between: float, within: float) -> float:
    if within == 0:
        return math.inf if between else math.nan
    return between / within
