"""The slow part of a filmed mouth's shape and place: smiles, pouts, and where a turned head has its mouth.

A dubbed mouth that went back to the face at rest would be torn out of the cheeks of a smile. What speech moves fast is
not the film's any more; what stays for a second is kept.

Shapes: T frames, H handles on the mouth.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .rig import SkinInterpolator
from .smoothing import gaussian_kernel

# right corner, middles of both lips, left corner
HANDLES = ((61,), (0, 37, 267, 13, 82, 312, 14, 87, 317, 17), (291,))
SLOW_S = 0.4  # standard deviation of the Gaussian that tells slow from fast


def handles_of(points: Tensor) -> Tensor:
    """(T, H, 3) places of the handles of (T, 478, 3) landmarks."""
    return torch.stack([points[:, list(handle)].mean(1) for handle in HANDLES], 1)


def handle_weights(rest: Tensor) -> Tensor:
    """(H, 478) share of each handle's displacement that landmarks take.

    Lips take a parabola through the handles, the skin around them what lies between; nose, eyes and outline stay.

    Args:
        rest: (478, 3) the face at rest, upright.
    """
    right, left = (rest[corner, 0] for corner in (HANDLES[0][0], HANDLES[-1][0]))
    at = ((rest[:, 0] - right) / (left - right)).clamp(0, 1)
    shares = torch.stack([(2 * at - 1) * (at - 1), 4 * at * (1 - at), at * (2 * at - 1)])
    skin, still = SkinInterpolator(rest), torch.zeros_like(rest)
    return torch.stack([skin.spread_over(share[:, None].expand(-1, 3), still)[:, 0] for share in shares])


def slow_part(values: Tensor, known: Tensor, fps: float) -> Tensor:
    """What of a series lasts: Gaussian means over the frames that are known.

    Args:
        values: (T, C).
        known: (T,) bool.
        fps: frames per second.

    Returns:
        (T, C); 0 where no frame near is known.
    """
    kernel = gaussian_kernel(SLOW_S * fps)
    reach = len(kernel) // 2
    shares = known[:, None].to(values)
    series = torch.cat([values * shares, shares], 1).T[:, None]  # (C + 1, 1, T)
    sums = F.conv1d(F.pad(series, (reach, reach)), kernel[None, None])[:, 0].T
    return sums[:, :-1] / sums[:, -1:].clamp(min=1e-6)
