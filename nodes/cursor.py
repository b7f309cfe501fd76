"""Where in a video the sampler is: the painter moves it, per-frame controls read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Cursor:
    """Which frame of the video the batch being denoised begins with."""

    first: int = 0
