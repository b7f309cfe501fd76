"""Losses of the closure network: over all classes of sounds, and of f and v alone to teach a network further."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...engines.builtin.closure_net import CLASSES, LABIODENTAL, NASAL, SILENT, STOP
from .labels import CLASS_OF, IGNORED

CLASS_WEIGHTS = {STOP: 2.0, NASAL: 2.5, LABIODENTAL: 1.5, SILENT: 0.5}  # of a class's frames; of all others 1
LABEL_SMOOTHING = 0.02
# where f and v alone are taught: w and r are easily taken for v; th is taken for f by people, too; vowels are seen
FURTHER_WEIGHTS = {
    LABIODENTAL: 3.0, SILENT: 0.5, CLASS_OF["θ"]: 0.3, CLASS_OF["w"]: 3.0, CLASS_OF["ɹ"]: 3.0,
    **{CLASS_OF[vowel]: 2.0 for vowel in ("i", "ɛ", "a", "ə")},
}  # fmt: skip
SURE, DOUBTED = 0.983, 0.003  # targets of f and v, and of all others
_OTHERS = [number for number in range(len(CLASSES)) if number != LABIODENTAL]


def class_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy () over (N, 18) logits and (N,) classes, IGNORED left out."""
    weights = _weights(CLASS_WEIGHTS)
    return F.cross_entropy(logits, classes, weights, ignore_index=IGNORED, label_smoothing=LABEL_SMOOTHING)


def labiodental_loss(logits: Tensor, known: Tensor, classes: Tensor) -> Tensor:
    """Binary cross-entropy of f and v, and how far the other classes' shares of the rest are from a known network's.

    Args:
        logits: (N, 18).
        known: (N, 18) logits of the network that is taught further.
        classes: (N,) as of `frame_classes`.

    Returns:
        () sum of both; the second is a Kullback-Leibler divergence in nats.
    """
    others = logits[:, _OTHERS]
    odds = logits[:, LABIODENTAL] - others.logsumexp(1)
    target = torch.where(classes == LABIODENTAL, SURE, DOUBTED)
    weights = _weights(FURTHER_WEIGHTS)[classes.clamp(min=0)] * (classes != IGNORED)
    taught = (F.binary_cross_entropy_with_logits(odds, target, reduction="none") * weights).sum()
    kept = F.kl_div(others.log_softmax(1), known[:, _OTHERS].log_softmax(1), log_target=True, reduction="batchmean")
    return taught / weights.sum().clamp(min=1e-6) + kept


def without_edges(classes: Tensor) -> Tensor:
    """(B, M) classes, the frames on both sides of where an f or v begins or ends IGNORED: aligners are not so exact."""
    tucked = classes == LABIODENTAL
    change = tucked[:, 1:] != tucked[:, :-1]
    edges = F.pad(change, (1, 0)) | F.pad(change, (0, 1))
    return classes.masked_fill(edges, IGNORED)


def _weights(of_class: dict[int, float]) -> Tensor:
    weights = torch.ones(len(CLASSES))
    for number, weight in of_class.items():
        weights[number] = weight
    return weights
