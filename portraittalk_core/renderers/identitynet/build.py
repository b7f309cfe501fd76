"""The IdentityNet renderer: warped frames are repainted by SD1.5 conditioned on the face."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from ...errors import InputError
from ...face.crop import CropOptions, plan_face_crop
from ...face.fit import fit_to, fitted
from ...motion.dub import resting_frame
from ...motion.resample import join_tracks
from ...types import LandmarkTrack, Portrait
from ..animatenet.head_placement import follow, place, placements
from ..contract import Callbacks, Film, RenderJob
from ..face_region import painted_faces
from ..paste import PasteOptions
from ..repaint import repainted
from ..warp.build import source_size, warped_pictures
from .backend import Canvas, PainterBackend
from .options import IdentityNetOptions


def build(options: IdentityNetOptions) -> IdentityNetRenderer:
    """Build the renderer, which loads the options' files."""
    from .diffusers_backend import DiffusersBackend

    return IdentityNetRenderer(
        DiffusersBackend(options), options.width, options.height, options.only_face, options.head_placement
    )


class IdentityNetRenderer:
    """Repaints every warped frame; of a film, or with `only_face`, the face region alone.

    Args:
        backend: where SD1.5 runs.
        width: pixels of the painted frames.
        height: pixels of the painted frames.
        only_face: whether a portrait keeps its size and all that is not its face.
        head_placement: "track", or "follow": the head travels from the portrait's own place without a jump.
    """

    def __init__(
        self, backend: PainterBackend, width: int, height: int, only_face: bool = False, head_placement: str = "track"
    ) -> None:
        self.backend, self.width, self.height = backend, width, height
        self.only_face, self.head_placement = only_face, head_placement

    @property
    def repaints_all(self) -> bool:
        """Whether of a portrait all is painted anew, not its face alone."""
        return not self.only_face

    def output_size(self, job: RenderJob) -> tuple[int, int]:
        """Width and height: the painted size, or the source's where only its face is painted."""
        return source_size(job) if self._is_region(job) else (self.width, self.height)

    def render(self, job: RenderJob, callbacks: Callbacks | None = None) -> Iterator[Tensor]:
        """(H, W, 3) uint8 pictures; `on_progress` counts frames times steps."""
        callbacks = callbacks or Callbacks()
        yield from self._region(job, callbacks) if self._is_region(job) else self._repainted(job, callbacks)

    def _is_region(self, job: RenderJob) -> bool:
        return self.only_face or isinstance(job.source, Film)

    def _repainted(self, job: RenderJob, callbacks: Callbacks) -> Iterator[Tensor]:
        fit = fit_to(job.source, self.width, self.height)
        placed, motion = fitted(job.source, fit), map(fit.track, job.motion)
        is_complete = isinstance(job.motion, tuple)
        track = None
        if is_complete or self.backend.needs_motion or self.head_placement != "track":
            track = self._placed(placed, join_tracks(motion))
            motion = (track,)
        warped = warped_pictures(replace(job, source=placed, motion=motion))
        painter = self.backend.open(Canvas(job, job.source, self.height, self.width, track, fit))
        yield from repainted(warped, job.num_frames, painter, callbacks)

    def _region(self, job: RenderJob, callbacks: Callbacks) -> Iterator[Tensor]:
        if self.width != self.height:
            raise InputError(
                f"the face region is painted as a square; `width` {self.width} and `height` {self.height} differ."
            )
        portrait = job.source if isinstance(job.source, Portrait) else _resting_portrait(job.source)
        track = join_tracks(job.motion)
        if isinstance(job.source, Portrait):
            track = self._placed(portrait, track)
        elif self.head_placement != "track":
            raise InputError(
                f"`head_placement` {self.head_placement} is for portraits: in a film the head stays where it is."
            )
        job = replace(job, motion=(track,))
        plan = plan_face_crop(track, CropOptions(size=self.width))
        painter = self.backend.open(Canvas(job, portrait, self.height, self.width, plan.track_on_crop()))
        yield from painted_faces(warped_pictures(job), plan, painter, PasteOptions("face"), callbacks)

    def _placed(self, portrait: Portrait, track: LandmarkTrack) -> LandmarkTrack:
        if self.head_placement == "track":
            return track
        return place(track, follow(placements(portrait.landmarks)[0], placements(track)))


def _resting_portrait(film: Film) -> Portrait:
    """The film frame with the best view of the face, for its identity."""
    best = resting_frame(film.track)
    index = int((film.track.points == best.points).flatten(1).all(1).int().argmax())
    for number, picture in enumerate(film.pictures()):
        if number == index:
            return Portrait(picture, best, film.source)
    raise InputError(f"{film.source} has become shorter while it was read.")
