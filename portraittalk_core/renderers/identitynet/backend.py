"""Where SD1.5 runs: what IdentityNet's renderer asks of diffusers or ComfyUI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ...face.fit import Fit
from ...types import LandmarkTrack, Portrait
from ..contract import RenderJob
from ..repaint import Painter


@dataclass(frozen=True)
class Canvas:
    """Input of a painter: job, portrait, size, track and fit."""

    job: RenderJob
    portrait: Portrait  # the source's own picture, for whose face it is
    height: int  # pixels of the painted frames
    width: int
    motion: LandmarkTrack | None  # on the painted frames; None where the backend needs none
    fit: Fit | None = None  # from the portrait's picture to the painted frames; None where a moving crop is painted

    def place(self, track: LandmarkTrack) -> LandmarkTrack:
        """Map a track from the portrait's picture to the painted frames."""
        return track if self.fit is None else self.fit.track(track)


class PainterBackend(Protocol):
    """Interface of SD1.5's back ends: diffusers with files, or ComfyUI with its MODEL."""

    needs_motion: bool  # whether the whole motion must be known before painting, as a ControlNet needs it

    def open(self, canvas: Canvas) -> Painter:
        """Open a painter for one job."""
