"""Where a portrait's background certainly is, so that its lines stay straight beside a moving head.

A background is followed from the picture's left, right and upper borders for as long as its colours go on. Where they
change, at hair, a cheek or another thing, nothing is known.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLES = 256  # positions along each line that is followed
START = 0.05  # of a line, at its border: the colours to go on with
LEAST_STEP, STEP_DEVIATIONS = 14.0, 3.0  # levels, or deviations of the colours at the border, that are a change
MOST_DEVIATION = 7.0  # levels: a line whose colours at the border differ by more is not followed
RUN = 3  # samples in a row which must differ
ADAPTING = 0.06  # a background may grow lighter along a line: how much of each sample is taken over
SLIDES = 1.3  # spacings of the nodes over which motion along the head's outline ends
LEAST_CONTRAST = 10.0  # levels between places beside each other, at the most contrasting tenth: else nothing can bend


def background_at(picture: Tensor, outline: Tensor, nodes: Tensor) -> Tensor | None:
    """Which nodes of a grid certainly show background, above the chin.

    Args:
        picture: (H, W, 3) uint8.
        outline: (N, 2) the face's outline, pixels.
        nodes: (R, C, 2) a grid's positions, x growing along its columns, y along its rows.

    Returns:
        (R, C) bool; None where a background is plain, or none is found.
    """
    (left, _), (right, chin) = outline.amin(0).tolist(), outline.amax(0).tolist()
    xs, ys = nodes[0, :, 0], nodes[:, 0, 1]
    width, middle = picture.shape[1], (left + right) / 2
    along_rows = _lines(picture, ys, vertical=False)
    from_left = _followed(along_rows) * width / SAMPLES
    from_right = width - _followed(along_rows.flip(1)) * width / SAMPLES
    from_top = _followed(_lines(picture, xs, vertical=True)) * picture.shape[0] / SAMPLES
    found = (xs < from_left.clamp(max=middle)[:, None]) | (xs > from_right.clamp(min=middle)[:, None])
    found = (found | (ys[:, None] < from_top)) & (ys < chin)[:, None]
    inside = (nodes - (outline.amin(0) + outline.amax(0)) / 2).abs() < 0.5 * (outline.amax(0) - outline.amin(0))
    found = _closed(found) & ~inside.all(-1)
    size = torch.tensor([width, picture.shape[0]])
    at = nodes.long().clamp(min=torch.zeros(2, dtype=torch.long), max=size - 1)
    levels = picture[at[..., 1], at[..., 0]].float().mean(-1)
    beside = (found[1:] & found[:-1], found[:, 1:] & found[:, :-1])
    steps = torch.cat([levels.diff(dim=axis).abs()[both] for axis, both in enumerate(beside)])
    return found if len(steps) and float(steps.quantile(0.9)) > LEAST_CONTRAST else None


def kept_motion(background: Tensor, nodes: Tensor, fade_px: float) -> Tensor:
    """What remains of a head's motion at each node: all on the head, along its outline little beside it.

    Motion towards the outline, or away from it, fades over `fade_px`; motion along the outline ends at once: there the
    background only slides by, and its lines stay straight.

    Args:
        background: (R, C) bool.
        nodes: (R, C, 2) pixels.
        fade_px: pixels.

    Returns:
        (R, C, 2, 2) matrices; displacements are multiplied by them.
    """
    kept = torch.eye(2).repeat(*background.shape, 1, 1)
    edge = ~background & (F.max_pool2d(background[None].float(), 3, 1, 1)[0] > 0)
    if not bool(edge.any()):
        return kept
    spacing = float((nodes[0, 1] - nodes[0, 0]).norm())
    away = nodes[background][:, None] - nodes[edge]  # (N, E, 2)
    distances = away.norm(dim=-1)
    distance = distances.amin(1)
    nearest = ((distance[:, None] - distances) / (2 * spacing)).exp()
    normal = F.normalize((away / distances[..., None] * nearest[..., None]).sum(1), dim=1)
    across = normal[:, :, None] * normal[:, None, :]
    kept[background] = _faded(distance / fade_px)[:, None, None] * across + _faded(distance / (SLIDES * spacing))[
        :, None, None
    ] * (torch.eye(2) - across)
    return kept


def _faded(distance: Tensor) -> Tensor:
    """Smooth fall from 1 at 0 to 0 at 1."""
    share = (1 - distance).clamp(0, 1)
    return share**3 * (10 - 15 * share + 6 * share**2)


def _closed(found: Tensor) -> Tensor:
    """Gaps of one node filled: a line's soft edge is followed less far than the line."""
    grown = F.max_pool2d(found[None].float(), 3, 1, 1)
    return -F.max_pool2d(-grown, 3, 1, 1)[0] > 0.5


def _lines(picture: Tensor, at: Tensor, vertical: bool) -> Tensor:
    """(L, SAMPLES, 3) colours along rows (or columns) of the picture, border to border."""
    rows = picture.transpose(0, 1) if vertical else picture
    across = at.long().clamp(0, rows.shape[0] - 1)
    along = ((torch.arange(SAMPLES) + 0.5) * rows.shape[1] / SAMPLES).long()
    return rows[across][:, along].float()


def _followed(lines: Tensor) -> Tensor:
    """(L,) number of samples from the start over which a line's colours go on."""
    start = max(4, round(START * SAMPLES))
    mean = lines[:, :start].mean(1)
    deviation = lines[:, :start].std(1)
    limit = (STEP_DEVIATIONS * deviation).clamp(min=LEAST_STEP)
    going, run = (deviation < MOST_DEVIATION).all(1), torch.zeros(len(lines))
    reached = torch.where(going, float(SAMPLES), 0.0)
    for i in range(start, SAMPLES):
        colour = lines[:, i]
        differs = ((colour - mean).abs() > limit).any(1)
        run = torch.where(differs, run + 1, torch.zeros_like(run))
        ends = going & (run >= RUN)
        reached = torch.where(ends, torch.full_like(reached, i - RUN + 1.0), reached)
        going &= ~ends
        mean = torch.where((going & ~differs)[:, None], torch.lerp(mean, colour, ADAPTING), mean)
    return reached
