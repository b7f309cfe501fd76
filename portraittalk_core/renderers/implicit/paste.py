"""Compositing of rendered face crops into their pictures: feathered, matched in colour, on the networks' device.

Shapes: B frames, R side of a rendered crop, H and W of the picture, h and w of the part of it that the crop covers.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...checks import check_shape
from ...face.aperture import soft_step
from ...types import check_picture
from ..paste import AGREE_LEVEL, DIFFER_LEVEL, MAX_GAIN, MAX_SHIFT, SIMILARITY_PX, box_mask
from .crop import FaceCrop, sampled, shifted

FEATHER = 0.06  # of the crop's side: over which a rendered crop fades at its edge
RING_PX = 64  # colours are compared at this size: fine texture must not count
MAX_PIXELS = 4_000_000  # of all frames that are composited at once: floats of large portraits would fill the memory
STEADY_LEVEL = 24 / 255  # pixels that differ by more than about this show something else and say little about colour


def feathered_mask(size: int, feather: float = FEATHER) -> Tensor:
    """(S, S) float mask of a crop: 1 inside, 0 at its edge, with round corners."""
    return box_mask(feather, size)


def paste(
    picture: Tensor,
    rendered: Tensor,
    crop: FaceCrop,
    mask: Tensor | None = None,
    match_colour: float = 1.0,
) -> Tensor:
    """Composite one rendered crop into its picture.

    Args:
        picture: (H, W, 3) uint8.
        rendered: (3, R, R) float 0..1.
        crop: where it belongs; its size does not matter.
        mask: (M, M) float 0..1 over the crop; None is `feathered_mask`.
        match_colour: 0..1, how far the rendered colours are brought to the picture's own around the edge.

    Returns:
        (H, W, 3) uint8; the very values of `picture` where the mask is 0.
    """
    paster = Paster(picture, crop, rendered.shape[-1], mask, match_colour, rendered.device)
    return next(iter(paster.paste(rendered[None])))


class Paster:
    """Pastes rendered crops of one place into one picture, a batch at a time.

    Args:
        picture: (H, W, 3) uint8.
        crop: the place.
        side: R.
        mask: (M, M) float 0..1 over the crop; None is `feathered_mask`.
        match_colour: see `paste`.
        device: on which the crops are rendered.
        detail: 0..1, how much of what is too fine for a crop, such as grain, comes from the picture, where the two show
            the same.
    """

    def __init__(  # noqa: PLR0913 - one parameter a property
        self,
        picture: Tensor,
        crop: FaceCrop,
        side: int,
        mask: Tensor | None = None,
        match_colour: float = 1.0,
        device: torch.device | str = "cpu",
        detail: float = 0.0,
    ) -> None:
        self._picture = check_picture(picture, "the picture to paste into").cpu()
        height, width = picture.shape[:2]
        mask = feathered_mask(side) if mask is None else check_shape(mask, "M M", "the mask of a paste")
        self._bounds = left, top, right, bottom = _covered(mask, crop, crop.bounds(width, height))
        self._is_inside = right > left and bottom > top
        self._side, self._match, self._detail = side, match_colour, detail
        if not self._is_inside:
            return
        part = self._picture[top:bottom, left:right].to(device).permute(2, 0, 1)[None]
        self._part = part.float() / 255  # (1, 3, h, w)
        mask = mask.to(device, torch.float32)
        self._size = (bottom - top, right - left)
        self._matrix, shrink = _to_pixels_of(crop, side, left, top)
        self._shrink = shrink
        over = _to_pixels_of(crop, mask.shape[-1], left, top, 1)[0]
        self._alpha = sampled(mask[None, None], over, self._size).clamp(0, 1)
        taken = crop.take(picture, device)
        self._original = F.interpolate(taken, (RING_PX, RING_PX), mode="area")
        if detail:
            self._taken = taken if crop.size == side else crop.resized(side).take(picture, device)
            self._unshrunk = _to_pixels_of(crop, side, left, top, 1)[0]
            self._fine = self._part - sampled(self._taken, self._unshrunk, self._size)
        self._ring = F.interpolate((4 * mask * (1 - mask))[None, None], (RING_PX, RING_PX), mode="area")

    def paste(self, rendered: Tensor) -> Iterable[Tensor]:
        """Pictures (H, W, 3) uint8 of a batch of crops (B, 3, R, R) float 0..1."""
        check_shape(rendered, f"B 3 {self._side} {self._side}", "the rendered crops")
        if not self._is_inside:
            return [self._picture.clone() for _ in rendered]
        left, top, right, bottom = self._bounds
        at_once = max(1, MAX_PIXELS // ((right - left) * (bottom - top)))
        parts = torch.cat([self._composite(some.float()) for some in rendered.split(at_once)])
        pictures = []
        for part in parts.cpu():  # the one copy from the device
            picture = self._picture.clone()
            picture[top:bottom, left:right] = part
            pictures.append(picture)
        return pictures

    def _composite(self, rendered: Tensor) -> Tensor:
        """(B, h, w, 3) uint8 of the picture's part that the crop covers."""
        gain, shift = matched_colours(rendered, self._original, self._ring, self._match)
        small = F.avg_pool2d(rendered, self._shrink) if self._shrink > 1 else rendered
        new = sampled(small, self._matrix, self._size) * gain + shift
        if self._detail:
            alike = similarity(rendered * gain + shift, self._taken)
            alike = F.interpolate(alike, (self._side, self._side), mode="bilinear")
            new = new + self._detail * sampled(alike, self._unshrunk, self._size) * self._fine
        mixed = torch.lerp(self._part.expand_as(new), new, self._alpha)
        pixels = (mixed * 255).add_(0.5).clamp_(0, 255).to(torch.uint8)
        return torch.where(self._alpha == 0, (self._part * 255).round().to(torch.uint8), pixels).permute(0, 2, 3, 1)


def _covered(mask: Tensor, crop: FaceCrop, bounds: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of those pixels within `bounds` that a crop's mask (M, M) may reach."""
    rows, columns = (mask.amax(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    if not rows:
        return (*bounds[:2], *bounds[:2])
    xs, ys = ((found[0] - 1.0, found[-1] + 1.0) for found in (columns, rows))  # where a bilinear sample sees something
    corners = torch.tensor([[x, y, 1.0] for x in xs for y in ys], dtype=torch.float64)
    at = corners @ crop.resized(len(mask)).to_picture.T
    (left, top), (right, bottom) = at.amin(0).floor().long().tolist(), at.amax(0).ceil().long().tolist()
    left, top = max(bounds[0], left), max(bounds[1], top)
    return left, top, max(left, min(bounds[2], right + 1)), max(top, min(bounds[3], bottom + 1))


def matched_colours(rendered: Tensor, original: Tensor, ring: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """(B, 3, 1, 1) gain and shift that match rendered colours to the picture's in the blending ring.

    Args:
        rendered: (B, 3, R, R) float 0..1.
        original: (1, 3, r, r) what it is rendered over, r = RING_PX.
        ring: (1, 1, r, r) weights.
        strength: 0..1.
    """
    if strength == 0:
        neutral = torch.ones(len(rendered), 3, 1, 1, device=rendered.device)
        return neutral, torch.zeros_like(neutral)
    small = F.interpolate(rendered, original.shape[-2:], mode="area")
    over = (2, 3)
    difference = small - original
    middle = (difference * ring).sum(over, keepdim=True) / ring.sum()
    off = (difference - middle).abs().amax(1, keepdim=True)
    weight = ring / (1 + (off / STEADY_LEVEL) ** 2) ** 2
    weight = weight / weight.sum(over, keepdim=True)

    def measured(crops: Tensor) -> tuple[Tensor, Tensor]:
        mean = (crops * weight).sum(over, keepdim=True)
        return mean, (((crops - mean) ** 2 * weight).sum(over, keepdim=True) + (2 / 255) ** 2).sqrt()

    (from_mean, from_std), (to_mean, to_std) = measured(small), measured(original)
    gain = 1 + strength * ((to_std / from_std).clamp(1 / MAX_GAIN, MAX_GAIN) - 1)
    moved = strength * (to_mean - from_mean).clamp(-MAX_SHIFT / 255, MAX_SHIFT / 255)
    return gain, moved + from_mean * (1 - gain)


def similarity(rendered: Tensor, original: Tensor) -> Tensor:
    """(B, 1, r, r) 0..1, r about `SIMILARITY_PX`: 1 where a rendered crop shows what the original does, 0 where not.

    Args:
        rendered: (B, 3, R, R) float 0..1.
        original: (1, 3, R, R).
    """
    difference = 255 * (rendered - original).abs().amax(1, keepdim=True)
    difference = F.avg_pool2d(difference, max(1, difference.shape[-1] // SIMILARITY_PX), ceil_mode=True)
    difference = F.avg_pool2d(F.pad(difference, (1,) * 4, mode="replicate"), 3, 1)
    return 1 - soft_step(difference - (AGREE_LEVEL + DIFFER_LEVEL) / 2, DIFFER_LEVEL - AGREE_LEVEL)


def crop_pictures(rendered: Tensor) -> list[Tensor]:
    """(R, R, 3) uint8 pictures of (B, 3, R, R) crops."""
    return list((rendered.float() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu())


def _to_pixels_of(crop: FaceCrop, side: int, left: int, top: int, shrink: int | None = None) -> tuple[Tensor, int]:
    """Matrix from the pixels of a picture's part to those of the crop, and by how much the crop is shrunk before.

    A crop of twice the pixels that it covers, or more, is shrunk by a whole number: it would alias.
    """
    if shrink is None:
        shrink = max(1, int(side / max(crop.side_px, 1.0)))
        while side % shrink:
            shrink -= 1
    placed = crop.resized(side // shrink)
    offset = placed.matrix[:, :2] @ torch.tensor([left, top], dtype=torch.float64)
    return shifted(placed.matrix, float(offset[0]), float(offset[1])), shrink
