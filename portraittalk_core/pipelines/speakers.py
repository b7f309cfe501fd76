"""Dubbing of several faces of one film, each with a speech of its own, in one run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ..engines.contract import MotionEngine
from ..errors import InputError
from ..face.geometry import face_box_px
from ..motion.dub import dub_track, film_order
from ..motion.dub_options import DubOptions
from ..motion.options import MotionOptions
from ..renderers.contract import FILM, Callbacks, Film, Renderer, RenderJob
from ..renderers.registry import DEFAULTS, open_renderer
from ..renderers.sections import Sections
from ..renderers.write import RenderResult, Sound, render_video
from ..style.prior import Style
from ..types import LandmarkTrack, Speech

SAME_FACE = 0.5  # shared area over that of both, on the mean of all frames, from which two faces are one


@dataclass(frozen=True)
class Speaker:
    """One face of a film, and what it says."""

    film: Film  # of `pipelines.dub.read_film`, tracked on that face
    speech: Speech
    name: str = "a face"  # for messages

    @property
    def track(self) -> LandmarkTrack:
        """The face."""
        return self.film.track

    @property
    def source(self) -> str:
        """The film, for messages."""
        return self.film.source

    def check_shared(self, other: Speaker) -> None:
        """Check that another one is of the same film.

        Raises:
            InputError: it is not.
        """
        if self.film.path != other.film.path or len(self.track) != len(other.track):
            raise InputError("all speakers must be of one film; dub one film after the other.")


class AnySpeaker(Protocol):
    """One face of a film or picture that speaks."""

    name: str
    track: LandmarkTrack
    source: str

    def check_shared(self, other: AnySpeaker) -> None:
        """Check that another one is of the same film or picture."""


@dataclass(frozen=True)
class PaintedFilm(Film):
    """A film whose pictures are what another renderer makes of it."""

    painted: Callable[[], Iterator[Tensor]] | None = None

    def pictures(self) -> Iterator[Tensor]:
        """(H, W, 3) uint8 pictures of the renderer before."""
        yield from self.painted()


def dub_speakers(
    speakers: Sequence[Speaker],
    out: Path,
    options: MotionOptions,
    *,
    engine: MotionEngine,
    sound: Sound,
    renderer: Renderer | None = None,
    style: Style | None = None,
    crf: int = 18,
    callbacks: Callbacks | None = None,
    dub_options: DubOptions | None = None,
) -> RenderResult:
    """Dub several faces of a film: each is rendered into the pictures of the one before, frame by frame.

    References of lip renderers are read from the film itself.

    Args:
        speakers: of one and the same video.
        out: the video file to write, as long as the film, or as the longest speech where the options say so.
        options: of all mouths.
        engine: what moves them.
        sound: the video's sound, such as the sum of all speeches.
        renderer: what draws; None is the default of films.
        style: for renderers that look at a style.
        crf: H.264 quality, 0 lossless .. 51.
        callbacks: called meanwhile; may raise to stop, and then no file remains.
        dub_options: what follows where the longest speech is longer than the film.

    Raises:
        InputError: no speaker, films that differ, or two speakers with one face.
        OutputError: the file cannot be written.
    """
    started, callbacks = time.perf_counter(), callbacks or Callbacks()
    renderer = renderer or open_renderer(DEFAULTS[FILM])
    check_speakers(speakers)
    film_end = (dub_options or DubOptions()).film_end
    count = len(speakers[0].film.track)
    longest = max(speaker.speech.num_frames(speaker.film.track.fps) for speaker in speakers)
    order = film_order(count, longest, film_end) if film_end != "cut" and longest > count else None
    jobs = []
    for speaker in speakers:
        film = speaker.film if order is None else speaker.film.in_order(order)
        track = dub_track(film.track, speaker.speech, options, engine, scenes=film.scenes)
        jobs.append(RenderJob.of_track(film, track, speaker.speech, style))
    stages = _Stages(renderer, jobs, callbacks)
    result = render_video(renderer, stages.last, out, sound=sound, crf=crf, callbacks=stages.callbacks, started=started)
    if callbacks.sections is not None:
        callbacks.sections.finish()
    return result


def check_speakers(speakers: Sequence[AnySpeaker]) -> None:
    """Check that speakers are of one film or picture, and of different faces.

    Raises:
        InputError: they are not; with their names.
    """
    if not speakers:
        raise InputError("nobody is to speak; give at least one face and its speech.")
    for speaker in speakers[1:]:
        speaker.check_shared(speakers[0])
    for one, other in itertools.combinations(speakers, 2):
        if shared_area(one.track, other.track) > SAME_FACE:
            raise InputError(
                f"{one.name} and {other.name} are the same face in {one.source}; choose different ones, such as "
                "numbers from left to right, or boxes."
            )


def shared_area(one: LandmarkTrack, other: LandmarkTrack) -> float:
    """0..1, mean area that two faces' boxes share over that of both, in frames that show both; 0 where none does."""
    both = one.valid & other.valid
    if not both.any():
        return 0.0
    a, b = (face_box_px(track.points_px[both]) for track in (one, other))
    sides = (a[:, 2:].minimum(b[:, 2:]) - a[:, :2].maximum(b[:, :2])).clamp(min=0)
    shared = sides.prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    return float((shared / union.clamp(min=1e-6)).mean())


def part_sections(sections: Sections | None, number: int) -> Sections | None:
    """Sections of one face's job; None where none are kept."""
    return None if sections is None else sections.part(number)


class _Stages:
    """Jobs of one renderer, each of which draws into the pictures of the one before.

    Args:
        renderer: of all.
        jobs: one a speaker, in turn.
        callbacks: of the last job; the others can be stopped by its progress, and keep sections of their own.
    """

    def __init__(self, renderer: Renderer, jobs: Sequence[RenderJob], callbacks: Callbacks) -> None:
        self._progress: tuple[int, int] = (0, jobs[0].num_frames)  # as reported last
        self._on_progress = callbacks.on_progress
        self.callbacks = Callbacks(
            None if self._on_progress is None else self._report,
            callbacks.on_picture,
            callbacks.on_latents,
            part_sections(callbacks.sections, len(jobs) - 1),
        )
        self.last = jobs[0]
        for number, job in enumerate(jobs[1:]):
            repeat = None if self._on_progress is None else self._repeat
            part_callbacks = Callbacks(repeat, sections=part_sections(callbacks.sections, number))
            self.last = _painted_over(job, renderer, self.last, part_callbacks)

    def _report(self, done: int, of: int) -> None:
        self._progress = (done, of)
        self._on_progress(done, of)

    def _repeat(self, *_: int) -> None:
        """Report the last job's progress again, which may raise to stop within another job."""
        self._on_progress(*self._progress)


def _painted_over(job: RenderJob, renderer: Renderer, before: RenderJob, callbacks: Callbacks) -> RenderJob:
    """A job on the pictures of another one."""

    def painted() -> Iterator[Tensor]:
        return renderer.render(before, callbacks)

    parts = {field.name: getattr(job.source, field.name) for field in fields(Film)}
    return RenderJob(
        PaintedFilm(**parts, painted=painted), job.motion, job.num_frames, job.fps, job.speech, job.style,
        job.of_nobody,
    )  # fmt: skip
