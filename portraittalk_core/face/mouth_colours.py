"""Colours inside the open mouths of a film: of its teeth, and of the dark behind them.

Shapes: F frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .aperture import MOUTH, Aperture

OPEN = 0.1  # gap over width of a mouth whose inside is looked at
COLUMNS, ROWS = 17, 9  # places that are looked at
ASIDE, INSET = 0.38, 0.12  # of the mouth's width, from its middle; of the gap, from either lip
LEAST_GAP = 0.05  # of the mouth's width, in a column that is looked at
LEAST_PLACES = 20
LIGHTEST, DARKEST = 0.15, 0.3  # of the places: those that are teeth, if any are seen, and those that surely are not
SHOWS_TEETH = 0.6  # quantile of the frames, by how light their lightest places are, from which teeth are seen
LEAST_FRAMES = 3
CHEEKS = (50, 280, 101, 330, 205, 425, 36, 266)
CHEEK_QUANTILE = 0.7  # of the cheeks' colours, against shadows


def skin_colour(cheeks: Tensor) -> Tensor:
    """(3,) colour 0..1 of skin in the light, of (N, 3) colours on the cheeks."""
    return cheeks.quantile(CHEEK_QUANTILE, 0)


def skin_light(cheeks: Tensor) -> Tensor:
    """Brightness 0..1 of skin, of (N, 3) colours 0..1 on the cheeks."""
    return skin_colour(cheeks).mean().clamp(0.15, 0.95)


def inside_colours(picture: Tensor, points_px: Tensor) -> Tensor | None:
    """Colours of the lightest and of the darkest places inside an open mouth, over the skin's light.

    Args:
        picture: (H, W, 3) uint8.
        points_px: (478, 2 or 3) landmarks, pixels.

    Returns:
        (2, 3); None where the mouth is not open, or too small.
    """
    mouth = Aperture.of(points_px[:, :2], MOUTH)
    if mouth.gap < OPEN * mouth.width:
        return None
    u = torch.linspace(-ASIDE, ASIDE, COLUMNS) * mouth.width
    top, bottom = mouth.edge_heights(u)
    open_enough = bottom - top > LEAST_GAP * mouth.width
    v = torch.lerp(top[:, None], bottom[:, None], torch.linspace(INSET, 1 - INSET, ROWS))
    places = mouth.pixels_of(u[:, None], v)[open_enough].flatten(0, 1)
    if len(places) < LEAST_PLACES:
        return None
    colours = _colours(picture, places)
    in_order = colours[colours.mean(1).argsort()]
    ends = in_order[-int(LIGHTEST * len(colours)) :], in_order[: int(DARKEST * len(colours))]
    return torch.stack([end.mean(0) for end in ends]) / skin_light(_colours(picture, points_px[list(CHEEKS), :2]))


def film_colours(found: Sequence[Tensor | None]) -> Tensor | None:
    """(2, 3) colours of a film's teeth and of the dark behind them, over the skin's light.

    Args:
        found: F of `inside_colours`.

    Returns:
        None where fewer than `LEAST_FRAMES` frames show an open mouth.
    """
    known = [colours for colours in found if colours is not None]
    if len(known) < LEAST_FRAMES:
        return None
    rows = torch.stack(known)
    light = rows[:, 0].mean(1)
    teeth = rows[light >= light.quantile(SHOWS_TEETH), 0]
    return torch.stack([teeth.median(0).values, rows[:, 1].median(0).values])


def _colours(picture: Tensor, places: Tensor) -> Tensor:
    """(N, 3) colours 0..1 of a picture at (N, 2) pixels."""
    height, width = picture.shape[:2]
    x, y = places.long().unbind(1)
    return picture[y.clamp(0, height - 1), x.clamp(0, width - 1)].float() / 255
