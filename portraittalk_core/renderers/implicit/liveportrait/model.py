"""LivePortrait as a keypoint model.

Shapes: B faces, K keypoints, S pixels.
Source: J. Guo et al. 2024, "LivePortrait" (arXiv 2407.03168), equation 2, with the conventions of the public code:
x = s (x_c R + d) + t, of t only x and y; R = (R_z R_y R_x)^T; bins of 3 degrees from -97.5.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from ..contract import CropRule, Keypoints
from ..head_angles import axis_rotations, degrees_of_bins
from ..networks import FaceNetworks
from ..sizes import ImplicitSizes
from .motion_extractor import ExtractorSizes, MotionExtractor

FIRST_BIN_DEG = -97.5
INPUT_SIZE = 256
PUBLIC_SIZES = ImplicitSizes(num_keypoints=21, upscale=2)


class LivePortrait(FaceNetworks):
    """`renderers.implicit.contract.KeypointModel` of LivePortrait; its parts are called as the public files."""

    layout: ClassVar[str] = "liveportrait-21"
    crop: ClassVar[CropRule] = CropRule(scale=2.3, shift_y=-0.125, upright=True)

    def __init__(
        self,
        sizes: ImplicitSizes = PUBLIC_SIZES,
        extractor: ExtractorSizes | None = None,
        *,
        input_size: int = INPUT_SIZE,
        spectral_norm: bool = False,
    ) -> None:
        """Build the networks with random weights.

        Args:
            sizes: of encoder, warping and generator.
            extractor: sizes of the motion extractor; None: the public ones.
            input_size: side of the crops.
            spectral_norm: of the generator, for training.
        """
        super().__init__(sizes, input_size, spectral_norm=spectral_norm)
        self.motion_extractor = MotionExtractor(extractor or ExtractorSizes(sizes.num_keypoints))

    def keypoints(self, crops: Tensor) -> Keypoints:
        """Keypoints of (B, 3, S, S) crops, RGB 0..1, in float32."""
        heads = self.motion_extractor(crops.to(self.device, torch.float32))
        angles = [degrees_of_bins(heads[name], FIRST_BIN_DEG) for name in ("pitch", "yaw", "roll")]
        canonical, expression = (heads[name].float().unflatten(1, (-1, 3)) for name in ("kp", "exp"))
        return Keypoints(
            canonical, torch.stack(angles, 1), heads["t"].float(), heads["scale"].float()[:, 0], expression
        )

    def place(self, keypoints: Keypoints) -> Tensor:
        """(B, K, 3) float32 keypoints in the crop."""
        about_x, about_y, about_z = axis_rotations(keypoints.rotation_deg, math.pi)
        turned = keypoints.canonical @ (about_z @ about_y @ about_x).mT + keypoints.expression
        shift = keypoints.translation * torch.tensor([1.0, 1.0, 0.0], device=keypoints.translation.device)
        return keypoints.scale[:, None, None] * turned + shift[:, None]
