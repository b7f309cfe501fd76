"""Dense motion and warping: where every voxel of the driving face lies in the source's feature volume.

Shapes: B pictures, K keypoints, C channels, D × H × W voxels; M = K + 1 motions, the first of which stands still.
Source: arXiv 2011.15126, section 3 and appendix A; A. Siarohin et al. 2019, "First Order Motion Model" (without
Jacobians here). Grids run from -1 at the first voxel's centre to 1 at the last one's, but are sampled with
`align_corners=False`; the public weights were trained so.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, relu

from .blocks import DownBlock3d, SameBlock2d, UpBlock3d, axis_places, coordinate_grid
from .sizes import DenseMotionSizes, ImplicitSizes

VARIANCE = 0.01  # of the Gaussian around a keypoint
SLOPE = 0.01  # of the leaky ReLU behind the warped volume


class HourglassEncoder(nn.Module):
    """Halvings of height and width."""

    def __init__(self, in_channels: int, sizes: DenseMotionSizes) -> None:
        super().__init__()
        widths = [in_channels, *(sizes.width_at(i + 1) for i in range(sizes.num_blocks))]
        self.down_blocks = nn.ModuleList(DownBlock3d(a, b) for a, b in zip(widths, widths[1:], strict=False))

    def forward(self, x: Tensor) -> list[Tensor]:
        """What comes in, and the result of every halving."""
        levels = [x]
        for block in self.down_blocks:
            levels.append(block(levels[-1]))
        return levels


class HourglassDecoder(nn.Module):
    """Doublings, each joined by the encoder's result of that size."""

    def __init__(self, in_channels: int, sizes: DenseMotionSizes) -> None:
        super().__init__()
        last = sizes.num_blocks - 1
        self.up_blocks = nn.ModuleList(
            UpBlock3d(sizes.width_at(i + 1) * (1 if i == last else 2), sizes.width_at(i)) for i in range(last, -1, -1)
        )
        self.out_channels = sizes.width + in_channels
        self.conv = nn.Conv3d(self.out_channels, self.out_channels, 3, padding=1)
        self.norm = nn.BatchNorm3d(self.out_channels)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """(B, width + in_channels, D, H, W)."""
        *skips, x = levels
        for block, skip in zip(self.up_blocks, reversed(skips), strict=True):
            x = torch.cat([block(x), skip], 1)
        return relu(self.norm(self.conv(x)))


class Hourglass(nn.Module):
    """Encoder and decoder with joints between levels of the same size."""

    def __init__(self, in_channels: int, sizes: DenseMotionSizes) -> None:
        super().__init__()
        self.encoder = HourglassEncoder(in_channels, sizes)
        self.decoder = HourglassDecoder(in_channels, sizes)
        self.out_channels = self.decoder.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) to (B, width + C, D, H, W)."""
        return self.decoder(self.encoder(x))


def motion_shifts(source: Tensor, driving: Tensor) -> Tensor:
    """(B, M, 3) float32: how far off each motion looks in the source; the first, the background's, looks straight.

    Args:
        source: (B, K, 3) keypoints.
        driving: (B, K, 3).
    """
    return torch.cat([torch.zeros_like(driving[:, :1]), source - driving], 1).float()


def keypoint_gaussians(keypoints: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(B, K, D, H, W) float32: 1 at a keypoint, falling around it; the product of one curve an axis."""
    depth, height, width = shape
    curves = []
    for axis, count in enumerate((width, height, depth)):
        offsets = axis_places(count, keypoints.device) - keypoints[..., axis, None].float()
        curves.append(torch.exp(offsets.square() / (-2 * VARIANCE)))
    x, y, z = curves
    return z[..., :, None, None] * (y[..., :, None] * x[..., None, :])[..., None, :, :]


class DenseMotion(nn.Module):
    """Mixes K + 1 motions into one, and says which parts of the source are hidden."""

    def __init__(self, sizes: ImplicitSizes) -> None:
        super().__init__()
        motion, num_motions = sizes.motion, sizes.num_keypoints + 1
        self.compress = nn.Conv3d(sizes.volume_channels, motion.compress, 1)
        self.norm = nn.BatchNorm3d(motion.compress)
        self.hourglass = Hourglass(num_motions * (motion.compress + 1), motion)
        ends = {"kernel_size": motion.kernel, "padding": motion.kernel // 2}
        self.mask = nn.Conv3d(self.hourglass.out_channels, num_motions, **ends)
        self.occlusion = nn.Conv2d(self.hourglass.out_channels * sizes.volume_depth, 1, **ends)

    def forward(self, volume: Tensor, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor]:
        """Deformation (B, D, H, W, 3) float32 and visibility (B, 1, H, W) in 0..1.

        Args:
            volume: (1 or B, C, D, H, W) features of the source.
            source: (B, K, 3) keypoints of the source, float32.
            driving: (B, K, 3).
        """
        shape = volume.shape[2:]
        squeezed = relu(self.norm(self.compress(volume))).float()
        grid, shifts = coordinate_grid(*shape, volume.device), motion_shifts(source, driving)
        warped = torch.stack([_sampled(squeezed, grid + s[:, None, None, None]) for s in shifts.unbind(1)], 1)
        heat = keypoint_gaussians(driving, shape) - keypoint_gaussians(source, shape)
        heat = torch.cat([torch.zeros_like(heat[:, :1]), heat], 1)[:, :, None]
        features = self.hourglass(torch.cat([heat, warped], 2).flatten(1, 2).to(volume.dtype))
        mask = self.mask(features).float().softmax(1)  # sums to 1, so the common grid stays outside
        deformation = grid + torch.einsum("bmdhw,bmc->bdhwc", mask, shifts)
        return deformation, torch.sigmoid(self.occlusion(features.flatten(1, 2)))


class Warping(nn.Module):
    """The source's volume, deformed to the driving keypoints, as features of a picture."""

    def __init__(self, sizes: ImplicitSizes) -> None:
        super().__init__()
        self.dense_motion_network = DenseMotion(sizes)
        self.third = SameBlock2d(sizes.volume_width, sizes.feature_width, slope=SLOPE)
        self.fourth = nn.Conv2d(sizes.feature_width, sizes.feature_width, 1)

    def forward(self, volume: Tensor, source: Tensor, driving: Tensor) -> Tensor:
        """(B, feature_width, H, W) features; see `DenseMotion.forward`."""
        return self.warped(volume, *self.dense_motion_network(volume, source, driving))

    def warped(self, volume: Tensor, deformation: Tensor, visible: Tensor) -> Tensor:
        """(B, feature_width, H, W) features of a volume deformed as `DenseMotion.forward` says."""
        warped = _sampled(volume.float(), deformation).to(volume.dtype)
        return self.fourth(self.third(warped.flatten(1, 2))) * visible


def _sampled(volume: Tensor, grid: Tensor) -> Tensor:
    return grid_sample(volume.expand(len(grid), *volume.shape[1:]), grid, align_corners=False)
