"""The 68-point landmarks that papers measure, selected from MediaPipe's mesh.

The widespread assignment (as LatentSync has it, "W"); GeneFace++ reads 20 of the 68 elsewhere, so numbers of the two
must not be compared. Points of a real 68-point detector lie elsewhere again: a report has to say which were used.

Shapes: T frames.
Source: iBUG 300-W's numbering of 68 points; MediaPipe Face Mesh point numbers.
"""

from __future__ import annotations

from torch import Tensor

from ..errors import InputError
from ..face import topology as topo

# fmt: off
JAW = (162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389)  # 0..16
BROWS = (71, 63, 105, 66, 107, 336, 296, 334, 293, 301)  # 17..26
NOSE = (168, 197, 5, 4, 75, 97, 2, 326, 305)  # 27..35
EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)  # 36..47
MOUTH = (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87)  # 48..67
# fmt: on
POINTS_68 = JAW + BROWS + NOSE + EYES + MOUTH
MOUTH_20 = tuple(range(48, 68))  # of the 68


def to_68(points: Tensor) -> Tensor:
    """The 68 points among MediaPipe's.

    Args:
        points: (T, 468 or 478, D).

    Returns:
        (T, 68, D).

    Raises:
        InputError: not MediaPipe's landmarks.
    """
    if not isinstance(points, Tensor) or points.ndim != 3 or points.shape[1] not in _NUMBERS:
        received = tuple(points.shape) if isinstance(points, Tensor) else type(points).__name__
        raise InputError(f"the 68 points are read off MediaPipe's landmarks, (T, 468 or 478, 2 or 3), not {received}.")
    return points[:, list(POINTS_68)]


_NUMBERS = (topo.NUM_MESH_POINTS, topo.NUM_MESH_POINTS + 10)
