"""Whether the lids found by a face mesh are those that a picture shows: large drawn eyes reach far beyond them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_shape
from ..types import NUM_LANDMARKS, check_picture
from .aperture import LEFT_EYE, RIGHT_EYE, Aperture
from .covered import LIGHT, mean_colours

ODD_COLOUR = 0.2  # of the skin's brightness: colour beside a lid that no shadow makes of the skin's
ODD_BRIGHT = 1.3  # of the skin's brightness
MOSTLY_ODD = 0.45  # of the places around the eyes: there is eye where skin should be
LARGE, SOMEWHAT_ODD = 0.37, 0.1  # eyes of this height over width are drawn, if so much around them is odd too
AWAY, ASIDE = 0.4, 0.12  # where is looked: of an eye's height beyond the lids, of its width beyond the corners
FEW_COLOURS, DOTS_PX = 256, 5  # of a picture with a palette; side of the squares that even out its dots
SKIN = (117, 118, 101, 50, 346, 347, 330, 280, 6, 197, 195, 119, 348)  # under the eyes and on the nose


def lids_fit(picture: Tensor, points_px: Tensor) -> bool:
    """Whether skin is around the lids, so that they can close.

    Args:
        picture: (H, W, 3) uint8.
        points_px: (478, 2 or 3) landmarks, pixels.
    """
    check_picture(picture, "the picture of the eyes")
    check_shape(points_px, f"{NUM_LANDMARKS} {points_px.shape[-1]}", "the landmarks of the eyes")
    points, light = points_px[:, :2].float(), torch.tensor(LIGHT)
    eyes = [Aperture.of(points, chains) for chains in (RIGHT_EYE, LEFT_EYE)]
    picture = _without_dots(picture, points, max(eye.width for eye in eyes))
    skin = mean_colours(picture, points[list(SKIN)], 0.05 * eyes[0].width).median(0).values
    skin_level = float(skin @ light) + 1.0
    shares = []
    for eye, (upper, lower) in zip(eyes, (RIGHT_EYE, LEFT_EYE), strict=True):
        reach = AWAY * max(eye.gap, 0.25 * eye.width) * eye.across
        aside = ASIDE * eye.width * eye.along
        above, below = points[list(upper[2:-2])] - reach, points[list(lower[2:-2])] + reach
        corners = torch.stack([points[upper[0]] - aside, points[upper[-1]] + aside])
        around = mean_colours(picture, torch.cat([above, below, corners]), 0.06 * eye.width)
        level = around @ light
        colour = (around - skin * (level / skin_level)[:, None]).norm(dim=1) / skin_level
        shares.append(float(((colour > ODD_COLOUR) | (level > ODD_BRIGHT * skin_level)).float().mean()))
    odd, height = sum(shares) / 2, sum(eye.gap / eye.width for eye in eyes) / 2
    return odd < MOSTLY_ODD and not (height > LARGE and odd > SOMEWHAT_ODD)


def _without_dots(picture: Tensor, points: Tensor, reach_px: float) -> Tensor:
    """A picture (H, W, 3) uint8 of few colours, as of a GIF, with the dots evened out that it is mixed of at a face."""
    height, width = picture.shape[:2]
    low, high = points.amin(0) - reach_px, points.amax(0) + reach_px
    left, top = (int(v) for v in low.clamp(min=0))
    right, bottom = min(width, int(high[0]) + 1), min(height, int(high[1]) + 1)
    face = picture[top:bottom, left:right]
    if not face.numel() or len((face.long() * torch.tensor([65536, 256, 1])).sum(2).unique()) > FEW_COLOURS:
        return picture
    reach = DOTS_PX // 2
    padded = F.pad(face.permute(2, 0, 1)[None].float(), (reach,) * 4, mode="replicate")
    even = picture.clone()
    even[top:bottom, left:right] = F.avg_pool2d(padded, DOTS_PX, 1)[0].permute(1, 2, 0).round().byte()
    return even
