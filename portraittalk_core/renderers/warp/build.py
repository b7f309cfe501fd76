"""The warp renderer: a portrait, or every frame of a film, warped to its landmark track."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ...face import topology as topo
from ...face.covered import mouth_covered
from ...face.eyes import lids_fit
from ...motion.dub import resting_face, resting_frame
from ...scratch import let_go
from ...threads import one_torch_thread
from ...types import LandmarkTrack, Portrait
from ..contract import Callbacks, Film, RenderJob
from .cutout import cut_out
from .film import FilmedFace
from .options import WarpOptions
from .renderer import REACH, PortraitRenderer

BLOCK = 256  # frames after which landmarks leave the memory
UNFOLDED = 2.5  # a move that fades over so many times its length folds nothing
LIVELY = 0.08  # of the face's smaller side: how far a speaking head moves


def build(options: WarpOptions) -> WarpRenderer:  # noqa: ARG001 - as every renderer is built
    """Build the renderer."""
    return WarpRenderer()


class WarpRenderer:
    """Warps the source's pictures; pixels far from the face are unchanged."""

    def output_size(self, job: RenderJob) -> tuple[int, int]:
        """Width and height of the source."""
        return source_size(job)

    def render(self, job: RenderJob, callbacks: Callbacks | None = None) -> Iterator[Tensor]:
        """(H, W, 3) uint8 pictures; `on_progress` counts frames."""
        on_progress = (callbacks or Callbacks()).on_progress
        with one_torch_thread():
            for done, picture in enumerate(warped_pictures(job), 1):
                yield picture
                if on_progress is not None:
                    on_progress(done, job.num_frames)


def source_size(job: RenderJob) -> tuple[int, int]:
    """Width and height of a job's source."""
    landmarks = job.source.track if isinstance(job.source, Film) else job.source.landmarks
    return landmarks.width, landmarks.height


def warped_pictures(job: RenderJob) -> Iterator[Tensor]:
    """The source's pictures warped to a job's motion.

    Yields:
        (H, W, 3) uint8.
    """
    return _warped_film(job.source, job.motion) if isinstance(job.source, Film) else _warped_portrait(job)


def _warped_portrait(job: RenderJob) -> Iterator[Tensor]:
    is_complete = isinstance(job.motion, Sequence)
    reach_px = max(needed_reach_px(job.source, span) for span in job.motion) if is_complete else None
    move_px = max(_largest_move_px(job.source, span) for span in job.motion) if is_complete else None
    renderer = portrait_renderer(job.source, reach_px, move_px)
    for span in job.motion:
        yield from renderer.render(span)


def portrait_renderer(
    portrait: Portrait, reach_px: float | None = None, move_px: float | None = None
) -> PortraitRenderer:
    """A renderer of one portrait, whose mouth and lids have been looked at.

    Args:
        portrait: picture and landmarks.
        reach_px: see `PortraitRenderer`.
        move_px: the head's largest move in pixels; None: it is not known, and may be lively.
    """
    points = portrait.landmarks.points_px[0]
    return PortraitRenderer(
        portrait,
        reach_px,
        covered=mouth_covered(portrait.picture, points),
        blinks=lids_fit(portrait.picture, points),
        background_px=_background_px(portrait, move_px),
        cutout=cut_out(portrait.picture, points[:, :2]),
    )


def _warped_film(film: Film, motion: Iterator[LandmarkTrack]) -> Iterator[Tensor]:
    """Film frames with the face warped to the new landmarks; frames without a face are unchanged."""
    size = torch.tensor([film.track.width, film.track.height, film.track.width], dtype=torch.float32)
    targets = (points for span in motion for points in span.points)
    scene, face = None, None
    for index, (picture, target) in enumerate(zip(film.pictures(), targets, strict=True)):
        filmed = film.track.points[index]
        if not bool(film.track.valid[index]) or torch.equal(filmed, target):
            yield picture
            continue
        if face is None or film.scene(index) != scene:
            scene = film.scene(index)
            face = FilmedFace(_at_rest(film, scene), float(film.track.fps))
        with one_torch_thread():
            warped = face.draw(picture, filmed * size, target * size)
        yield warped
        if index % BLOCK == 0:
            let_go()


def _at_rest(film: Film, scene: int) -> LandmarkTrack:
    """One frame: the face at rest in a scene."""
    return resting_frame(film.track) if film.scenes is None else resting_face(film.track, film.scenes, scene)


def needed_reach_px(portrait: Portrait, track: LandmarkTrack) -> float:
    """Reach of the motion field outside the face in pixels, so that a track's largest head motion causes no folding."""
    return max(REACH * _face_side_px(portrait), UNFOLDED * _largest_move_px(portrait, track))


def _background_px(portrait: Portrait, move_px: float | None) -> float:
    """Distance over which the head's motion fades in a background; that of lively motion where it is not known."""
    lively = LIVELY * _face_side_px(portrait) if move_px is None else move_px
    return UNFOLDED * max(lively, 1.0)


def _largest_move_px(portrait: Portrait, track: LandmarkTrack) -> float:
    rest = portrait.landmarks.points_px[0, :, :2]
    size = torch.tensor([portrait.landmarks.width, portrait.landmarks.height], dtype=torch.float32)
    rigid = list(topo.RIGID)
    return float((track.points[:, rigid, :2] * size - rest[rigid]).norm(dim=2).amax())


def _face_side_px(portrait: Portrait) -> float:
    rest = portrait.landmarks.points_px[0, :, :2]
    return float((rest.amax(0) - rest.amin(0)).min())
