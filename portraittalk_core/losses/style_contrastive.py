"""Style contrastive loss: attracts clips of one style and repels clips of other styles.

Shapes: M clips, D numbers of a style vector.
Source: SVP, equations 5 and 6, as reconstructed in `docs/design/styles.md` 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_range, check_shape
from ..errors import InputError

UNDER_ROOT = 1e-12  # keeps the gradient of a distance finite where two vectors coincide


def inverse_distances(first: Tensor, second: Tensor, constant: float = 1.0) -> Tensor:
    """Similarity of style vectors, 1 / (distance + constant): at most 1 / constant, for equal vectors.

    Args:
        first: (M, D).
        second: (N, D).
        constant: C of equation 6; the paper does not give its value.

    Returns:
        (M, N) float32.
    """
    # differences rather than |a|² + |b|² − 2ab, which loses small distances; float32 whatever the training's type
    difference = first.float()[:, None] - second.float()[None]
    return 1 / ((difference.square().sum(-1) + UNDER_ROOT).sqrt() + constant)


def style_contrastive_loss(styles: Tensor, labels: Tensor, constant: float = 1.0, temperature: float = 0.1) -> Tensor:
    """InfoNCE with the inverse distance as similarity, averaged over all pairs of clips of one style.

    A pair (i, p) of one style costs −log(e^{ω(i,p)/τ} / (e^{ω(i,p)/τ} + Σ_n e^{ω(i,n)/τ})), where n are all clips of
    other styles. Every clip with a positive counts alike, however many positives it has.

    Args:
        styles: (M, D).
        labels: (M,) whole numbers, equal for clips of one style.
        constant: C of equation 6, above 0.
        temperature: τ of equation 5, above 0.

    Returns:
        A scalar, float32.

    Raises:
        InputError: no two clips are of one style, or all are.
    """
    check_shape(styles, "M D", "style vectors")
    check_shape(labels, f"{len(styles)}", "style labels")
    check_range(constant, 1e-6, 1e6, "the constant of the contrastive loss")
    check_range(temperature, 1e-6, 1e6, "the temperature of the contrastive loss")
    likeness = inverse_distances(styles, styles, constant) / temperature
    same = labels[:, None] == labels[None]
    positive = same & ~torch.eye(len(styles), dtype=torch.bool, device=styles.device)
    if not bool(positive.any()) or bool(same.all()):
        raise InputError(
            f"{len(labels)} clips of {len(labels.unique())} styles: the contrastive loss needs two clips of one style "
            "and a clip of another."
        )
    negatives = likeness.masked_fill(same, -torch.inf).logsumexp(1, keepdim=True)  # (M, 1)
    costs = torch.logaddexp(likeness, negatives) - likeness  # (M, M)
    counts = positive.sum(1)
    per_clip = costs.masked_fill(~positive, 0.0).sum(1) / counts.clamp(min=1)
    return per_clip.sum() / (counts > 0).sum()
