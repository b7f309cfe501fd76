"""How far landmarks shift beside each other as a head turns: by their depth, but nowhere so that skin tears.

Along a head's outline skin leads straight away from the viewer. A turn spreads what little the portrait shows of it
without limit, or folds it behind the cheek; a warp can show neither.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...face import topology as topo

STEEPEST = 2.2  # pixels into the picture for each one along it: at 15 degrees skin grows to 1.5 of its width, or to 0.4


class Parallax:
    """Softens the parallax of one portrait's landmarks.

    Args:
        source_px: (478, 3) landmarks of the portrait, pixels, z on x's scale and away from the viewer.
    """

    def __init__(self, source_px: Tensor) -> None:
        rigid = source_px[list(topo.RIGID)]
        self._solver = torch.linalg.pinv(torch.cat([rigid, torch.ones(len(rigid), 1)], 1).double()).float()
        self._nearer = eased_depths(source_px) - source_px[:, 2]

    def softened(self, points_px: Tensor) -> Tensor:
        """Landmarks (T, 478, 3) of frames as if the portrait's skin were nowhere steeper, (T, 478, 2)."""
        away = self._solver[2] @ points_px[:, list(topo.RIGID), :2]  # (T, 2) image of a step away from the viewer
        return points_px[..., :2] + self._nearer[:, None] * away[:, None]


def eased_depths(points_px: Tensor) -> Tensor:
    """(478,) depths of landmarks (478, 3), no further away than nearer ones beside them by STEEPEST."""
    distances = (points_px[:, None, :2] - points_px[:, :2]).norm(dim=-1)
    return (points_px[:, 2] + STEEPEST * distances).amin(1)
