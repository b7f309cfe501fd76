"""Eyeballs that turn behind the lids: the portrait's own irises, moved over a white that is filled behind them.

All is laid out in the portrait's own pixels: what a frame shows of an eye comes from there through the motion field,
which also keeps the lids over it. A frame is changed by the difference that turned eyes make, so that lashes and
glasses stay, and eyes that look as in the portrait change nothing.

Shapes: h, w the pixels of one eye's patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...face import topology as topo
from ...face.aperture import LEFT_EYE, RIGHT_EYE, Aperture, Box, pixel_box, pixel_centres, soft_step
from .fill import filled
from .painters import FramePose, within

CHAINS = (RIGHT_EYE, LEFT_EYE)
IRISES = (topo.RIGHT_IRIS, topo.LEFT_IRIS)
CENTRES, RIGID = [iris[0] for iris in IRISES], list(topo.RIGID)
LEAST_MOVE_PX = 0.03  # an iris that moves less stays
OPEN = 0.16  # of an eye's width: lids that are nearer to each other show too little of an eye
HIDDEN = 0.45  # of the other eye's width: an eye that is narrower is turned away
LEAST_CONTRAST = 22.0  # levels between white and iris; with less, such as behind dark glasses, there is no iris to move
LEAST_WHITE = 0.06  # of the patch inside the lids, that shows white
RINGS = 48  # of the radial profile, out to OUTER radii
OUTER = 1.7  # of the iris's radius
GONE = 0.3  # of the iris's radius: a way after which nothing shows any more that the portrait had beside the layers
# circles that are tried for an iris, beside that of the landmarks: shifts and sizes, of its radius
ASIDE, DOWN, SIZES = (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3), (-0.12, 0.0, 0.12), (0.85, 0.92, 1.0, 1.08, 1.16)
UNLIKELY = 0.4  # how much less a circle counts that is a radius away
FITTED = 1200  # pixels that are looked at
SIDEWAYS = 0.75  # cosine of the angle to the eye's axis, from which on no lid covers the iris's edge
GLINT, INNER = 40.0, 0.75  # levels above the iris around, that are a reflection of light; radii in which there are some
GLINT_FOLLOWS = 0.45  # of the pupil's way, that a reflection goes: the cornea turns about a point behind it


@dataclass(frozen=True)
class Eye:
    """One eye's layers in the portrait, in the pixels of a patch."""

    box: Box  # in the region's pixels
    # (1, 10, h, w): white (3), all layers as they are at rest (3), 0..1 inside the lids (1), and what the portrait
    # shows around the iris beside its layers (3), which goes as the iris goes away
    planes: Tensor
    radius_px: float  # of the iris, pixels of the portrait
    iris_planes: Tensor  # (1, 4, h, w): iris (3), and its cover 0..1
    glints: Tensor | None  # (1, 3, h, w) reflections of light; None where there are none
    chains: tuple[tuple[int, ...], tuple[int, ...]]
    iris: int  # landmark of its centre
    to_patch: tuple[Tensor, Tensor]  # (2, 1, 1) scale and offset from pixels of the region's box to −1..1 of the patch
    mixed: Tensor  # (1, 7, h, w) the first seven planes; of one frame


class Eyes:
    """The portrait's eyes.

    Args:
        region: (1, 3, H, W) 0..255 the part of the portrait that may move.
        box: which part that is, pixels of the portrait.
        points_px: (478, 3) landmarks, z on x's scale.
    """

    def __init__(self, region: Tensor, box: Box, points_px: Tensor) -> None:
        self._box = box
        irises, rigid = points_px[CENTRES], points_px[RIGID]
        # a turned rigid head is an affine map of its points in space: what an iris does beside it is gaze
        self._carrying = (_with_one(irises).double() @ torch.linalg.pinv(_with_one(rigid).double())).float().numpy()
        self.shown = _eyes_shown(region, box, points_px, region.shape[-1] / (box[2] - box[0]))

    def moves_px(self, targets_px: Tensor) -> Tensor:
        """(T, 2, 2) how far each iris of (T, 478, 2) landmarks stands beside where its head carries it, pixels."""
        targets = targets_px.numpy()  # so few numbers take numpy a third of torch's time
        return torch.from_numpy(targets[:, CENTRES] - self._carrying @ targets[:, RIGID])

    def paint(self, region: Tensor, pose: FramePose) -> None:
        """See `Painter`; `pose.came_from` must be known."""
        # both eyes look the same way; a mesh that saw them errs less on average
        move = self.moves_px(pose.points[None])[0].mean(0)
        if float(move.norm()) < LEAST_MOVE_PX:
            return
        at_home = move @ torch.linalg.inv(pose.head[:2])
        for eye in self.shown:
            self._turn(eye, region, pose, at_home)

    def _turn(self, eye: Eye, region: Tensor, pose: FramePose, move: Tensor) -> None:
        """Turn one eye by an iris's move (2,), pixels of the portrait."""
        box = pixel_box(pose.points[[*eye.chains[0], *eye.chains[1]]], 2.0, self._box)
        if box is None or pose.came_from is None:
            return
        place = within(box, self._box)
        scale, offset = eye.to_patch
        at = torch.addcmul(offset, pose.came_from(place), scale)  # (2, h, w)
        way = scale * move[:, None, None]
        gone = min(1.0, float(move.norm()) / (GONE * eye.radius_px))
        torch.add(eye.planes[:, 3:6], eye.planes[:, 7:], alpha=gone, out=eye.mixed[:, 3:6])
        white, rest, inside = _sampled(eye.mixed, at).split((3, 3, 1))
        iris, cover = _sampled(eye.iris_planes, at - way).split((3, 1))
        colours = torch.lerp(white, iris, cover)
        if eye.glints is not None:
            colours += _sampled(eye.glints, at - GLINT_FOLLOWS * way)
        region[(slice(None), *place)].addcmul_(colours.sub_(rest), inside).clamp_(0, 255)


def _sampled(planes: Tensor, at: Tensor) -> Tensor:
    """(C, rows, columns) of (1, C, h, w) planes at positions (2, rows, columns), −1..1."""
    return F.grid_sample(
        planes, at.permute(1, 2, 0)[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0]


def _with_one(points: Tensor) -> Tensor:
    return torch.cat([points, torch.ones(len(points), 1)], 1)


def _eyes_shown(region: Tensor, box: Box, points_px: Tensor, fine: float) -> list[Eye]:
    """The eyes that can be turned; none if one of them is open and shows no iris to move."""
    apertures = [Aperture.of(points_px[:, :2], chains) for chains in CHAINS]
    widest = max(aperture.width for aperture in apertures)
    facing = [aperture.width > HIDDEN * widest for aperture in apertures]
    eyes = []
    for chains, iris, aperture, faces in zip(CHAINS, IRISES, apertures, facing, strict=True):
        if not faces:
            continue
        eye = None if aperture.gap < OPEN * aperture.width else _layers(region, box, points_px, (chains, iris), fine)
        if eye is None:
            return []
        eyes.append(eye)
    return eyes


def _layers(region: Tensor, box: Box, points_px: Tensor, which: tuple, fine: float) -> Eye | None:
    """One eye's layers; None where white and iris cannot be told from each other."""
    chains, iris = which
    edges = points_px[[*chains[0], *chains[1]], :2]
    scaled = fine * (points_px[:, :2] - torch.tensor(box[:2], dtype=torch.float32))  # pixels of the region
    aperture = Aperture.of(scaled, chains)
    limits = (0, 0, region.shape[-1], region.shape[-2])
    patch = pixel_box(fine * (edges - torch.tensor(box[:2], dtype=torch.float32)), 0.12 * aperture.width, limits)
    if patch is None:
        return None
    colours = region[0, :, patch[1] : patch[3], patch[0] : patch[2]]
    pixels = pixel_centres(patch)
    u, v = aperture.axes_of(pixels)
    top, bottom = aperture.edge_heights(u)
    soft = max(1.2, 0.04 * aperture.width)
    within = (u.abs() < 0.5 * aperture.width).float()
    inside = soft_step(v - top - 0.5 * soft, soft) * soft_step(bottom - v - 0.5 * soft, soft) * within
    radius = float((scaled[list(iris[1:])] - scaled[iris[0]]).norm(dim=1).mean().clamp(min=1.0))
    centre, radius = _fitted(colours.mean(0), pixels, inside > 0.9, aperture.along, scaled[iris[0]], radius)
    rings, sideways = _rings(pixels, centre, radius, aperture.along)
    cover = _iris_cover(colours.mean(0), rings, (inside > 0.9) & sideways)
    if cover is None:
        return None
    white_known = inside * (cover < 0.04) * (rings > 1)
    if float(white_known.sum()) < LEAST_WHITE * float(inside.sum()):
        return None
    white = filled(colours, white_known)
    iris_colours, glints = _iris_colours(colours, rings, inside * (cover > 0.5))
    painted = torch.lerp(white, iris_colours, cover) + glints
    around = _at_rings(_near_rest(), rings)
    planes = torch.cat([white, painted, inside[None], (colours - painted) * around])[None]
    moving = torch.cat([iris_colours, cover[None]])[None]
    left, top, right, bottom = patch
    size = torch.tensor([right - left, bottom - top], dtype=torch.float32)[:, None, None]
    to_patch = 2 * fine / size, -1 - 2 * torch.tensor([left, top])[:, None, None] / size
    glints = glints[None] if bool(glints.any()) else None
    return Eye(patch, planes, radius / fine, moving, glints, chains, iris[0], to_patch, planes[:, :7].clone())


def _rings(pixels: Tensor, centre: Tensor, radius: float, along: Tensor) -> tuple[Tensor, Tensor]:
    """(h, w) distances from an iris's centre, in radii, and (h, w) bool where they lead along the eye's axis."""
    away = pixels - centre
    distance = away.norm(dim=-1)
    return distance / radius, (away @ along).abs() > SIDEWAYS * distance


def _fitted(
    levels: Tensor, pixels: Tensor, inside: Tensor, along: Tensor, centre: Tensor, radius: float
) -> tuple[Tensor, float]:
    """The iris's circle where the picture's brightness changes most across it, near that of the landmarks.

    Args:
        levels: (h, w) brightness, 0..255.
        pixels: (h, w, 2) positions.
        inside: (h, w) bool between the lids.
        along: (2,) unit vector of the eye's axis.
        centre: (2,) of the landmarks.
        radius: of the landmarks, pixels.

    Source: after Daugman, "High confidence visual recognition of persons by a test of statistical independence", 1993
    (the greatest change across a circle).
    """
    across = torch.stack([-along[1], along[0]])
    near = inside & ((pixels - centre).norm(dim=-1) < 2 * radius)
    step = max(1, int(near.sum()) // FITTED)
    places, level = pixels[near][::step], levels[near][::step]
    aside, down, size = torch.meshgrid(*(torch.tensor(values) for values in (ASIDE, DOWN, SIZES)), indexing="ij")
    aside, down, size = aside.flatten(), down.flatten(), size.flatten()
    middles = centre + radius * (aside[:, None] * along + down[:, None] * across)
    rings, sideways = _rings(places, middles[:, None], radius * size[:, None], along)  # (circles, places)
    within, beyond = ((sideways & (rings > low) & (rings < high)).float() for low, high in ((0.7, 0.95), (1.05, 1.3)))
    counts = within.sum(1).minimum(beyond.sum(1))
    steps = (beyond @ level) / beyond.sum(1).clamp(min=1) - (within @ level) / within.sum(1).clamp(min=1)
    steps = torch.where(counts >= 3, steps * (1 - UNLIKELY * (aside.abs() + down.abs() + (size - 1).abs())), 0.0)
    best = int(steps.argmax())
    return (middles[best], radius * float(size[best])) if float(steps[best]) > 0 else (centre, radius)


def _near_rest() -> Tensor:
    """(1, RINGS) 1 on the iris, falling to 0 beside it."""
    steps = torch.linspace(0, OUTER, RINGS)
    return soft_step(1.3 - steps, 0.4)[None]


def _iris_cover(levels: Tensor, rings: Tensor, beside: Tensor) -> Tensor | None:
    """(h, w) 0..1 how much of each pixel is iris, by its distance from the centre.

    The soft edge is measured: between the iris's own level and the white's, as far out as the picture shows it.

    Args:
        levels: (h, w) brightness, 0..255.
        rings: (h, w) distance from the centre, radii.
        beside: (h, w) bool: where no lid is near.
    """
    dark = levels[beside & (rings < 0.8)]
    light = levels[beside & (rings > 1.25)]
    if len(dark) < 4 or len(light) < 4:
        return None
    iris, white = float(dark.median()), float(light.quantile(0.7))
    if white - iris < LEAST_CONTRAST:
        return None
    profile = _profile(levels[None], rings, beside.float())[0]
    share = ((white - profile) / (white - iris)).clamp(0, 1)
    steps = torch.linspace(0, OUTER, RINGS)
    share = torch.where(steps < 0.75, 1.0, torch.where(steps > 1.35, 0.0, share))
    share = share.cummin(0).values  # the edge is crossed once
    return _at_rings(share[None], rings)[0]


def _profile(planes: Tensor, rings: Tensor, weights: Tensor) -> Tensor:
    """(C, RINGS) weighted means of planes (C, h, w) by distance from the centre; gaps are filled from beside."""
    index = (rings / OUTER * (RINGS - 1)).round().long().clamp(max=RINGS - 1).flatten()
    flat = weights.flatten() * (rings.flatten() <= OUTER)
    sums = torch.zeros(len(planes) + 1, RINGS)
    sums.index_add_(1, index, torch.cat([planes.flatten(1) * flat, flat[None]]))
    kernel = torch.tensor([0.25, 0.5, 0.25]).expand(len(sums), 1, 3)
    soft = F.conv1d(F.pad(sums[None], (1, 1), mode="replicate"), kernel, groups=len(sums))[0]
    known = soft[-1] > 1e-3
    if not bool(known.any()):
        return torch.zeros(len(planes), RINGS)
    places = torch.nonzero(known).flatten()
    nearest = places[(torch.arange(RINGS)[:, None] - places).abs().argmin(1)]
    return (soft[:-1] / soft[-1].clamp(min=1e-3))[:, nearest]


def _at_rings(profile: Tensor, rings: Tensor) -> Tensor:
    """(C, h, w) of a profile (C, RINGS) at distances from the centre, linear in between."""
    at = (rings / OUTER * (RINGS - 1)).clamp(max=RINGS - 1)
    lower = at.floor().long().clamp(max=RINGS - 2)
    return torch.lerp(profile[:, lower], profile[:, lower + 1], at - lower)


def _iris_colours(colours: Tensor, rings: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The whole iris (3, h, w), also where lids cover it, and the reflections on it (3, h, w), both 0..255.

    Args:
        colours: (3, h, w) the portrait's.
        rings: (h, w) distance from the centre, radii.
        known: (h, w) 0..1 where the iris is seen.
    """
    level = colours.mean(0)
    usual = _at_rings(_profile(level[None], rings, known), rings)[0]
    glint = ((level - usual > GLINT) & (rings < INNER)).float()
    glint = F.max_pool2d(glint[None], 3, 1, 1)[0]
    clear = known * (1 - glint)
    even = _at_rings(_profile(colours, rings, clear), rings)
    share = clear.clamp(0, 1)
    iris = torch.lerp(even, colours, share)
    visible_glint = glint * (known > 0)
    return iris, (colours - even).clamp(min=0) * visible_glint
