"""Motion field from landmark displacements: thin-plate splines in two layers, split at the lips and the upper lids.

Layer 0 follows the upper lip and the upper lids, layer 1 the lower lip, the lower lids and the eyes behind the lids.
Each layer is smooth by itself, so a coarse grid carries it; what lies between the layers is uncovered or hidden.
Each layer is a head motion (affine, fading outside the face) plus the rest, interpolated by thin-plate splines whose
weights are computed once; per frame two small matrix products and a fixed-point inversion remain.

Shapes: B frames, G grid nodes (rows · columns), C control points; 2 layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...face import topology as topo
from ...face.aperture import LEFT_EYE, RIGHT_EYE, Aperture
from .turned_away import turned_away

GRID = 64  # nodes a side
INVERSION_STEPS = 8
STRETCHED_STEPS, STRETCHED_PACE = 12, 0.6  # for lips that may grow to more than twice their thickness
BLINK_PACE = 0.6  # for the skin above a lid, which a blink stretches to more than twice its height
LEAST_BLINK = 0.12  # of the eye's opening: lids that move less do not blink
UPPER_LIDS = (*topo.RIGHT_UPPER_LID[2:-2], *topo.LEFT_UPPER_LID[2:-2])
CONTROL_SPACING = 0.13  # inter-ocular distances between control points that no contour needs
BROWS = frozenset({*topo.RIGHT_BROW, *topo.LEFT_BROW})
CORNERS = frozenset({61, 291, 76, 306, 62, 292, 78, 308})


class MotionField:
    """Backward maps (source positions of pixels) inside a box of the picture.

    Args:
        source_px: (478, 2) landmarks in the portrait, pixels.
        box: x0, y0, x1, y1 of the pixels that may move, right and lower end exclusive.
        reach_px: distance from the face outline at which all motion has faded.
        is_open: whether the mouth is open at rest, so that its lips stretch where it closes.
        covered: whether something hides the mouth, and the lips do not part.
        kept: (GRID, GRID, 2, 2) what displacements are multiplied by at each of `grid_nodes`; None changes nothing.
        carried: (GRID · GRID,) share of the head's motion at each of `grid_nodes`, beside that near the face.
    """

    def __init__(
        self,
        source_px: Tensor,
        box: tuple[int, int, int, int],
        reach_px: float,
        is_open: bool = False,
        covered: bool = False,
        kept: Tensor | None = None,
        carried: Tensor | None = None,
    ) -> None:
        self.source_px, self.is_open = source_px, is_open
        x0, y0, x1, y1 = box
        self.origin = torch.tensor([x0 + 0.5, y0 + 0.5])
        self.extent = torch.tensor([x1 - x0 - 1.0, y1 - y0 - 1.0])
        self.nodes = grid_nodes(box)
        line = torch.linspace(-1, 1, GRID)
        self.unit_nodes = torch.stack(torch.meshgrid(line, line, indexing="xy"))  # (2, GRID, GRID)
        flat = self.nodes.reshape(-1, 2)
        self.positions = _with_one(flat).T.contiguous()  # (3, G)
        eyes = [source_px[list(corners)].mean(0) for corners in (topo.RIGHT_EYE_CORNERS, topo.LEFT_EYE_CORNERS)]
        unit = float((eyes[1] - eyes[0]).norm())
        self.lid_height = float(min(Aperture.of(source_px, chains).gap for chains in (RIGHT_EYE, LEFT_EYE)))
        outline = source_px[list(topo.FACE_OVAL)]
        self.fade = _fade(flat, outline, reach_px)  # (G,)
        self.carried = self.fade if carried is None else 1 - (1 - self.fade) * (1 - carried)
        self.kept = None if kept is None else kept.flatten(0, 1).permute(1, 2, 0).contiguous()  # (2, 2, G)
        self.anchors, self.unit = _ring_around(outline, reach_px), unit
        self.controls = [_layer_controls(_upright(source_px), unit, layer, covered) for layer in (0, 1)]
        self.weights = [self._weights_of(controls) for controls in self.controls]
        self.lids = sorted({*UPPER_LIDS} | _lid_skin(_upright(source_px)))
        rigid = source_px[list(topo.RIGID)]
        self.rigid_solver = torch.linalg.pinv(torch.cat([rigid, torch.ones(len(rigid), 1)], 1).double()).float()

    def _weights_of(self, controls: list[int]) -> Tensor:
        """(G, C) spline weights of control landmarks."""
        flat = self.nodes.reshape(-1, 2)
        centres = torch.cat([self.source_px[controls], self.anchors])
        return _spline_weights(centres, flat, self.unit)[:, : len(controls)] * self.fade[:, None]

    @cached_property
    def _lid_weights(self) -> Tensor:
        """(G, L) of `lids` in the upper layer, for blinks: the brows are held, and nothing beyond is dragged along."""
        controls = sorted({*self.controls[0], *self.lids, *BROWS})
        return self._weights_of(controls)[:, [controls.index(point) for point in self.lids]].contiguous()

    def head_motion(self, targets_px: Tensor) -> Tensor:
        """(B, 3, 2) affine that takes portrait pixels (x, y, 1) to where the head of (B, 478, 2) carries them."""
        return self.rigid_solver @ targets_px[:, list(topo.RIGID)]

    def with_resting_lids(self, targets_px: Tensor, head: Tensor) -> Tensor:
        """Targets (B, 478, 2) whose lids, and the skin above them, only follow the head."""
        still = list({*topo.EYELIDS} | _lid_skin(_upright(self.source_px)))
        targets = targets_px.clone()
        targets[:, still] = _with_one(self.source_px[still]) @ head
        return targets

    def backward(self, targets_px: Tensor, head: Tensor, others: Sequence[Tensor] = ()) -> Tensor:
        """Backward maps at the grid nodes.

        Args:
            targets_px: (B, 478, 2) landmarks of some frames, pixels.
            head: (B, 3, 2), what `head_motion` returned.
            others: each (B, G, 2), displacements of all nodes that landmarks do not tell, pixels.

        Returns:
            (B, 2, 2, GRID, GRID): frame, layer, (x, y) in portrait pixels.
        """
        # planes of x and y: torch is slow where the last axis has but two
        residual = (targets_px - _with_one(self.source_px) @ head).transpose(1, 2).contiguous()  # (B, 2, 478)
        carried = (head.transpose(1, 2) @ self.positions - self.positions[:2]) * self.carried  # (B, 2, G)
        for other in others:
            carried += other.transpose(1, 2)
        lids = residual[:, :, self.lids]
        blinks = lids.norm(dim=1).amax(1) > LEAST_BLINK * self.lid_height
        layers = []
        for layer, (weights, controls) in enumerate(zip(self.weights, self.controls, strict=True)):
            if layer == 0 and bool(blinks.any()):
                still = residual.clone()
                still[:, :, self.lids] *= ~blinks[:, None, None]
                moved = _product(still[:, :, controls], weights)
                moved += _product(lids * blinks[:, None, None], self._lid_weights)
            else:
                moved = _product(residual[:, :, controls], weights)
            moved += carried
            layers.append(moved if self.kept is None else (moved[:, :, None] * self.kept).sum(1))
        forward = rearrange(torch.stack(layers, 1), "b layer xy (h w) -> (b layer) xy h w", h=GRID)
        paces = torch.where(blinks, BLINK_PACE, 1.0).clamp(max=STRETCHED_PACE if self.is_open else 1.0)
        return self._invert(forward, paces.repeat_interleave(2)).reshape(len(head), 2, 2, GRID, GRID)

    def _invert(self, forward: Tensor, paces: Tensor) -> Tensor:
        """Solve b = y − d(b) by fixed-point steps.

        Whole steps converge where nothing grows to twice its size, steps of a pace below 1 up to 2 / pace.

        Args:
            forward: d, (N, 2, GRID, GRID) pixels.
            paces: (N,) of the steps.
        """
        is_whole, paces = bool((paces == 1).all()), paces[:, None, None, None]
        half = (self.extent / 2)[:, None, None]
        forward = forward / half  # in units of a grid from −1 to 1, whose planes need no reordering
        came_from = torch.lerp(self.unit_nodes, self.unit_nodes - forward, paces)  # a node's own displacement is known
        for _ in range((STRETCHED_STEPS if self.is_open else INVERSION_STEPS) - 1):
            at = came_from.permute(0, 2, 3, 1)
            moved = self.unit_nodes - F.grid_sample(forward, at, align_corners=True, padding_mode="border")
            came_from = moved if is_whole else torch.lerp(came_from, moved, paces)
        return (came_from + 1) * half + self.origin[:, None, None]


def grid_nodes(box: tuple[int, int, int, int]) -> Tensor:
    """(GRID, GRID, 2) positions of a field's nodes, pixels."""
    x0, y0, x1, y1 = box
    # the outer nodes lie on the outer pixels' centres, so that plain interpolation reaches every pixel
    xs, ys = torch.linspace(x0 + 0.5, x1 - 0.5, GRID), torch.linspace(y0 + 0.5, y1 - 0.5, GRID)
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)


def _product(residual: Tensor, weights: Tensor) -> Tensor:
    """(B, 2, G) of (B, 2, C) displacements and (G, C) weights; all frames in one product: the weights are read once.

    In this order a frame's sums do not depend on how many frames there are.
    """
    return (weights @ residual.flatten(0, 1).T).T.contiguous().view(len(residual), 2, -1)


def _with_one(points: Tensor) -> Tensor:
    return torch.cat([points, torch.ones(len(points), 1)], 1)


def _fade(nodes: Tensor, outline: Tensor, reach_px: float) -> Tensor:
    """(G,) 1 inside the face outline, falling smoothly to 0 at `reach_px` outside."""
    following = outline.roll(-1, 0)
    edge = following - outline
    along = ((nodes[:, None] - outline) * edge).sum(-1) / (edge * edge).sum(-1).clamp(min=1e-6)
    nearest = outline + along.clamp(0, 1)[..., None] * edge
    distance = (nodes[:, None] - nearest).norm(dim=-1).amin(1)
    crosses = (outline[:, 1] > nodes[:, None, 1]) != (following[:, 1] > nodes[:, None, 1])
    slope = edge[:, 0] / torch.where(edge[:, 1].abs() < 1e-6, torch.full_like(edge[:, 1], 1e-6), edge[:, 1])
    right = nodes[:, None, 0] < outline[:, 0] + slope * (nodes[:, None, 1] - outline[:, 1])
    inside = (crosses & right).sum(1) % 2 == 1
    share = torch.where(inside, torch.ones_like(distance), 1 - distance / reach_px).clamp(0, 1)
    return share**3 * (10 - 15 * share + 6 * share**2)


def _ring_around(outline: Tensor, reach_px: float) -> Tensor:
    """(18, 2) fixed points on the border of the field's reach."""
    middle = outline.mean(0)
    outward = outline[::2] - middle
    return outline[::2] + outward / outward.norm(dim=1, keepdim=True) * reach_px


def _upright(points: Tensor) -> Tensor:
    """(478, 2) points turned by as many quarters as the face stands from upright."""
    along = points[topo.LEFT_EYE_CORNERS[1]] - points[topo.RIGHT_EYE_CORNERS[0]]
    x, y = along.tolist()
    if x >= abs(y):
        return points
    if -x >= abs(y):
        return -points
    return torch.stack([points[:, 1], -points[:, 0]] if y > 0 else [-points[:, 1], points[:, 0]], 1)


def _layer_controls(points: Tensor, unit: float, layer: int, covered: bool) -> list[int]:
    """Indices of a layer's control landmarks: its contours, then others at a minimum spacing.

    What covers the lips moves with the skin around them: neither layer follows them.
    """
    upper_lip = {i for ring in topo.UPPER_LIP_RINGS for i in ring} - CORNERS
    lower_lip = {i for ring in topo.LOWER_LIP_RINGS for i in ring} - CORNERS
    upper_lids = {*topo.RIGHT_UPPER_LID[1:-1], *topo.LEFT_UPPER_LID[1:-1]}
    lower_lids = {*topo.RIGHT_LOWER_LID[1:-1], *topo.LEFT_LOWER_LID[1:-1]}
    required = {*topo.FACE_OVAL, *topo.RIGID, *CORNERS}
    required |= (upper_lip | upper_lids) if layer == 0 else (lower_lip | lower_lids)
    hidden = (
        (lower_lip | lower_lids) if layer == 0 else (upper_lip | upper_lids | _lid_skin(points) | _philtrum(points))
    )
    if covered:
        hidden |= {*topo.LIPS} | _philtrum(points)
    hidden |= turned_away(points)
    controls = sorted(required - hidden)
    for point in range(topo.NUM_MESH_POINTS):
        if point in required or point in hidden:
            continue
        if float((points[controls] - points[point]).norm(dim=1).min()) > CONTROL_SPACING * unit:
            controls.append(point)
    return controls


def _lid_skin(points: Tensor) -> set[int]:
    """Landmarks of the skin between upper lids and brows, which a blink pulls down over the eye."""
    skin: set[int] = set()
    for lid, brow in ((topo.RIGHT_UPPER_LID, topo.RIGHT_BROW), (topo.LEFT_UPPER_LID, topo.LEFT_BROW)):
        edge, top = points[list(lid)], points[list(brow), 1].max()
        for point in range(topo.NUM_MESH_POINTS):
            x, y = points[point]
            if edge[:, 0].min() < x < edge[:, 0].max() and top < y:
                at = int((edge[:, 0] - x).abs().argmin())
                if y < edge[at, 1]:
                    skin.add(point)
    return skin


def _philtrum(points: Tensor) -> set[int]:
    """Landmarks of the skin between nose and upper lip."""
    right_x, left_x = points[61, 0], points[291, 0]
    between = (points[:, 0] > right_x) & (points[:, 0] < left_x)
    between &= (points[:, 1] > points[2, 1]) & (points[:, 1] < points[13, 1])
    return set(torch.nonzero(between).flatten().tolist()) - set(topo.FACE_OVAL)


def _spline_weights(centres: Tensor, nodes: Tensor, unit: float) -> Tensor:
    """(G, C) thin-plate spline weights: node values = weights @ centre values."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        r2 = torch.cdist(a, b).square()
        return r2 * (r2 + 1e-12).log()

    c, n = (centres / unit).double(), (nodes / unit).double()
    c, n = c - c.mean(0), n - c.mean(0)
    count = len(c)
    system = torch.zeros(count + 3, count + 3, dtype=torch.float64)
    system[:count, :count] = kernel(c, c) + 1e-4 * torch.eye(count, dtype=torch.float64)
    system[:count, count], system[:count, count + 1 :] = 1, c
    system[count, :count], system[count + 1 :, :count] = 1, c.T
    at_nodes = torch.cat([kernel(n, c), torch.ones(len(n), 1, dtype=torch.float64), n], 1)
    return torch.linalg.solve(system, at_nodes.T)[:count].T.float().contiguous()
