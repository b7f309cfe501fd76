"""Base of engines that predict raw landmark displacements at their own rate; motion options are applied here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from ..motion.options import MotionOptions
from ..progress import Progress
from ..types import LandmarkTrack, Speech
from .finish import finish_motion
from .raw_motion import RawMotion


class RawMotionEngine(ABC):
    """The contract of motion engines, from `raw_motion` alone."""

    name: str

    @abstractmethod
    def raw_motion(self, speech: Speech, reference: LandmarkTrack, on_progress: Progress | None = None) -> RawMotion:
        """Displacements of a reference face that says `speech`; no motion is exactly zero.

        Args:
            speech: the clip.
            reference: one frame.
            on_progress: called with units of work done and in all, whatever they are; may raise to stop.
        """

    def spans(
        self,
        speech: Speech,
        reference: LandmarkTrack,
        options: MotionOptions | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[LandmarkTrack]:
        """The contract of every engine, see `contract.MotionEngine`; the raw motion is held whole."""
        options = options or MotionOptions()
        raw = self.raw_motion(speech, reference, counted_in_frames(on_progress, speech.num_frames(options.fps)))
        yield from finish_motion(raw, speech, reference, options)


def counted_in_frames(on_progress: Progress | None, num_frames: int) -> Progress | None:
    """Progress callback that converts any unit of work to frames."""
    if on_progress is None:
        return None
    return lambda done, total: on_progress(num_frames * done // max(total, 1), num_frames)
