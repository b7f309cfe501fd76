"""A narrow smile that landmarks take for closed lips: where its lips truly end, above and below its teeth.

Without this, the teeth count as the lower lip: they move with it, and others are painted above them. The few rows of
them that such a smile shows are too few to be stretched over an open mouth; the painted ones take their place.

The teeth show as a light band directly below the upper lip, and end in a darker line where the lower lip begins. Closed
lips have a shadow there instead, and the lower one grows light slowly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...face import topology as topo
from ...face.aperture import MOUTH, Aperture
from .open_mouth import LEAST_RIM_PX, RIM
from .sampler import Sampler

# all lengths are of the mouth's width
COLUMNS, ASIDE = 15, 0.28  # columns in which teeth are looked for, and how far from the middle
ABOVE, BELOW, STEPS = 0.06, 0.12, 37  # what is looked at, of the line where the landmarks meet
UPPER_LIP_TO = -0.02  # above this line it is surely the upper lip
BEGIN = (-0.03, 0.012)  # where teeth begin
PEAK_BY, END_BY = 0.05, 0.05  # where they are lightest, and the darker line below that
THICKNESS = (0.02, 0.055)  # of the band; a higher one is a lip, or seen by the landmarks
LIGHTER, DARKER = 1.6, 0.95  # teeth than the upper lip, at least; the line below than them, at most
PALER, COLOURFUL = 0.75, 0.15  # teeth than a lip that is so colourful, at most
ENOUGH = 0.4  # of the columns that show teeth
UNEVEN = 0.008  # how far half of the columns' ends lie off the others' line, at most: a lip's gleam ends anywhere


def lips_around_teeth(sample: Sampler, points_px: Tensor) -> Tensor | None:
    """(478, 2) landmarks with the inner lips on either side of the teeth; None where no teeth are seen.

    Args:
        sample: the portrait's colours.
        points_px: (478, 2) landmarks whose inner lips meet, or nearly.
    """
    mouth = Aperture.of(points_px, MOUTH)
    height = _teeth_height(sample, mouth)
    if height is None:
        return None
    down = mouth.across
    rim = max(RIM * mouth.width, LEAST_RIM_PX)
    moved = points_px.clone()
    columns = slice(1, -1)
    for lip, reach, side in ((topo.UPPER_LIP_RINGS, 0.0, -1), (topo.LOWER_LIP_RINGS, height, 1)):
        u, v = ((points_px[list(lip[3][columns])] - mouth.origin) @ axis for axis in (mouth.along, down))
        line = sum(mouth.edge_heights(u)) / 2
        way = line + reach * _arch(u, mouth.width) + side * rim - v
        for ring, carry in zip(lip, (0.0, 1 / 3, 2 / 3, 1.0), strict=True):
            moved[list(ring[columns])] += carry * way[:, None] * down
    return moved


def _teeth_height(sample: Sampler, mouth: Aperture) -> float | None:
    """Pixels from the line where the landmarks meet to the end of the teeth, in the middle of the mouth."""
    width = mouth.width
    u = torch.linspace(-ASIDE, ASIDE, COLUMNS) * width
    steps = torch.linspace(-ABOVE, BELOW, STEPS)
    v = (sum(mouth.edge_heights(u)) / 2)[:, None] + steps * width
    colours = sample(mouth.pixels_of(u[:, None], v))  # (COLUMNS, STEPS, 3)
    light = colours.mean(-1)
    lip = colours[:, steps < UPPER_LIP_TO].median(1).values
    lip_light = lip.mean(-1)
    peak, at = light.masked_fill((steps < 0) | (steps > PEAK_BY), 0).max(1)
    is_light = (light > ((lip_light + peak) / 2)[:, None]) & (steps >= BEGIN[0])
    begin = steps[is_light.int().argmax(1)]
    beneath = (steps > steps[at][:, None]) & (steps < steps[at][:, None] + END_BY)
    least = light.masked_fill(~beneath, 255).amin(1)
    end = steps[(beneath & (light < ((peak + least) / 2)[:, None])).int().argmax(1)]
    tooth_colour, lip_colour = _colourfulness(colours[torch.arange(COLUMNS), at]), _colourfulness(lip)
    shows = (begin <= BEGIN[1]) & (peak > LIGHTER * lip_light) & (least < DARKER * peak)
    shows &= (end - begin >= THICKNESS[0]) & (end <= THICKNESS[1])
    shows &= (lip_colour < COLOURFUL) | (tooth_colour < PALER * lip_colour)
    if float(shows.float().mean()) < ENOUGH:
        return None
    heights = (end / _arch(u, width))[shows]
    height = heights.median()
    is_line = (heights - height).abs().median() <= UNEVEN
    return float(height) * width if is_line and THICKNESS[0] <= height <= THICKNESS[1] else None


def _arch(u: Tensor, width: float) -> Tensor:
    """(N,) height of the gap between parted lips at places along the mouth, of that in its middle."""
    return (1 - (u / (0.5 * width)).square()).clamp(min=0).sqrt()


def _colourfulness(colours: Tensor) -> Tensor:
    """(…,) 0..1 of (…, 3) colours."""
    return (colours.amax(-1) - colours.amin(-1)) / colours.amax(-1).clamp(min=1)
