"""MediaPipe's face mesh with attention as a torch network: a 192×192 crop of a face to 478 points and a score.

A coarse mesh of 468 points is read off the whole crop; the regions of the lips and of both eyes are then cut out of an
early feature map, turned upright, and read again for finer points there and for the irises.
Written from the layer list of the published model; weights come from ``weights/attention_mesh.safetensors``.

Shapes: B crops. "Right" and "left" are the person's own. All points are pixels of the crop.
Source: Grishchenko et al., "Attention Mesh: High-fidelity Face Mesh Prediction in Real-time", 2020, figure 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..detection.blazeface import BlazeBlock
from ..topology import LEFT_EYE_CORNERS, LEFT_IRIS, MOUTH_CORNERS, NUM_MESH_POINTS, RIGHT_EYE_CORNERS, RIGHT_IRIS

CROP_PX = 192
REGION_SIDE = 16  # cells across a region
REGION_MARGIN = 1.5  # a region's side over its points' bounding box
FEATURE_STRIDE = 4  # crop pixels per cell of the feature map that regions are cut from
NUM_EYE_CONTOUR = 16  # the first points of an eye's list run along its lids; irises take their mean depth


def _blocks(*widths: int, strides: tuple[int, ...]) -> list[BlazeBlock]:
    return [BlazeBlock(a, b, stride, prelu=True) for a, b, stride in zip(widths[:-1], widths[1:], strides, strict=True)]


class _Narrow(nn.Sequential):
    """128 channels down to 32, and one more block."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(128, 32, 1), nn.PReLU(32), *_blocks(32, 32, strides=(1,)))


class _RegionPoints(nn.Module):
    """Points of a region from its shared features (B, 128, 4, 4)."""

    def __init__(self, num_points: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*_blocks(128, 128, 128, 128, 128, 128, strides=(1, 1, 2, 1, 1)))
        self.narrow = _Narrow()
        self.points = nn.Conv2d(32, 2 * num_points, 2)

    def forward(self, features: Tensor) -> Tensor:
        return self.points(self.narrow(self.blocks(features))).reshape(len(features), -1, 2)


class _Region(nn.Module):
    """Refinement head: crops a region of the feature map and predicts its points, for an eye also its iris."""

    def __init__(self, num_points: int, corners: tuple[int, int], iris: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.corners, self.iris_points = corners, list(iris)
        self.register_buffer("index", torch.zeros(num_points, dtype=torch.int64))  # which of the 468 it refines
        self.shared = nn.Sequential(*_blocks(32, 32, 32, 64, 64, 64, 128, strides=(1, 1, 2, 1, 1, 2)))
        self.fine = _RegionPoints(num_points)
        if iris:
            self.iris = _RegionPoints(len(iris))

    def forward(self, features: Tensor, mesh: Tensor, refined: Tensor) -> None:
        """Overwrite this region's part of `refined` (B, 478, 3), reading the coarse `mesh` (B, 468, 3)."""
        axes, centre = upright_region(mesh[:, self.index, :2] / FEATURE_STRIDE, self._turn(mesh))
        shared = self.shared(cut_region(features, axes, centre))
        # Points are predicted in crop pixels along the region's own axes, from the region's first cell.
        corner = FEATURE_STRIDE * (centre - axes.sum(-1) * REGION_SIDE / 2)
        refined[:, self.index, :2] = self.fine(shared) @ axes.mT + corner[:, None]
        if self.iris_points:
            refined[:, self.iris_points, :2] = self.iris(shared) @ axes.mT + corner[:, None]
            depth = mesh[:, self.index[:NUM_EYE_CONTOUR], 2].mean(dim=1, keepdim=True)
            refined[:, self.iris_points, 2] = depth

    def _turn(self, mesh: Tensor) -> Tensor:
        """(B,) angle of the line through the region's corners, radians, + clockwise."""
        across = mesh[:, self.corners[1]] - mesh[:, self.corners[0]]
        return torch.atan2(across[:, 1], across[:, 0])


def upright_region(points: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Bounding box of points (B, N, 2), rotated by `angle` (B,) and widened by the margin.

    Returns:
        axes (B, 2, 2), whose columns are the steps of one cell to the right and down; centre (B, 2).
    """
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)  # (B, 2, 2): region to picture
    upright = points @ turn  # a row times the matrix applies its inverse
    low, high = upright.amin(dim=1), upright.amax(dim=1)
    centre = (turn @ ((low + high) / 2)[..., None])[..., 0]
    return turn * (REGION_MARGIN * (high - low) / REGION_SIDE)[:, None], centre


def cut_region(features: Tensor, axes: Tensor, centre: Tensor) -> Tensor:
    """Bilinear crop (B, C, 16, 16) of features (B, C, h, w); 0 wherever a cell's centre lies off the map."""
    cells = torch.arange(REGION_SIDE) + 0.5 - REGION_SIDE / 2
    y, x = torch.meshgrid(cells, cells, indexing="ij")
    centre = centre - 0.5  # pixel centres are whole numbers
    positions = torch.stack([x, y], dim=-1) @ axes[:, None].mT + centre[:, None, None]
    last = torch.tensor([features.shape[3] - 1, features.shape[2] - 1])
    inside = ((positions >= 0) & (positions <= last)).all(dim=-1)
    sampled = F.grid_sample(features, positions / last * 2 - 1, mode="bilinear", align_corners=True)
    return sampled * inside[:, None]


class AttentionMesh(nn.Module):
    """The whole network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.PReLU(16))
        self.early = nn.Sequential(*_blocks(16, 16, 16, 32, strides=(1, 1, 2)))
        widths = [32, 32, 32, 64, 64, 64] + [128] * 9
        self.late = nn.Sequential(*_blocks(*widths, strides=(1, 1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 2, 1, 1)))
        self.narrow = _Narrow()
        self.presence = nn.Conv2d(32, 1, 3)
        self.mesh = nn.Conv2d(32, 3 * NUM_MESH_POINTS, 3)
        self.lips = _Region(80, MOUTH_CORNERS)
        self.right_eye = _Region(71, RIGHT_EYE_CORNERS, RIGHT_IRIS)
        self.left_eye = _Region(71, LEFT_EYE_CORNERS, LEFT_IRIS)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B, 478, 3) in pixels of the crop, z on x's scale, and scores (B,) in 0..1 that a face is there.

        Args:
            crops: (B, 3, 192, 192) in 0..1, the eyes level.
        """
        features = self.early(self.stem(F.pad(crops, (0, 1, 0, 1))))
        summary = self.narrow(self.late(features))
        mesh = self.mesh(summary).reshape(len(crops), NUM_MESH_POINTS, 3)
        points = torch.cat([mesh, mesh.new_zeros(len(crops), len(RIGHT_IRIS + LEFT_IRIS), 3)], dim=1)
        for region in (self.lips, self.right_eye, self.left_eye):
            region(features, mesh, points)
        return points, self.presence(summary).reshape(-1).sigmoid()
