"""Seamless compositing of painted face crops into their pictures: soft masks, colour matching, detail transfer.

Shapes: S the side of a painted crop, M of a mask over it, H and W of the picture.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, ShapeError
from ..face import topology as topo
from ..face.aperture import soft_step
from ..face.crop import CropBox, FaceCrop, resampled
from ..media.resize import resize_planes
from ..options import check_options, option
from ..progress import Progress
from ..threads import one_torch_thread
from ..types import check_picture

SHAPES = ("face", "box")
MASK_PX = 192  # masks are smooth: a finer grid makes no visible difference
COARSENING = 2  # distances from the face's outline are measured on a grid so much coarser than masks
FACE_DILATION = 0.04  # of the face's size: how far beyond its oval the painted face counts in full
BOX_FADE = 0.08  # of the box's side, at most: over which a face that fills the box fades at its edge
CORNER_RADIUS = 0.25  # of the box's side: radius of the square's corners
RING_PX = 96  # colours are compared at this size: fine texture must not count
SIMILARITY_PX = 128  # side of the map of similarity between painted and original
MAX_GAIN, MAX_SHIFT = 1.2, 30.0  # limits of colour matching, factor and levels of 255
AGREE_LEVEL, DIFFER_LEVEL = 3.0, 14.0  # levels: painted so close to the original keeps its detail, so far keeps none
LOST_S, FADE_S = 0.25, 0.12  # a face lost for longer is left unpainted; how fast painting fades there


@dataclass(frozen=True)
class PasteOptions:
    """Mask shape, feather and colour matching of a paste."""

    shape: str = option(
        "face", help="face: along its outline; box: also what has changed anywhere in the crop", choices=SHAPES
    )
    feather: float = option(0.15, 0.02, 0.5, "Width of the soft edge, as a share of the face's size.", step=0.01)
    match_colour: float = option(
        1.0, 0, 1, "How far the painted colours are brought to the target's own around the face.", step=0.05
    )

    def __post_init__(self) -> None:
        check_options(self, shape="the shape of the paste mask")


def paste_frames(
    pictures: Tensor | Iterable[Tensor],
    painted: Iterable[Tensor],
    plan: FaceCrop,
    options: PasteOptions | None = None,
    on_progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Paste painted crops into their pictures, one at a time.

    Args:
        pictures: (H, W, 3) uint8, one a frame, or one for all.
        painted: (S, S, 3) uint8, one a frame.
        plan: where the crops lie.
        options: mask, feather and colours.
        on_progress: called with frames done and in all.

    Yields:
        (H, W, 3) uint8, as many as there are painted crops.

    Raises:
        InputError: fewer pictures or landmarks than painted crops, or a size that does not fit.
    """
    options = options or PasteOptions()
    is_single = isinstance(pictures, Tensor)
    masks = _masks(plan, options)
    presence = _presence(plan.track.valid, float(plan.track.fps))
    backgrounds = itertools.repeat(pictures) if is_single else iter(pictures)
    for index, crop in enumerate(painted):
        picture = next(backgrounds, None)
        if picture is None:
            raise InputError(f"frame {index} is painted, but there are only {index} pictures to paste into.")
        plan.check_fits(picture, index)
        box = plan.box(index)  # refuses a frame without landmarks
        weight = float(presence[min(index, len(presence) - 1)])
        with one_torch_thread():
            mask, core = (weight * part for part in next(masks))
            pasted = paste_face(picture, crop, box, mask, options.match_colour, core)
        yield pasted
        if on_progress is not None:
            on_progress(index + 1, max(len(plan), index + 1))


def paste_face(
    picture: Tensor,
    painted: Tensor,
    box: CropBox,
    mask: Tensor,
    match_colour: float = 1.0,
    core: Tensor | None = None,
) -> Tensor:
    """Composite one painted crop into its picture.

    The crop is compared with what it was painted over: what is finer than the crop can hold comes from the picture,
    where the two still agree. A crop pasted back unpainted therefore changes nothing, however large the face.

    Args:
        picture: (H, W, 3) uint8.
        painted: (S, S, 3) uint8.
        box: the crop's place in the picture.
        mask: (M, M) float 0..1 over the crop, 0 at its edge.
        match_colour: 0..1, see `PasteOptions`.
        core: (M, M) part of the mask that is painted in any case; the rest only where the crop shows something else
            than the picture, so that a background that has not moved does not shimmer. None is all of it.

    Returns:
        (H, W, 3) uint8; the very values of `picture` where the mask is 0.

    Raises:
        ShapeError: a crop that is not square, or another type.
    """
    height, width = check_picture(picture, "the picture to paste into").shape[:2]
    side = check_picture(painted, "the painted crop").shape[0]
    if painted.shape[1] != side or side < 2:
        raise ShapeError(f"the painted crop must be square, not {painted.shape[1]}×{side}; paint it as it was cropped.")
    out = picture.clone()
    left, right = max(0, math.ceil(box.left)), min(width, math.floor(box.left + box.side))
    top, bottom = max(0, math.ceil(box.top)), min(height, math.floor(box.top + box.side))
    if right <= left or bottom <= top:
        return out

    def to_picture(crop: Tensor) -> Tensor:
        scale = crop.shape[0] / box.side
        bounds = (left - box.left, top - box.top, right - box.left, bottom - box.top)
        return resampled(crop, tuple(edge * scale for edge in bounds), (right - left, bottom - top))

    original = resampled(picture, (box.left, box.top, box.left + box.side, box.top + box.side), (side, side))
    gain, shift = _colour_match(painted, original, mask, match_colour)
    similarity = to_picture(_similarity(painted * gain + shift, original)).clamp(0, 1)[..., None]
    alpha = to_picture(mask.float()).clamp(0, 1)[..., None]
    if core is not None:
        core_alpha = torch.minimum(to_picture(core.float()).clamp(0, 1)[..., None], alpha)
        alpha = core_alpha + (alpha - core_alpha) * (1 - similarity)
    part = picture[top:bottom, left:right].float()
    new = to_picture(painted) * gain + shift
    new += similarity * (part - to_picture(original))
    out[top:bottom, left:right] = torch.lerp(part, new, alpha).round().clamp(0, 255).to(torch.uint8)
    return out


def box_mask(edge: float, size: int = MASK_PX) -> Tensor:
    """(M, M) mask of a square with round corners that fades to 0 at the crop's edge, over `edge` 0..0.5 of its side."""
    line = ((torch.arange(size) + 0.5) / size - 0.5).abs()
    corner = line - (0.5 - CORNER_RADIUS)
    outside = torch.hypot(corner.clamp(min=0)[:, None], corner.clamp(min=0)[None])
    inside = torch.maximum(corner[:, None], corner[None]).clamp(max=0)
    # 0 a pixel inside of the edge, so that resampling leaves nothing of it there
    depth = CORNER_RADIUS - outside - inside - 1 / size
    return soft_step(depth - edge / 2, edge)


def face_mask(points: Tensor, feather: float, size: int = MASK_PX, dilation: float = FACE_DILATION) -> Tensor:
    """(M, M) mask of a dilated face outline with a soft edge outside of it.

    Args:
        points: (T, 478, 2 or more) landmarks 0..1 of the crop; the mask covers the face of all T frames.
        feather: width of the edge, of the face's larger side.
        size: M.
        dilation: how far beyond the outline the mask is whole, of the face's larger side.
    """
    oval = points[:, list(topo.FACE_OVAL), :2].double()
    face = float((oval.amax(1) - oval.amin(1)).amax())
    distance = _distance(_hull(oval.reshape(-1, 2)), size)
    return 1 - soft_step(distance - (dilation + feather / 2) * face, feather * face)


def _masks(plan: FaceCrop, options: PasteOptions) -> Iterator[tuple[Tensor, Tensor]]:
    """Mask and core mask of every frame; constant if the crop box is fixed."""
    points = plan.track_on_crop().points
    oval = points[:, list(topo.FACE_OVAL), :2]
    feather = options.feather * float((oval.amax(1) - oval.amin(1)).amax())
    edge, box = box_mask(min(BOX_FADE, feather)), box_mask(min(0.3, feather))
    point_sets = [points] if plan.is_fixed else points.split(1)
    faces = (edge * face_mask(part, options.feather) for part in point_sets)
    masks = ((face if options.shape == "face" else torch.maximum(face, box), face) for face in faces)
    return itertools.repeat(next(masks)) if plan.is_fixed else masks


def _presence(valid: Tensor, fps: float) -> Tensor:
    """(T,) weight 1 where the face is valid, 0 where it is lost for long, with a short fade between."""
    visible = valid.numpy()
    edges = np.flatnonzero(np.diff(np.concatenate([[True], visible, [True]]).astype(np.int8)))
    lost = np.zeros(len(visible), dtype=bool)
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        lost[start:stop] = stop - start > LOST_S * fps
    steps = max(1, math.ceil(FADE_S * fps))
    if not lost.any():
        return torch.ones(len(visible))
    lost_frames = np.flatnonzero(lost)
    at = np.arange(len(visible))
    next_lost = np.searchsorted(lost_frames, at).clip(max=len(lost_frames) - 1)
    nearest = np.minimum(abs(lost_frames[next_lost] - at), abs(lost_frames[(next_lost - 1).clip(min=0)] - at))
    return torch.from_numpy(np.minimum(1.0, nearest / (steps + 1))).float()


def _colour_match(painted: Tensor, original: Tensor, mask: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """(3,) gain and shift that match the painted colours to the picture's in the blending ring."""
    weight = _small((4 * mask * (1 - mask))[None])[0]
    small_painted, small_original = (_small(crop.permute(2, 0, 1).float()) for crop in (painted, original))
    if strength == 0 or float(weight.sum()) < 1:
        return torch.ones(3), torch.zeros(3)
    # pixels that show something else, such as hair that has moved, say nothing about colour
    difference = small_painted - small_original
    difference = (difference - (difference * weight).sum((1, 2), keepdim=True) / weight.sum()).abs().amax(0)
    weight = weight / (1 + (difference / 24) ** 2) ** 2
    weight = weight / weight.sum()

    def measured(crop: Tensor) -> tuple[Tensor, Tensor]:
        mean = (crop * weight).sum((1, 2))
        return mean, (((crop - mean[:, None, None]) ** 2 * weight).sum((1, 2)) + 4.0).sqrt()

    (from_mean, from_std), (to_mean, to_std) = measured(small_painted), measured(small_original)
    gain = (to_std / from_std).clamp(1 / MAX_GAIN, MAX_GAIN)
    gain = 1 + strength * (gain - 1)
    # limited where the face is: around the ring's own mean
    moved = strength * (to_mean - from_mean).clamp(-MAX_SHIFT, MAX_SHIFT)
    return gain, moved + from_mean * (1 - gain)


def _small(planes: Tensor) -> Tensor:
    """(C, h, w) downsampled to the size at which colours are compared."""
    return resize_planes(planes[None], (RING_PX, RING_PX), "bilinear")[0]


def _similarity(painted: Tensor, original: Tensor) -> Tensor:
    """About (128, 128) similarity map: 1 where a painted crop equals the original, 0 where it differs."""
    difference = (painted - original).abs_().amax(2)[None, None]
    difference = F.avg_pool2d(difference, max(1, difference.shape[-1] // SIMILARITY_PX), ceil_mode=True)
    difference = F.avg_pool2d(F.pad(difference, (1,) * 4, mode="replicate"), 3, 1)[0, 0]
    return 1 - soft_step(difference - (AGREE_LEVEL + DIFFER_LEVEL) / 2, DIFFER_LEVEL - AGREE_LEVEL)


def _hull(points: Tensor) -> Tensor:
    """(K, 2) corners of the convex hull of (N, 2) points, in order.

    Source: Andrew 1979, the monotone chain.
    """
    ordered = sorted(set(map(tuple, points.tolist())))
    if len(ordered) < 3:
        return torch.tensor(ordered, dtype=torch.float64)

    def chain(row: list[tuple[float, float]]) -> list[tuple[float, float]]:
        corners: list[tuple[float, float]] = []
        for x, y in row:
            while len(corners) > 1:
                (x0, y0), (x1, y1) = corners[-2:]
                if (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0:
                    break
                corners.pop()
            corners.append((x, y))
        return corners[:-1]

    return torch.tensor(chain(ordered) + chain(ordered[::-1]), dtype=torch.float64)


def _distance(corners: Tensor, size: int) -> Tensor:
    """(M, M) signed distance from a convex outline with corners 0..1 of the map's side; negative inside."""
    coarse = size // COARSENING  # distances are smooth enough to interpolate
    x = (torch.arange(coarse) + 0.5) / coarse
    y = x[:, None]
    nearest, inside = torch.full((coarse, coarse), math.inf), torch.ones(coarse, coarse, dtype=torch.bool)
    ways = corners.roll(-1, 0) - corners
    for (x0, y0), (dx, dy) in zip(corners.tolist(), ways.tolist(), strict=True):
        along = (((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-12)).clamp_(0, 1)
        across = (x - x0 - along * dx).square_() + (y - y0 - along * dy).square_()
        torch.minimum(nearest, across, out=nearest)
        inside &= (y - y0) * dx >= (x - x0) * dy
    signed = torch.where(inside, -nearest.sqrt(), nearest.sqrt())
    return F.interpolate(signed[None, None], (size, size), mode="bilinear")[0, 0]
