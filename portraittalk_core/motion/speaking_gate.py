"""Speaking gate of the mouth: dilated voice activity."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .smoothing import gaussian_smoothing

ACTIVITY_HZ = 100
HANGOVER_S = 0.14  # lips move freely this long before and after the voice
EDGE_FRAMES = 4.0  # of 10 ms: standard deviation of the gate's soft edges


def speaking_gate(activity: Tensor) -> Tensor:
    """A gate that opens before a voice and closes after it, since lips part before and rest after.

    Args:
        activity: (M,) 0..1 at 100 Hz, from `speech.voice_activity`.

    Returns:
        (M,) 0 in silence .. 1 at 100 Hz.
    """
    reach = int(HANGOVER_S * ACTIVITY_HZ)
    widened = F.max_pool1d(activity[None, None], 2 * reach + 1, 1, reach)[0, 0]
    return gaussian_smoothing(widened, EDGE_FRAMES)
