"""face-vid2vid as a keypoint model.

Shapes: B faces, K keypoints, S pixels.
Source: arXiv 2011.15126, equations 1 and 2: K = R K_c + t + E, with the conventions of the public weights: bins of 3
degrees from -99, R = R_x R_y R_z, half a turn is 3.14, E is added in the turned head's frame.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ..contract import CropRule, Keypoints
from ..head_angles import axis_rotations, degrees_of_bins
from ..networks import FaceNetworks
from ..sizes import ImplicitSizes
from .head_estimator import EstimatorSizes, HeadEstimator
from .keypoint_detector import DetectorSizes, KeypointDetector

FIRST_BIN_DEG = -99.0
HALF_TURN = 3.14
INPUT_SIZE = 256
PUBLIC_SIZES = ImplicitSizes(num_keypoints=15)


class FaceVid2Vid(FaceNetworks):
    """`renderers.implicit.contract.KeypointModel` of face-vid2vid."""

    layout: ClassVar[str] = "face-vid2vid-15"
    crop: ClassVar[CropRule] = CropRule(scale=1.4, shift_y=0.0, upright=False)

    def __init__(
        self,
        sizes: ImplicitSizes = PUBLIC_SIZES,
        detector: DetectorSizes | None = None,
        estimator: EstimatorSizes | None = None,
        *,
        input_size: int = INPUT_SIZE,
        spectral_norm: bool = False,
    ) -> None:
        """Build the networks with random weights.

        Args:
            sizes: of encoder, warping and generator.
            detector: sizes of the keypoint detector; None: the public ones.
            estimator: sizes of the estimator of head pose and expression; None: the public ones.
            input_size: side of the crops, 256 or 512 with public weights.
            spectral_norm: of the generator, for training.
        """
        super().__init__(sizes, input_size, spectral_norm=spectral_norm)
        self.kp_detector = KeypointDetector(detector or DetectorSizes(sizes.num_keypoints))
        self.he_estimator = HeadEstimator(estimator or EstimatorSizes(sizes.num_keypoints))

    def keypoints(self, crops: Tensor) -> Keypoints:
        """Keypoints of (B, 3, S, S) crops, RGB 0..1, in float32."""
        crops = crops.to(self.device, torch.float32)
        heads = self.he_estimator(crops)
        angles = [degrees_of_bins(heads[name], FIRST_BIN_DEG) for name in ("pitch", "yaw", "roll")]
        return Keypoints(
            self.kp_detector(crops),
            torch.stack(angles, 1),
            heads["t"].float(),
            torch.ones(len(crops), device=crops.device),
            heads["exp"].float().unflatten(1, (-1, 3)),
        )

    def place(self, keypoints: Keypoints) -> Tensor:
        """(B, K, 3) float32 keypoints in the crop."""
        about_x, about_y, about_z = axis_rotations(keypoints.rotation_deg, HALF_TURN)
        turned = keypoints.canonical @ (about_x @ about_y @ about_z).mT
        return keypoints.scale[:, None, None] * (turned + keypoints.expression) + keypoints.translation[:, None]
