"""The warp renderer: a portrait, or every frame of a film, warped to its landmark track."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ...errors import InputError
from ...face import topology as topo
from ...face.covered import mouth_covered
from ...face.eyes import lids_fit
from ...memory_map import release_memory
from ...motion.dub import resting_face, resting_frame
from ...motion.turned_face import TurnedFace
from ...threads import one_torch_thread
from ...types import LandmarkTrack, Portrait
from ..contract import Callbacks, Film, RenderJob
from .cutout import cut_out
from .film import FilmedFace
from .options import TRANSPARENT, WarpOptions
from .own_inside_trial import best_inside
from .renderer import REACH, PortraitRenderer

log = logging.getLogger(__name__)

BLOCK = 256  # frames after which landmarks leave the memory
UNFOLDED = 2.5  # a move that fades over so many times its length folds nothing
LIVELY = 0.14  # of the face's smaller side: how far a head moves that turns by 15 degrees


def build(options: WarpOptions) -> WarpRenderer:
    """Build the renderer."""
    return WarpRenderer(options.background == TRANSPARENT)


class WarpRenderer:
    """Warps the source's pictures; pixels far from the face are unchanged.

    Args:
        transparent: leave the background of portraits away: pictures are (H, W, 4), RGB and alpha.
    """

    def __init__(self, transparent: bool = False) -> None:
        self.transparent = transparent

    def output_size(self, job: RenderJob) -> tuple[int, int]:
        """Width and height of the source."""
        return source_size(job)

    def render(self, job: RenderJob, callbacks: Callbacks | None = None) -> Iterator[Tensor]:
        """(H, W, 3) uint8 pictures, or (H, W, 4); `on_progress` counts frames, `on_mask` gets a portrait's people.

        Raises:
            InputError: without its background, a film, or a portrait in which no person is recognised.
        """
        callbacks = callbacks or Callbacks()
        on_progress = callbacks.on_progress
        with one_torch_thread():
            for done, picture in enumerate(warped_pictures(job, self.transparent, callbacks.on_mask), 1):
                yield picture
                if on_progress is not None:
                    on_progress(done, job.num_frames)


def source_size(job: RenderJob) -> tuple[int, int]:
    """Width and height of a job's source."""
    landmarks = job.source.track if isinstance(job.source, Film) else job.source.landmarks
    return landmarks.width, landmarks.height


def warped_pictures(
    job: RenderJob, transparent: bool = False, on_mask: Callable[[Tensor], None] | None = None
) -> Iterator[Tensor]:
    """The source's pictures warped to a job's motion.

    Args:
        job: what is to be drawn.
        transparent: leave a portrait's background away.
        on_mask: called before each picture of a portrait with (H, W) uint8, 255 where it shows people; where no person
            is recognised, that is everywhere.

    Yields:
        (H, W, 3) uint8; where `transparent`, (H, W, 4).

    Raises:
        InputError: `transparent`, but the source is a film, or no person is recognised in it.
    """
    if not isinstance(job.source, Film):
        return _warped_portrait(job, transparent, on_mask)
    if transparent:
        raise InputError(
            f"`background` transparent is for portraits; the film {job.source.source} keeps its own. Leave it out."
        )
    return _warped_film(job.source, job.motion)


def _warped_portrait(job: RenderJob, transparent: bool, on_mask: Callable[[Tensor], None] | None) -> Iterator[Tensor]:
    is_complete = isinstance(job.motion, Sequence)
    reach_px = max(needed_reach_px(job.source, span) for span in job.motion) if is_complete else None
    move_px = max(_largest_move_px(job.source, span) for span in job.motion) if is_complete else None
    spans = iter(job.motion)
    first = next(spans, None)
    renderer = portrait_renderer(job.source, reach_px, move_px, first is not None and first.shoulders is not None)
    if renderer.composite is None:
        if transparent:
            raise InputError(
                f"no person is recognised in {job.source.source}, so its background cannot be left away: keep it, or "
                "take a picture that shows more of the person, before a plainer background."
            )
        log.warning("no person is recognised in %s: near the head, the background moves with it.", job.source.source)
    for span in itertools.chain([] if first is None else [first], spans):
        yield from renderer.render(span, transparent, on_mask)


def portrait_renderer(
    portrait: Portrait, reach_px: float | None = None, move_px: float | None = None, breathes: bool = False
) -> PortraitRenderer:
    """A renderer of one portrait, whose mouth and lids have been looked at, and whose people are cut out.

    Args:
        portrait: picture and landmarks.
        reach_px: see `PortraitRenderer`.
        move_px: the head's largest move in pixels; None: it is not known, and may be lively.
        breathes: see `PortraitRenderer`.
    """
    points = portrait.landmarks.points_px[0]
    cutout = cut_out(portrait.picture, points[:, :2])
    if cutout is not None and move_px is not None and move_px < LIVELY * _face_side_px(portrait):
        move_px = None  # the same pictures whether the motion is known in advance or not
    return PortraitRenderer(
        portrait,
        reach_px,
        covered=mouth_covered(portrait.picture, points),
        blinks=lids_fit(portrait.picture, points),
        background_px=_background_px(portrait, move_px),
        cutout=cutout,
        breathes=breathes,
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
            face = drawn_face(film, scene)
        with one_torch_thread():
            warped = face.draw(picture, filmed * size, target * size, index)
        yield warped
        if index % BLOCK == 0:
            release_memory()


def drawn_face(film: Film, scene: int) -> FilmedFace:
    """What draws the face of one scene of a film, with the inside of its own mouths where that does."""
    turned = filmed_face(film, scene)
    with one_torch_thread():
        own = best_inside(film, scene, turned)
    return FilmedFace(turned, float(film.track.fps), film.mouth_colours, own)


def filmed_face(film: Film, scene: int) -> TurnedFace:
    """The face of one scene of a film, at rest and in other poses."""
    if film.scenes is None:
        return TurnedFace.of_film(film.track, resting_frame(film.track))
    rest = resting_face(film.track, film.scenes, scene)
    return TurnedFace.of_film(film.track, rest, film.scenes == scene)


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
