"""Interface of all renderers: from a source and its motion to a stream of pictures.

This module imports no torch, so that the registry can be read at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import InputError
from ..progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from ..style.prior import Style
    from ..types import KeypointTrack, LandmarkTrack, Portrait, Speech
    from ..weights.specs import FileSpec
    from .sections import Sections

PORTRAIT, FILM = "portrait", "film"  # kinds of source


@dataclass(frozen=True)
class Callbacks:
    """Callbacks of a renderer; each may raise to cancel the job, after which no file remains.

    With `sections`, finished ones are kept until the video is whole: the same job, begun again, goes on from them.
    """

    on_progress: Progress | None = None  # units of work done, and in all
    on_picture: Callable[[Tensor], None] | None = None  # every picture (H, W, 3) uint8, before it is written
    on_latents: Callable[[Tensor], None] | None = None  # latents (B, 4, h, w) of every batch
    sections: Sections | None = None  # where finished ones are; its key must cover all inputs of the result
    on_mask: Callable[[Tensor], None] | None = None  # (H, W) uint8 before each picture, 255 on people; of the warp


@dataclass(frozen=True)
class Film:
    """A source video and its landmark track, for dubbing."""

    path: Path
    track: LandmarkTrack  # of its face; `valid` is False where no face was found
    order: Tensor | None = None  # (T,) number of the file's frame that each frame shows; None: they follow each other
    scenes: Tensor | None = None  # (T,) number of each frame's scene, between two cuts; None: there are no cuts
    covered: Tensor | None = None  # (T,) bool: something hides the mouth there, and `valid` is False; None: nowhere
    other_person: Tensor | None = None  # (T,) bool: another person is in the scene, and `valid` is False; None: nowhere
    sharpness: Tensor | None = None  # (T,) of the mouth, see `face.sharpness`; None: not measured
    mouth_colours: Tensor | None = None  # (2, 3) of `face.mouth_colours.film_colours`; None: not seen

    def scene(self, index: int) -> int:
        """Number of a frame's scene."""
        return 0 if self.scenes is None else int(self.scenes[index])

    def in_order(self, order: Tensor) -> Film:
        """The film whose frames follow each other in another order, such as (T,) `motion.dub.film_order`."""
        from ..memory_map import gathered

        shoulders = None if self.track.shoulders is None else self.track.shoulders[order]
        points = gathered(self.track.points, order)
        track = replace(self.track, points=points, valid=self.track.valid[order], shoulders=shoulders)
        names = ("scenes", "covered", "other_person", "sharpness")
        numbers = {name: getattr(self, name) for name in names}
        numbers = {name: values if values is None else values[order] for name, values in numbers.items()}
        return replace(self, track=track, order=order if self.order is None else self.order[order], **numbers)

    @property
    def source(self) -> str:
        """Name of the file, for messages."""
        return self.path.name

    @property
    def num_faceless(self) -> int:
        """Number of frames without a face."""
        return int((~self.track.valid).sum()) - self.num_covered - self.num_other_person

    @property
    def num_covered(self) -> int:
        """Number of frames in which something hides the mouth."""
        return 0 if self.covered is None else int(self.covered.sum())

    @property
    def num_other_person(self) -> int:
        """Number of frames of scenes with another person."""
        return 0 if self.other_person is None else int(self.other_person.sum())

    def pictures(self) -> Iterator[Tensor]:
        """Its frames (H, W, 3) uint8 from the beginning, as many as the track has.

        Forwards they are read one at a time, backwards a few at a time.

        Raises:
            InputError: the file has become shorter since it was tracked.
        """
        from .film_pictures import pictures_in_order

        order = range(len(self.track)) if self.order is None else self.order.tolist()
        yield from pictures_in_order(self.path, self.track.fps, order)


@dataclass(frozen=True)
class RenderJob:
    """A renderer's input: source, motion, frame count and rate, speech, style.

    A renderer pulls the motion span by span. Where it is a sequence, all of it is known in advance.
    """

    source: Portrait | Film
    motion: Iterable[
        LandmarkTrack | KeypointTrack
    ]  # consecutive spans: landmarks on the source's picture, or keypoints
    num_frames: int  # of all spans
    fps: Fraction
    speech: Speech | None = None  # for audio-driven renderers
    style: Style | None = None  # for renderers with style attention
    of_nobody: bool = False  # keypoints of an engine, which moves no face of its own: the source goes on from its own
    windows: Callable[[], Iterator[Tensor]] | None = None  # from the beginning, see `engines.contract.WindowEngine`

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise InputError(f"there is nothing to render: the motion has {self.num_frames} frames.")
        if isinstance(self.source, Film) and self.num_frames != len(self.source.track):
            counts = f"{self.num_frames} frames of motion and {len(self.source.track)} of {self.source.source}"
            raise InputError(f"{counts} do not fit; make the motion for this film.")

    @staticmethod
    def of_track(
        source: Portrait | Film,
        track: LandmarkTrack | KeypointTrack,
        speech: Speech | None = None,
        style: Style | None = None,
    ) -> RenderJob:
        """A job whose motion is a complete track."""
        return RenderJob(source, (track,), len(track), track.fps, speech, style)


class Renderer(Protocol):
    """Interface of a renderer.

    One that renders keypoint tracks too has the attribute `keypoint_layout`, the layout of those that it takes; one
    that paints all of a portrait anew, not its face alone, `repaints_all`, True.
    """

    def output_size(self, job: RenderJob) -> tuple[int, int]:
        """Width and height of the pictures, without rendering."""

    def render(self, job: RenderJob, callbacks: Callbacks | None = None) -> Iterator[Tensor]:
        """(H, W, 3) uint8 pictures, as many as the job has frames; streams, and calls `on_progress` itself."""


def check_motion(renderer: Renderer, job: RenderJob) -> RenderJob:
    """The job, whose spans are checked as they come: keypoints are for renderers that know their layout.

    Raises:
        InputError: at such a span, with what to take instead.
    """
    if getattr(renderer, "keypoint_layout", None) is not None:
        return job  # which checks the layout itself
    if isinstance(job.motion, tuple | list):
        return replace(job, motion=tuple(map(_landmarks, job.motion)))
    return replace(job, motion=map(_landmarks, job.motion))


def _landmarks(span: LandmarkTrack | KeypointTrack) -> LandmarkTrack:
    layout = getattr(span, "layout", None)
    if layout is not None:
        takes = "facevid2vid" if layout == "face-vid2vid-15" else "liveportrait"
        raise InputError(
            f"the motion is keypoints ({layout}), which this renderer cannot draw; take the renderer {takes}, or an "
            "engine that makes landmarks."
        )
    return span


@dataclass(frozen=True)
class RendererSpec:
    """Registry entry of a renderer, read by the command line, manifests, the doctor and the docs."""

    name: str
    title: str  # one line
    options: type  # a dataclass of `option()` fields
    build: str | Callable[[object], Renderer]  # options → renderer; "module.below.renderers:function", or itself
    files: tuple[FileSpec, ...] = ()  # what it needs, where it comes from, its licence
    sources: frozenset[str] = frozenset({PORTRAIT})
