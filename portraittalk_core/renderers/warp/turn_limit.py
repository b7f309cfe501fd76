"""The limit of a portrait's turns to the side: beyond it a warp would have to show what the portrait does not."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from ...face import topology as topo
from ...face.geometry import euler_angles_deg, head_pose, rotation_matrix
from ...motion.rig import PIVOT, face_axes
from ...types import Portrait

MOST_YAW_DEG, LEAST_YAW_DEG = 15.0, 5.0  # of a portrait that looks ahead; of one that looks far aside
# how far aside a portrait may look that turns so far on, and that turns so far back; for each degree more so much less
ON_DEG, BACK_DEG, PER_DEGREE = 5.0, 20.0, 0.4
SLACK_DEG = 0.05

log = logging.getLogger(__name__)


class TurnLimit:
    """Holds a head within some degrees of yaw of its portrait, and warns of the first frames that ask for more.

    They are 15 of a portrait that looks ahead. One that looks aside shows less of its far side, which would be
    stretched as the head comes back, and fold behind the nose as it goes on.

    Args:
        portrait: whose own pose counts as 0°.
    """

    def __init__(self, portrait: Portrait) -> None:
        points = portrait.landmarks.points_px[0]
        self._source, self._warned = portrait.source, False
        aside_deg = float(head_pose(portrait.landmarks).angles_deg[0, 1])
        on, back = (
            max(LEAST_YAW_DEG, MOST_YAW_DEG - PER_DEGREE * max(0.0, abs(aside_deg) - free))
            for free in (ON_DEG, BACK_DEG)
        )
        self.limits_deg = (-back, on) if aside_deg > 0 else (-on, back)
        self._axes, self._origin, self._unit = face_axes(points)
        rest = self._local(points)
        rigid = rest[list(topo.RIGID)]
        self._solver = torch.linalg.pinv(torch.cat([rigid, torch.ones(len(rigid), 1)], 1).double()).float()

    def _local(self, points_px: Tensor) -> Tensor:
        """(…, 3) pixels to the portrait's face axes."""
        return (points_px - self._origin) @ self._axes.T / self._unit

    def limited(self, points_px: Tensor) -> Tensor:
        """Points of a head that turns aside within `limits_deg`; the same ones if it does not turn further.

        Args:
            points_px: (T, 478, 3) landmarks of some frames in the portrait's pixels, z on x's scale.
        """
        moved = self._solver @ self._local(points_px[:, list(topo.RIGID)])  # (T, 4, 3) images of axes and origin
        yaw = torch.rad2deg(torch.asin((moved[:, 0, 2] / moved[:, 0].norm(dim=1).clamp(min=1e-6)).clamp(-1, 1)))
        low, high = self.limits_deg
        beyond = torch.nonzero((yaw < low - SLACK_DEG) | (yaw > high + SLACK_DEG)).flatten()
        if not len(beyond):
            return points_px
        self._warn(yaw[beyond])
        points_px = points_px.clone()
        turned = self._turned_back(self._local(points_px[beyond]), moved[beyond])
        points_px[beyond] = turned @ self._axes * self._unit + self._origin
        return points_px

    def _turned_back(self, points: Tensor, moved: Tensor) -> Tensor:
        """(N, 478, 3) points in face axes, turned about the neck to the limit; `moved` (N, 4, 3) as the head went."""
        left, _, right = torch.linalg.svd(moved[:, :3])
        rotation = (left @ right).transpose(1, 2)
        angles = euler_angles_deg(rotation)
        angles[:, 1].clamp_(*self.limits_deg)
        back = rotation_matrix(angles) @ rotation.transpose(1, 2)
        neck = torch.tensor([*PIVOT, 1.0]) @ moved  # (N, 3)
        return (points - neck[:, None]) @ back.transpose(1, 2) + neck[:, None]

    def _warn(self, yaw: Tensor) -> None:
        if self._warned:
            return
        self._warned = True
        asked = float(yaw[yaw.abs().argmax()])
        log.warning(
            "the head of %s is to turn aside by %.1f°; the warp turns this portrait from %.3g° to %.3g°, and %.1f° are "
            "used there. For larger turns take another renderer, or a portrait that looks ahead.",
            self._source, asked, *self.limits_deg, max(self.limits_deg[0], min(asked, self.limits_deg[1])),
        )  # fmt: skip
