"""Equivariance loss: keypoints of a warped picture are the warped keypoints of the picture.

Shapes: B pictures of H × W pixels, K keypoints, N points, C control points. Points lie in −1..1, the middles of the
outermost pixels at −1 and 1, as keypoint detectors count.
Sources: Siarohin et al. 2019, "First order motion model", section 3.1 (random thin-plate splines); Wang et al. 2021,
"One-shot free-view neural talking-head synthesis" (face-vid2vid), appendix A: on keypoints without their depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from ..checks import check_range, check_shape

SIGMA_AFFINE, SIGMA_TPS, CONTROL_SIDE = 0.05, 0.005, 5


@dataclass(frozen=True)
class RandomWarp:
    """Smooth random maps of the plane, one for each picture: an affine map plus a thin-plate spline."""

    affine: Tensor  # (B, 2, 3)
    control: Tensor  # (C, 2) control points
    weights: Tensor  # (B, C, 2) of each control point's radial function, for x and y

    @classmethod
    def draw(
        cls,
        num_pictures: int,
        generator: torch.Generator,
        sigma_affine: float = SIGMA_AFFINE,
        sigma_tps: float = SIGMA_TPS,
    ) -> RandomWarp:
        """Random warps, on the CPU.

        Args:
            num_pictures: B.
            generator: source of chance, on the CPU.
            sigma_affine: deviation of the affine map's six numbers from the identity.
            sigma_tps: deviation of the spline's weights around 0.
        """
        check_range(sigma_affine, 0, 1, "sigma_affine")
        check_range(sigma_tps, 0, 1, "sigma_tps")
        noise = torch.randn(num_pictures, 2, 3, generator=generator)
        line = torch.linspace(-1, 1, CONTROL_SIDE)
        control = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2)
        weights = torch.randn(num_pictures, len(control), 2, generator=generator)
        return cls(torch.eye(2, 3) + sigma_affine * noise, control, sigma_tps * weights)

    def to(self, device: torch.device | str) -> RandomWarp:
        """The same warps on a device."""
        return RandomWarp(self.affine.to(device), self.control.to(device), self.weights.to(device))

    def points(self, points: Tensor) -> Tensor:
        """Warped points (B, N, 2) of points (B, N, 2): A p + b + Σ_c w_c r² log r, with r the distance to c."""
        straight = points @ self.affine[:, :, :2].transpose(1, 2) + self.affine[:, None, :, 2]
        squared = (points[:, :, None] - self.control).square().sum(-1)  # (B, N, C)
        radial = 0.5 * squared * (squared + 1e-12).log()  # r² log r = ½ r² log r²
        return straight + radial @ self.weights

    def pictures(self, pictures: Tensor) -> Tensor:
        """Warped pictures (B, 3, H, W): at a place p stands what the picture has at the warped p."""
        batch, _, height, width = pictures.shape
        rows, columns = (torch.linspace(-1, 1, n, device=pictures.device) for n in (height, width))
        places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).reshape(1, -1, 2)
        grid = self.points(places.expand(batch, -1, -1)).view(batch, height, width, 2).to(pictures.dtype)
        return grid_sample(pictures, grid, padding_mode="reflection", align_corners=True)


def equivariance_loss(keypoints: Tensor, of_warped: Tensor, warp: RandomWarp) -> Tensor:
    """Mean absolute difference between keypoints and the warp of the warped pictures' keypoints.

    What stands in the warped picture at p stands in the picture at warp(p).

    Args:
        keypoints: (B, K, 2 or more) of the pictures; x and y come first, the rest does not count.
        of_warped: the same of `warp.pictures(pictures)`.
        warp: that lies between them.

    Returns:
        A scalar, float32.

    Raises:
        ShapeError: other shapes.
    """
    check_shape(keypoints, "B K D", "keypoints")
    check_shape(of_warped, " ".join(str(n) for n in keypoints.shape), "keypoints of warped pictures")
    return (keypoints[..., :2].float() - warp.points(of_warped[..., :2].float())).abs().mean()
