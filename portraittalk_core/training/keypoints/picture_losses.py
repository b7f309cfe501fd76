"""Losses that compare generated pictures with true ones: perceptual or by pixels, and by the face mesh in them.

Shapes: B pictures, S side in pixels.
Source: Johnson et al. 2016 for the perceptual loss; face-vid2vid, appendix A, for its pyramid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from ...face.mesh.attention_mesh import CROP_PX
from ...face.topology import LIPS
from ...losses.networks.vgg19 import MIN_SIDE, load_vgg19
from ...losses.perceptual import PerceptualLoss

if TYPE_CHECKING:
    from .config import KeypointTraining


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


def mesh_points(mesh: nn.Module, pictures: Tensor) -> Tensor:
    """(B, 478, 2) landmarks, over the picture's side, of square crops (B, 3, S, S) of upright faces."""
    crops = interpolate(pictures, (CROP_PX, CROP_PX), mode="bilinear", align_corners=False)
    points, _ = mesh(crops)
    return points[..., :2] / CROP_PX


def landmark_loss(mesh: nn.Module, generated: Tensor, target: Tensor) -> Tensor:
    """Mean distance of landmarks over the picture's side, plus that of the lips alone; a scalar."""
    found = mesh_points(mesh, generated)
    with torch.no_grad():
        true = mesh_points(mesh, target)
    distances = (found - true).square().sum(-1).add(1e-8).sqrt()
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
        self.perceptual = self.mesh = None
        if config.weights.perceptual:
            scales = sum(config.resolution >> scale >= MIN_SIDE for scale in range(config.scales))
            self.perceptual = PerceptualLoss(load_vgg19(config.vgg19), scales)
        if config.weights.landmarks:
            from ...face.mesh.attention_mesh import AttentionMesh
            from ...face.mesh.torch_backend import network

            self.mesh = network(AttentionMesh)

    def forward(self, generated: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Losses by name of pictures (B, 3, S, S) in 0..1."""
        losses = {}
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual(generated, target).features
        if self.weights.pixels:
            losses["pixels"] = self._pixels(generated, target)
        if self.mesh is not None:
            losses["landmarks"] = landmark_loss(self.mesh, generated, target)
        return losses

    def _pixels(self, generated: Tensor, target: Tensor) -> Tensor:
        share, whole = self.weights.lower_face, pixel_loss(generated, target, self.scales)
        if not share:
            return whole
        return (1 - share) * whole + share * pixel_loss(lower_middle(generated), lower_middle(target), self.scales)
