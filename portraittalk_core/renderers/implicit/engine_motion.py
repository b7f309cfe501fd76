"""Motion of an engine that makes keypoints, on the source's face: its head and eyes, and its lips or ours.

Source of how JoyVASA's motion comes onto a face: its public code (MIT).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...errors import InputError
from ...motion.keypoint_edit import carry, composed
from ...motion.keypoint_regions import KEYPOINTS_OF_REGIONS, MOUTH
from ...motion.options import STILL, MotionOptions
from ...types import KeypointTrack, LandmarkTrack
from ..contract import Film, RenderJob

if TYPE_CHECKING:
    from .options import KeypointRenderOptions

OURS = "ours"  # the lips are the built-in engine's


def check_lips(options: KeypointRenderOptions, job: RenderJob) -> None:
    """Check that our lips can be made.

    Raises:
        InputError: there is no speech for them, or the source is a film.
    """
    if options.lips != OURS:
        return
    if job.speech is None:
        raise InputError("`lips` ours are made of the speech; give the speech too, or take the lips of the engine.")
    if isinstance(job.source, Film):
        raise InputError("`lips` ours are for portraits; for a film take an engine that makes landmarks.")


def our_landmarks(job: RenderJob) -> Iterator[LandmarkTrack]:
    """Landmarks of the built-in engine for a portrait's speech, with a head that stays where it is."""
    from ...engines.registry import open_engine

    still = MotionOptions(fps=job.fps, **STILL)
    return open_engine().spans(job.speech, job.source.landmarks, still)


def carried(spans: Iterator[KeypointTrack], source: KeypointTrack, of_nobody: bool = False) -> Iterator[KeypointTrack]:
    """Spans of another face as motion of the source: where it stands at their first frame, and from there on.

    Args:
        spans: of the motion.
        source: one frame: the source's own keypoints.
        of_nobody: an engine made them: no face was like that at their first frame, so that lips are taken as they are,
            in the source's head, where the layout's lips are known.
    """
    first = None
    for span in spans:
        first = span.slice(0, 1) if first is None else first
        moved = carry(span, source, first)
        yield composed(moved, span, (MOUTH,)) if of_nobody and span.layout in KEYPOINTS_OF_REGIONS else moved
