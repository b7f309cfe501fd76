"""Losses that compare generated pictures with true ones: perceptual or by pixels, and by the face mesh in them.

Shapes: B pictures, S side in pixels.
Source: Johnson et al. 2016 for the perceptual loss; face-vid2vid, appendix A, for its pyramid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate

from ...face.mesh.attention_mesh import CROP_PX
from ...face.topology import LIPS
from ...losses.networks.vgg19 import MIN_SIDE, load_vgg19
from ...losses.perceptual import PerceptualLoss

if TYPE_CHECKING:
    from .config import KeypointTraining

REGION_SHARE = 2  # of a picture's side, that a region's box is scaled to
REGION_SCALES = 2  # sizes at which regions are compared by colours


def pixel_loss(generated: Tensor, target: Tensor, num_scales: int) -> Tensor:
    """Mean absolute difference of pictures (B, 3, S, S), summed over sizes that halve; a scalar."""
    total = (generated - target).abs().mean()
    for _ in range(num_scales - 1):
        generated, target = avg_pool2d(generated, 2), avg_pool2d(target, 2)
        total = total + (generated - target).abs().mean()
    return total


def lower_middle(pictures: Tensor) -> Tensor:
    """The lower half of pictures (B, 3, S, S) without a quarter at either side, where a crop has the mouth."""
    half, quarter = pictures.shape[2] // 2, pictures.shape[3] // 4
    return pictures[:, :, half:, quarter:-quarter]


def regions_of(pictures: Tensor, boxes: Tensor, side_px: int) -> Tensor:
    """Square boxes of pictures, scaled to one size.

    Args:
        pictures: (B, 3, S, S).
        boxes: (B, N, 3) middle x and y and half a side, where the picture reaches from -1 to 1.
        side_px: P, of the results.

    Returns:
        (B · N, 3, P, P); black outside of the picture.
    """
    x, y, half = boxes.to(pictures).unbind(-1)
    none = torch.zeros_like(half)
    affine = torch.stack([torch.stack([half, none, x], -1), torch.stack([none, half, y], -1)], -2).flatten(0, 1)
    grid = affine_grid(affine, (len(affine), 3, side_px, side_px), align_corners=False)
    repeated = pictures.repeat_interleave(boxes.shape[1], 0)
    return grid_sample(repeated, grid, align_corners=False)


def mesh_points(mesh: nn.Module, pictures: Tensor) -> Tensor:
    """(B, 478, 2) landmarks, over the picture's side, of square crops (B, 3, S, S) of upright faces."""
    crops = interpolate(pictures, (CROP_PX, CROP_PX), mode="bilinear", align_corners=False)
    points, _ = mesh(crops)
    return points[..., :2] / CROP_PX


def landmark_loss(mesh: nn.Module, generated: Tensor, target: Tensor) -> Tensor:
    """Mean distance of landmarks over the picture's side, plus that of the lips alone; a scalar."""
    points = mesh_points(mesh, generated)
    with torch.no_grad():
        true = mesh_points(mesh, target)
    distances = (points - true).square().sum(-1).add(1e-8).sqrt()
    return distances.mean() + distances[:, list(LIPS)].mean()


class PictureLosses(nn.Module):
    """The losses that a configuration asks for, unweighted.

    Args:
        config: its weights, sizes and VGG-19's file.

    Raises:
        MissingDependency: a weight file is absent.
        InputError: it is no VGG-19.
    """

    def __init__(self, config: KeypointTraining) -> None:
        super().__init__()
        self.scales, self.weights = config.scales, config.weights
        self.region_px = config.resolution // REGION_SHARE
        self.perceptual = self.mesh = None
        if config.weights.perceptual:
            scales = sum(config.resolution >> scale >= MIN_SIDE for scale in range(config.scales))
            self.perceptual = PerceptualLoss(load_vgg19(config.vgg19), scales)
        if config.weights.landmarks:
            from ...face.mesh.attention_mesh import AttentionMesh
            from ...face.mesh.torch_backend import network

            self.mesh = network(AttentionMesh)

    def forward(self, generated: Tensor, target: Tensor, boxes: Tensor | None = None) -> dict[str, Tensor]:
        """Losses by name of pictures (B, 3, S, S) in 0..1, with the boxes (B, 3, 3) of lips and eyes if they count."""
        losses = {}
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual(generated, target).features
        if self.weights.pixels:
            losses["pixels"] = self._pixels(generated, target)
        if self.mesh is not None:
            losses["landmarks"] = landmark_loss(self.mesh, generated, target)
        for name, rows in (("lips", slice(0, 1)), ("eyes", slice(1, 3))):
            if getattr(self.weights, name):
                losses[name] = self._alike(
                    *(regions_of(p, boxes[:, rows], self.region_px) for p in (generated, target))
                )
        return losses

    def _alike(self, generated: Tensor, target: Tensor) -> Tensor:
        """How parts of pictures differ, by VGG-19's layers if it is there."""
        if self.perceptual is not None:
            return self.perceptual(generated, target).features
        return pixel_loss(generated, target, REGION_SCALES)

    def _pixels(self, generated: Tensor, target: Tensor) -> Tensor:
        share, picture_loss = self.weights.lower_face, pixel_loss(generated, target, self.scales)
        if not share:
            return picture_loss
        return (1 - share) * picture_loss + share * pixel_loss(
            lower_middle(generated), lower_middle(target), self.scales
        )
