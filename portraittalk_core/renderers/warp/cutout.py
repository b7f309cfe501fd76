"""A portrait cut into its people and the background behind them, so that a head moves before a background that stays.

Picture = people + (1 − mask) · background holds exactly, at soft edges such as hair too, where nothing moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...face import topology as topo
from ...face.segmentation.person import grown, portrait_mask
from .fill import background_behind, filled

# of the face's longer side: how far around it the picture is cut out with care; farther away nothing moves
AROUND = 1.2
CLEAR = 0.02  # of the mask: what shows less of a person is background
RIM = 0.008  # of the face's longer side: around the people, what the background does not explain is theirs
CLEAR_RIM = 0.08  # of the mask that such a pixel needs: less is the background's own grain
BLUR_PX = 2  # around the people, in which a picture shows a little of them
COLLAR = 0.02  # of the face's longer side: half the width from which a place that is half a person's is clothing
COLLAR_LEVEL = 0.5  # of the face's height above the chin: higher there is hair
MARGIN_PX = 1  # around the people, in which the background is not trusted
LINES = 0.12  # of the face's longer side: how far behind the people the background's lines go on
LEVEL = 1 / 255  # of the mask: what a background has less than that tells nothing of its colour
SOLID = 0.98  # of the mask: what shows more of a person has a person's colours
STRANDS = 0.025  # of the face's longer side: how far from the mask strands of hair are looked for
CONTRAST = 60.0  # levels between people and background, below which their colours tell nothing
UNLIKE = 0.15  # of that contrast, squared: how far a colour may lie from all mixtures of both
RANGE = 3  # times as far away, where the background's colours are looked up
COARSE_PX = 4  # step of such searches
FOREIGN = 12.0  # levels beyond all colours of the background around, from which a colour is a person's
DOUBT = 0.3  # of a mixture: less is background, and as much below 1 is a person


@dataclass(frozen=True)
class Cutout:
    """People and background of a picture."""

    mask: Tensor  # (H, W) 0..1, 1 on people
    people: Tensor  # (3, H, W) 0..255, their colours times the mask
    background: Tensor  # (3, H, W) 0..255, filled behind them


def cut_out(picture: Tensor, points_px: Tensor) -> Cutout | None:
    """Cut the people out of a portrait; None where no person is recognised.

    Args:
        picture: (H, W, 3) uint8.
        points_px: (478, 2) landmarks of the face, pixels.
    """
    mask = portrait_mask(picture, points_px)
    if mask is None:
        return None
    low, high = points_px.amin(0), points_px.amax(0)
    side = float((high - low).amax())
    x0, y0 = (low - AROUND * side).clamp(min=0).long().tolist()
    x1, y1 = (int(end) for end in high + AROUND * side)  # beyond the picture's border slices end by themselves
    colours = picture.permute(2, 0, 1).float()
    mask = torch.where(mask < CLEAR, 0.0, mask)
    near, near_mask = colours[:, y0:y1, x0:x1], mask[y0:y1, x0:x1]
    radius_px = max(1, round(COLLAR * side))
    collar = _collar(near_mask, points_px - torch.tensor([x0, y0]), radius_px)
    near_mask.copy_(torch.maximum(near_mask, collar))
    reach_px = max(2, round(STRANDS * side))
    foreign = _foreign(near_mask, near, reach_px)
    near_mask.copy_(_with_strands(near_mask, near, foreign, reach_px))
    rim = grown((near_mask > 0).float()[None, None], max(1, round(RIM * side)))
    beside = grown(collar[None, None], 2 * radius_px)
    known = torch.maximum(grown(rim, MARGIN_PX), beside)[0, 0] == 0
    if not bool(known.any()):
        return None
    behind = background_behind(near, known, max(2, round(LINES * side)))
    # close to people what the background does not explain is theirs, as a lens blurs; beside that, if it is foreign
    least, close = _least_mask(near, behind), grown((near_mask > 0).float()[None, None], BLUR_PX)[0, 0] > 0
    theirs = close | (beside[0, 0] > 0) | ((rim[0, 0] > 0) & foreign & (least > CLEAR_RIM))
    near_mask.copy_(torch.maximum(near_mask, torch.where(theirs, least, 0.0)))
    background = colours.clone()
    background[:, y0:y1, x0:x1] = torch.where(near_mask > 0, behind, near)
    return Cutout(mask, *_split(colours, mask, background))


def _collar(mask: Tensor, points_px: Tensor, radius_px: int) -> Tensor:
    """(H, W) 1 in wide places that are neither quite a person's nor the background's, such as a collar that stands off.

    Cut through their midst, one half would go with the head and the other stay, as shards.

    Args:
        mask: (H, W).
        points_px: (478, 2) landmarks in its pixels.
        radius_px: half the width from which a place is wide.
    """
    chin, top = points_px[topo.CHIN], points_px[topo.FOREHEAD_TOP]
    up = (top - chin) / (top - chin).square().sum()
    y, x = torch.meshgrid(*(torch.arange(size) + 0.5 for size in mask.shape), indexing="ij")
    below = (x - chin[0]) * up[0] + (y - chin[1]) * up[1] < COLLAR_LEVEL
    half = ((mask > 0) & (mask < SOLID) & below)[None, None].float()
    return grown(1 - grown(1 - half, radius_px), radius_px)[0, 0]


def _split(colours: Tensor, mask: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
    """People (3, H, W) times their mask, and the background, both in 0..255, that together are exactly the picture."""
    people = torch.minimum((colours - (1 - mask) * background).clamp(min=0), 255 * mask)
    behind = ((colours - people) / (1 - mask).clamp(min=LEVEL)).clamp(0, 255)
    return people, torch.where(mask < 1 - LEVEL, behind, background)


def _foreign(mask: Tensor, colours: Tensor, reach_px: int) -> Tensor:
    """(H, W) bool: a colour that the background around has nowhere, unlike that of a line which goes on there."""
    near = _greatest((mask > 0).float()[None], reach_px)[0]
    low, high = (
        sign * _greatest(torch.where(near == 0, sign * colours, -1000.0), RANGE * reach_px) for sign in (-1, 1)
    )
    return torch.maximum(low - colours, colours - high).amax(0) > FOREIGN


def _least_mask(colours: Tensor, background: Tensor) -> Tensor:
    """(H, W) the least mask with which people of colours 0..255 over a background (3, H, W) give a picture."""
    darker = (background - colours) / background.clamp(min=1)
    lighter = (colours - background) / (255 - background).clamp(min=1)
    return torch.maximum(darker, lighter).amax(0).clamp(0, 1)


def _with_strands(mask: Tensor, colours: Tensor, foreign: Tensor, reach_px: int) -> Tensor:
    """The mask and what near its edge has people's colours rather than the background's, such as strands of hair.

    They would stay in the background, where the head has left it.

    Args:
        mask: (H, W).
        colours: (3, H, W) 0..255.
        foreign: (H, W) bool, see `_foreign`.
        reach_px: how far from the edge they are looked for.
    """
    near = _greatest((mask > 0).float()[None], reach_px)[0]
    behind = filled(colours, 1 - near)
    people = filled(colours, (mask > SOLID).float())
    across = people - behind
    contrast = (across**2).sum(0)
    share = ((colours - behind) * across).sum(0) / contrast.clamp(min=1)
    left = (colours - torch.lerp(behind, people, share.clamp(0, 1))).square().sum(0)
    fits = foreign & (contrast > CONTRAST**2) & (left < UNLIKE * contrast) & (near > 0)
    strands = ((share - DOUBT) / (1 - 2 * DOUBT)).clamp(0, 1) * fits
    return torch.maximum(mask, strands)


def _greatest(planes: Tensor, radius_px: int) -> Tensor:
    """(C, H, W) maxima of planes within about a radius."""
    height, width = planes.shape[1:]
    right, below = -width % COARSE_PX, -height % COARSE_PX
    coarse = F.max_pool2d(F.pad(planes[None], (0, right, 0, below), mode="replicate"), COARSE_PX)
    coarse = grown(coarse, max(1, round(radius_px / COARSE_PX)))[0]
    return coarse.repeat_interleave(COARSE_PX, 1).repeat_interleave(COARSE_PX, 2)[:, :height, :width]
