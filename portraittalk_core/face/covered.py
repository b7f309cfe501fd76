"""Whether a mouth can be seen at its landmarks, or a mask, a scarf, a hand or a microphone covers it.

A face mesh places lips whatever lies there. Where they are seen, they are redder than the skin around them, or the line
between them, or the upper lip against what is above it, stands out in brightness; cloth and hands show neither. Of a
mouth that is half behind a hand, one side is redder and the other is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_shape
from ..types import NUM_LANDMARKS, check_picture
from . import topology as topo

SEEN = 0.5  # visibility below which a mouth counts as covered
SMALLEST_PX = 22  # width of a mouth; landmarks lie half a lip off smaller ones, and one in ten would count as covered
REDDER_SHARE = 0.66  # of pairs of a lip's and a skin's sample, the lip's the redder: enough to be lips
REDDER_BY = 0.8  # and by so many hundredths of chromaticity, at the median
CONTRAST = 0.10  # of brightness, between lips and skin or within lips, that is enough to be lips
SIDE_REDDER_BY, SIDE_SHARE = 2.5, 0.15  # the redder side's hundredths, and the other's share of them that is enough
SIDES_MIDDLE = 0.03  # of the mouth's width on both sides of its middle, that belongs to no side
SIDE_LIGHT = 0.12  # lips whose brightness differs so much from the skin's are seen
FOREIGN_GREENER, FOREIGN_BLUER = 5.0, 8.0  # hundredths of chromaticity from the face's skin: beards are browner instead
SAMPLE, SKIN_SAMPLE = 0.05, 0.1  # sides of the squares that are averaged, mouth widths
ABOVE, BELOW = (0.08, 0.14), (0.08, 0.16)  # distances of skin samples from the lips, mouth widths
BETWEEN = (0.5, 0.15, 0.85)  # of the way from lip to lip: bared teeth are as light as pale lips, but dark below
SAMPLES = 7  # pixels a side of a square whose colours are averaged
LIGHT = (0.3, 0.59, 0.11)
# under the eyes, on the nose and the forehead: what a mask leaves free
SKIN = (117, 346, 118, 347, 101, 330, 50, 280, 6, 197, 195, 9, 151, 108, 337)


def mouth_covered(picture: Tensor, points_px: Tensor) -> bool:
    """Whether something covers the mouth; see `mouth_visibility`."""
    return mouth_visibility(picture, points_px) < SEEN


def mouth_visibility(picture: Tensor, points_px: Tensor) -> float:
    """How clearly a picture shows lips where the landmarks say.

    Args:
        picture: (H, W, 3) uint8.
        points_px: (478, 2 or 3) landmarks, pixels.

    Returns:
        0 nothing like lips .. 1; below `SEEN` the mouth counts as covered. 1 of mouths too small to tell.
    """
    check_picture(picture, "the picture of the mouth")
    check_shape(points_px, f"{NUM_LANDMARKS} {points_px.shape[-1]}", "the landmarks of the mouth")
    points = points_px[:, :2].float()
    span = points[topo.MOUTH_CORNERS[1]] - points[topo.MOUTH_CORNERS[0]]
    width = float(span.norm().clamp(min=1.0))
    if width < SMALLEST_PX:
        return 1.0
    down = torch.stack([-span[1], span[0]])  # its length is the mouth's width

    def colours(at: Tensor, side: float = SAMPLE) -> Tensor:
        return mean_colours(picture, at, side * width)

    lips_at = [
        [*_without_ends(rings[1]), *_without_ends(rings[2])] for rings in (topo.UPPER_LIP_RINGS, topo.LOWER_LIP_RINGS)
    ]
    upper, lower = (colours(points[at]) for at in lips_at)
    over, under = _without_ends(topo.OUTER_UPPER_LIP), _without_ends(topo.OUTER_LOWER_LIP)
    above = colours(torch.cat([points[over] - step * down for step in ABOVE]))
    below = colours(torch.cat([points[under] + step * down for step in BELOW]))
    inner = [points[_without_ends(chain)] for chain in (topo.INNER_UPPER_LIP, topo.INNER_LOWER_LIP)]
    between = torch.stack([colours(torch.lerp(*inner, share)) for share in BETWEEN])
    skin = colours(points[list(SKIN)], SKIN_SAMPLE).median(0).values[None]
    lips, around = torch.cat([upper, lower]), torch.cat([above, below])
    is_foreign = float((_redness(skin) - _redness(around).median()).max()) > FOREIGN_GREENER or (
        float((_blueness(around).median() - _blueness(skin)).max()) > FOREIGN_BLUER
    )
    contrast = 0.0 if is_foreign else _contrast(skin, around, above, upper, lips, between)
    seen = max(min(1.0, SEEN * contrast / CONTRAST), _red_lips(lips, around))
    along = (points - points[topo.MOUTH_CORNERS[0]] - span / 2) @ span / width**2  # from the mouth's middle
    places = along[[*lips_at[0], *lips_at[1]]], along[over * len(ABOVE) + under * len(BELOW)]
    return min(seen, _seen_on_both_sides(lips, around, *places))


@dataclass(frozen=True)
class _Side:
    """How the left or the right half of the lips differs from the skin around it."""

    redder: float  # hundredths
    light: float  # lips' brightness over the skin's

    @staticmethod
    def of(lips: Tensor, around: Tensor) -> _Side:
        """Of (N, 3) and (M, 3) samples."""
        light = torch.tensor(LIGHT)
        redder = float(_redness(lips).median() - _redness(around).median())
        return _Side(redder, float((lips @ light).median() / ((around @ light).median() + 1)))


def _seen_on_both_sides(lips: Tensor, around: Tensor, of_lips: Tensor, of_around: Tensor) -> float:
    """0..1, below `SEEN` where lips are seen on one side and what lies on the other is as red and as light as the skin.

    Of lips in light from one side one half may be no redder than the skin, but it is lighter or darker.

    Args:
        lips: (N, 3) samples.
        around: (M, 3) samples of the skin around them.
        of_lips: (N,) how far right of the mouth's middle each lies, in mouth widths.
        of_around: (M,) the same of the skin's.
    """
    sides = [_Side.of(lips[s * of_lips > SIDES_MIDDLE], around[s * of_around > SIDES_MIDDLE]) for s in (-1, 1)]
    weak, strong = sorted(sides, key=lambda side: side.redder)
    if not (strong.redder > SIDE_REDDER_BY and abs(weak.light - 1) < SIDE_LIGHT):  # a side without samples is NaN
        return 1.0
    return min(1.0, max(0.0, SEEN * weak.redder / (SIDE_SHARE * strong.redder)))


def _without_ends(chain: tuple[int, ...]) -> list[int]:
    """The middle of a lip's chain: its corners are thin."""
    return list(chain[2:-2])


def _red_lips(lips: Tensor, around: Tensor) -> float:
    """0..1, how surely (N, 3) samples of lips are redder than (M, 3) of the skin around them."""
    of_lips, of_skin = _redness(lips), _redness(around)
    difference = of_lips[:, None] - of_skin[None]
    share = float((difference > 0).float().mean() + (difference == 0).float().mean() / 2)
    by_share = (share - 0.5) / (REDDER_SHARE - 0.5)
    by_size = float(of_lips.median() - of_skin.median()) / REDDER_BY
    return min(1.0, max(0.0, SEEN * min(by_share, by_size)))


def _contrast(skin: Tensor, around: Tensor, above: Tensor, upper: Tensor, lips: Tensor, between: Tensor) -> float:
    """Differences in brightness at the lips, of the brightness of the face and of what surrounds them.

    All are (…, N, 3) samples, `between` one row for each of `BETWEEN`.
    """
    light = torch.tensor(LIGHT)
    of_skin, of_around, of_above, of_upper, of_lips = (
        float((colours @ light).median()) for colours in (skin, around, above, upper, lips)
    )
    unit = max(1.0, (of_skin * of_around) ** 0.5)  # a beard is dark: so are its lips
    to_inside = ((between @ light).median(1).values - of_lips).abs().max()
    return max(abs(of_above - of_upper), float(to_inside)) / unit


def _redness(colours: Tensor) -> Tensor:
    """(N,) hundredths: red over green, of all light."""
    return 100 * (colours[:, 0] - colours[:, 1]) / (colours.sum(1) + 25)


def _blueness(colours: Tensor) -> Tensor:
    """(N,) hundredths: blue over the mean of red and green, of all light."""
    return 100 * (colours[:, 2] - (colours[:, 0] + colours[:, 1]) / 2) / (colours.sum(1) + 25)


def mean_colours(picture: Tensor, at: Tensor, side: float) -> Tensor:
    """(N, 3) means 0..255 of a picture (H, W, 3) in squares of a side in pixels around (N, 2) positions.

    Of large squares an even grid of pixels is taken; beyond the picture's border its pixels repeat.
    """
    height, width = picture.shape[:2]
    reach = int(side) // 2
    steps = torch.linspace(-reach, reach, min(2 * reach + 1, SAMPLES)).round().long()
    columns = (at[:, 0].floor().long()[:, None] + steps).clamp(0, width - 1)
    rows = (at[:, 1].floor().long()[:, None] + steps).clamp(0, height - 1)
    return picture[rows[:, :, None], columns[:, None, :]].float().mean((1, 2))
