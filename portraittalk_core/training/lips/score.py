"""Score of a lip renderer: how near the painted half is to the true one, on windows of clips.

Shapes: B windows, S side of the crops.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...renderers.lip.lip_model import LipFeatures, LipPriors, Painted
from .data import LipWindowBatch, LipWindows, as_pictures, as_sketches

SCORED, AT_ONCE, SCORE_SEED = 256, 8, 10_007  # windows of the score; what is added to the seed for their order
LEAST = 1e-10  # squared error, so that equal pictures have a number


@dataclass(frozen=True)
class LipScore:
    """Of the hidden halves, and of the mouths in them, against the film's own."""

    psnr_db: float  # peak signal to noise of the lower halves, over all windows
    mouth_psnr_db: float  # of the boxes around the lips
    mean_psnr_db: float  # of the lower halves, if the references' unwarped mean is put there: what no learning reaches


def painted(model: LipPriors, batch: LipWindowBatch) -> Painted:
    """Pictures (B, 3, S, S) and aligned references of a batch on the model's device, with gradients."""
    faces = model.references(as_pictures(batch.faces), as_sketches(batch.face_sketches))
    lips = model.lips(as_pictures(batch.lips), as_sketches(batch.lip_sketches), batch.lip_points)
    features = LipFeatures(faces, lips)
    sketches = as_sketches(batch.sketches).flatten(1, 2)
    return model(as_pictures(batch.pictures), sketches, features, batch.mel, batch.points)


@torch.no_grad()
def lip_score(model: LipPriors, windows: LipWindows, seed: int, most: int = SCORED) -> LipScore:
    """Score of a model in evaluation mode, on windows in a seeded order.

    Args:
        model: on any device.
        windows: best ones that it was not trained on.
        seed: of the order and of the references.
        most: windows, at most.
    """
    count = min(most, len(windows))
    sums, weights = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for number in range(-(-count // AT_ONCE)):
        batch = windows.batch(number, min(AT_ONCE, count), seed).to(model.device)
        target, mean = as_pictures(batch.pictures), as_pictures(batch.faces).mean(1)
        picture, half = painted(model, batch).picture.float(), _lower_half(target)
        for at, (made, mask) in enumerate(((picture, half), (picture, batch.mouths), (mean, half))):
            errors = ((made - target).square().mean(1) * mask).double()
            sums[at] += errors.sum().cpu()
            weights[at] += mask.sum().double().cpu()
    return LipScore(*(-10 * (sums / weights).clamp(min=LEAST).log10()).tolist())


def _lower_half(pictures: Tensor) -> Tensor:
    """(B, S, S) 1 in the lower halves."""
    mask = torch.zeros_like(pictures[:, 0])
    mask[:, pictures.shape[2] // 2 :] = 1
    return mask
