"""Filling of what is not known of a picture from what is around it.

Source: Gortler et al., "The Lumigraph", 1996, section 3.4.3 (pull-push).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...face.segmentation.person import grown
from ...media.resize import resize_planes

RAYS = 24  # directions in which an unknown pixel looks for known ones
ACROSS = 16.0  # how much more variation along a ray counts than across it
EVEN = 2.0  # squared levels: weight of a ray that meets no line
NEAR_PX = 4.0  # distance at which a ray counts half
FINEST_PX = 16  # depth beyond which lines are continued in a smaller picture
WINDOW_PX = 5  # in which the direction of lines is measured


def filled(colours: Tensor, known: Tensor) -> Tensor:
    """Colours with smooth ones where they are not known; known ones are unchanged.

    Args:
        colours: (C, H, W).
        known: (H, W) weights 0..1; between them, colours are mixed with those around.

    Returns:
        (C, H, W); zeros where nothing is known at all.
    """
    return _pulled(torch.cat([colours * known, known[None]])[None])[0][:-1]


def _pulled(weighted: Tensor) -> Tensor:
    """(1, C + 1, H, W) colours times weights, and the weights: colours everywhere, in the same layout."""
    height, width = weighted.shape[-2:]
    weight = weighted[:, -1:]
    own = weighted / weight.clamp(min=1e-6)
    if max(height, width) <= 1 or bool((weight >= 1).all()):
        return own
    smaller = F.avg_pool2d(F.pad(weighted, (0, width % 2, 0, height % 2), mode="replicate"), 2)
    # a pixel of which a quarter is known is known: its colours are those of that quarter
    scale = (4 * smaller[:, -1:]).clamp(max=1) / smaller[:, -1:].clamp(min=1e-6)
    coarse = _pulled(smaller * scale)
    pushed = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.lerp(pushed, own, weight)


def background_behind(colours: Tensor, known: Tensor, depth_px: int) -> Tensor:
    """The background with what is behind the people: its lines go on for a while, farther away its colours do.

    Args:
        colours: (3, H, W) 0..255.
        known: (H, W) bool.
        depth_px: how far lines go on.
    """
    scale = min(1.0, FINEST_PX / depth_px)
    if scale == 1:
        return filled(*_with_lines(colours, known, depth_px))
    height, width = known.shape
    small = (max(1, round(scale * height)), max(1, round(scale * width)))
    # of a small pixel that is known in part, the known part is taken
    sums = resize_planes(torch.cat([colours * known, known[None].float()])[None], small, "bilinear")[0]
    means, small_known = sums[:3] / sums[3:].clamp(min=1e-6), sums[3] > 0.5
    lined, share = _with_lines(means, small_known, FINEST_PX)
    behind = resize_planes(filled(lined, share)[None], (height, width), "bilinear")[0]
    return torch.where(known, colours, behind)


def _with_lines(colours: Tensor, known: Tensor, depth_px: int) -> tuple[Tensor, Tensor]:
    """What is known of a picture continued into what is not along its lines and edges.

    Each unknown pixel looks along rays for the first known one. A ray counts by how much the picture varies across it
    there and how little along it, so that a line goes on straight, and by how near that is.

    Args:
        colours: (3, H, W) 0..255.
        known: (H, W) bool.
        depth_px: how far lines are continued.

    Returns:
        (3, H, W) colours, and (H, W) 0..1 how much is known of them now.

    Source: after Bornemann, März, "Fast Image Inpainting Based on Coherence Transport", 2007, section 3.
    """
    height, width = known.shape
    tensor = _structure(colours, known)
    unknown = (~known & (grown(known.float()[None, None], depth_px)[0, 0] > 0)).nonzero()
    flat, flat_known = colours.flatten(1), known.flatten()
    total, weights = torch.zeros(3, len(unknown)), torch.zeros(len(unknown))
    nearest = torch.full((len(unknown),), float(depth_px))
    steps = torch.arange(1, depth_px + 2)
    for angle in range(RAYS):
        dy, dx = math.sin(2 * math.pi * angle / RAYS), math.cos(2 * math.pi * angle / RAYS)
        y = unknown[:, :1] + (steps * dy).round().long()
        x = unknown[:, 1:] + (steps * dx).round().long()
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        at = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
        met = inside & flat_known[at]
        first = met.int().argmax(1)
        found = met.any(1)
        place = at.gather(1, first[:, None])[:, 0]
        distance = first + 1.0
        yy, xx, xy = tensor[:, place]
        along = (yy * dy * dy + xx * dx * dx + 2 * xy * dy * dx).clamp(min=0)
        weight = found * ((yy + xx - ACROSS * along).clamp(min=0) + EVEN) / (1 + (distance / NEAR_PX) ** 2)
        total += flat[:, place] * weight
        weights += weight
        nearest = torch.where(found, torch.minimum(nearest, distance), nearest)
    out, share = colours * known, known.float()
    rows, columns = unknown.unbind(1)
    out[:, rows, columns] = total / weights.clamp(min=1e-6)
    share[rows, columns] = (1 - nearest / depth_px).clamp(0, 1) * (weights > 0)
    return out, share


def _structure(colours: Tensor, known: Tensor) -> Tensor:
    """(3, H · W) structure tensor yy, xx, xy of what is known, levels², in windows of WINDOW_PX."""
    gray, both = colours.mean(0), torch.zeros_like(known)  # where all four neighbours are known
    both[1:-1, 1:-1] = known[2:, 1:-1] & known[:-2, 1:-1] & known[1:-1, 2:] & known[1:-1, :-2]
    dy, dx = torch.zeros_like(gray), torch.zeros_like(gray)
    dy[1:-1] = (gray[2:] - gray[:-2]) / 2
    dx[:, 1:-1] = (gray[:, 2:] - gray[:, :-2]) / 2
    products = torch.stack([dy * dy, dx * dx, dy * dx, torch.ones_like(gray)])[None] * both
    means = F.avg_pool2d(products, WINDOW_PX, 1, WINDOW_PX // 2)[0].flatten(1)
    return means[:3] / means[3:].clamp(min=0.01)
