"""Options of the warp renderer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WarpOptions:
    """The warp renderer has no options."""
