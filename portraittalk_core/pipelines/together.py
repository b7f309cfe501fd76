"""Several faces of one picture, each with a speech of its own; who does not speak listens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..engines.contract import LANDMARKS, MotionEngine, check_makes, output_kind
from ..errors import InputError
from ..face.geometry import face_box_px
from ..motion.dub import fit_speech
from ..motion.listening import listeners
from ..motion.options import LARGEST_SEED, MotionOptions
from ..progress import Progress
from ..renderers.contract import Callbacks, Renderer, RenderJob, check_motion
from ..renderers.registry import open_renderer
from ..renderers.warp.build import source_size
from ..renderers.write import RenderResult, Sound, render_video
from ..style.prior import Style
from ..types import LandmarkTrack, Portrait, Speech
from .speakers import check_speakers, part_sections

SEAM = 0.03  # of a face's smaller side: half the width within which one face's part of a picture goes over to another's


@dataclass(frozen=True)
class PictureSpeaker:
    """One face of a picture, and what it says."""

    portrait: Portrait
    speech: Speech
    name: str = "a face"  # for messages

    @property
    def track(self) -> LandmarkTrack:
        """The face."""
        return self.portrait.landmarks

    @property
    def source(self) -> str:
        """The picture, for messages."""
        return self.portrait.source

    def check_shared(self, other: PictureSpeaker) -> None:
        """Check that another one is of the same picture.

        Raises:
            InputError: it is not.
        """
        if not torch.equal(self.portrait.picture, other.portrait.picture):
            raise InputError("all speakers must be of one picture; give faces of the same one.")


def talk_speakers(
    speakers: Sequence[PictureSpeaker],
    out: Path,
    options: MotionOptions | None = None,
    *,
    engine: MotionEngine,
    renderer: Renderer | None = None,
    style: Style | None = None,
    sound: Sound = None,
    crf: int = 18,
    callbacks: Callbacks | None = None,
) -> RenderResult:
    """Render a picture whose faces speak, each its own speech, to a video file as long as the longest one.

    All speeches begin together. In silence, and after its end, a face listens: its mouth rests, it looks to who speaks,
    nods, blinks and moves its head as it does in pauses. Each face has blinks, eye and head motion of its own.

    Args:
        speakers: of one and the same picture.
        out: the video file to write.
        options: of all faces; from the second one on with another seed.
        engine: what moves them.
        renderer: what draws; None is the warp. It has to leave the picture beside the face as it is.
        style: for renderers that look at a style; the engine's stands in the options.
        sound: the video's sound, such as the sum of all speeches.
        crf: H.264 quality, 0 lossless .. 51.
        callbacks: called meanwhile; may raise to stop, and then no file remains.

    Raises:
        InputError: no speaker, pictures that differ, two speakers with one face, or a renderer that paints all of the
            picture anew.
        OutputError: the file cannot be written.
    """
    started, options, callbacks = time.perf_counter(), options or MotionOptions(), callbacks or Callbacks()
    renderer = renderer or open_renderer()
    check_speakers(speakers)
    layout = getattr(renderer, "keypoint_layout", None)
    check_makes(engine, LANDMARKS, *([layout] if layout else []))
    total = max(speaker.speech.num_frames(options.fps) for speaker in speakers)
    listening = None if callbacks.on_progress is None else lambda *_: callbacks.on_progress(0, total)
    faces = [speaker.track for speaker in speakers]
    listening_to = listeners([speaker.speech for speaker in speakers], faces, options, total)
    jobs = []
    for number, speaker in enumerate(speakers):
        speech = fit_speech(speaker.speech, total, options.fps).speech
        face_options = replace(
            options, seed=(options.seed + number) % (LARGEST_SEED + 1), listening=listening_to[number]
        )
        motion = engine.spans(speech, speaker.portrait.landmarks, face_options, listening)
        jobs.append(
            RenderJob(speaker.portrait, motion, total, options.fps, speech, style, output_kind(engine) != LANDMARKS)
        )  # fmt: skip
    return render_together(renderer, jobs, out, sound=sound, crf=crf, callbacks=callbacks, started=started)


def render_together(
    renderer: Renderer, jobs: Sequence[RenderJob], out: Path, *, callbacks: Callbacks | None = None, **more: object
) -> RenderResult:
    """Render jobs on faces of one picture into one video file.

    Args:
        renderer: of all.
        jobs: of as many frames each.
        out: the video file to write.
        callbacks: called meanwhile.
        more: as of `renderers.write.render_video`.
    """
    return render_video(_Together(renderer, jobs), jobs[0], out, callbacks=callbacks, **more)


def parts_of_picture(portraits: Sequence[Portrait]) -> Tensor:
    """(N, H, W) share 0..1 of each face in every pixel of their picture, summing to 1: that of the nearest face.

    A distance counts from the ellipse in a face's box. Beside the line at the same distance from two faces their parts
    go over into each other.
    """
    height, width = portraits[0].picture.shape[:2]
    ys, xs = torch.arange(height)[:, None] + 0.5, torch.arange(width)[None] + 0.5
    distances, sides = [], []
    for portrait in portraits:
        x0, y0, x1, y1 = face_box_px(portrait.landmarks.points_px)[0].tolist()
        half = max((x1 - x0) / 2, 1.0), max((y1 - y0) / 2, 1.0)
        distance = torch.hypot((xs - (x0 + x1) / 2) / half[0], (ys - (y0 + y1) / 2) / half[1])
        distances.append((distance - 1) * min(half))
        sides.append(2 * min(half))
    return torch.softmax(-torch.stack(distances) / (SEAM * min(sides)), 0)


class _Together:
    """A renderer that draws several jobs on faces of one picture, a part of the picture each.

    Args:
        renderer: of all.
        jobs: of as many frames each.

    Raises:
        InputError: the renderer does not leave the picture beside the face as it is.
    """

    def __init__(self, renderer: Renderer, jobs: Sequence[RenderJob]) -> None:
        self._renderer, self._jobs = renderer, [check_motion(renderer, job) for job in jobs]
        for job in jobs:
            _check_keeps_picture(renderer, job)
        self.keypoint_layout = getattr(renderer, "keypoint_layout", None)
        self.transparent = getattr(renderer, "transparent", False)

    def output_size(self, job: RenderJob) -> tuple[int, int]:
        """Width and height of the picture."""
        return source_size(job)

    def render(self, _: RenderJob, callbacks: Callbacks | None = None) -> Iterator[Tensor]:
        """(H, W, 3) uint8 pictures, or (H, W, 4)."""
        callbacks, count = callbacks or Callbacks(), len(self._jobs)
        reports = _shared_progress(callbacks.on_progress, count)
        streams, masks = [], [None] * count
        for number, (job, report) in enumerate(zip(self._jobs, reports, strict=True)):
            sections = part_sections(callbacks.sections, number)
            on_mask = None if callbacks.on_mask is None else partial(masks.__setitem__, number)
            part_callbacks = Callbacks(report, None, callbacks.on_latents, sections, on_mask)
            streams.append(self._renderer.render(job, part_callbacks))
        parts = parts_of_picture([job.source for job in self._jobs])[..., None]
        for pictures in zip(*streams, strict=True):
            if callbacks.on_mask is not None and masks[0] is not None:
                callbacks.on_mask(_composed([mask[..., None] for mask in masks], parts)[..., 0])
            yield pictures[0] if count == 1 else _composed(pictures, parts)


def _check_keeps_picture(renderer: Renderer, job: RenderJob) -> None:
    if getattr(renderer, "repaints_all", False) or renderer.output_size(job) != source_size(job):
        raise InputError(
            "this renderer paints all of a picture anew, around one face; several faces speak with one that leaves the "
            "rest of the picture as it is: warp, liveportrait, facevid2vid, a lip renderer, or identitynet with "
            "`only_face`."
        )


def _composed(pictures: Sequence[Tensor], parts: Tensor) -> Tensor:
    """(H, W, C) uint8 of pictures, by their (N, H, W, 1) parts."""
    total = pictures[0].float().mul_(parts[0])
    for picture, part in zip(pictures[1:], parts[1:], strict=True):
        total.addcmul_(picture.float(), part)
    return total.add_(0.5).clamp_(0, 255).to(torch.uint8)


def _shared_progress(on_progress: Progress | None, count: int) -> list[Progress | None]:
    """Callbacks of jobs that are rendered side by side, which report what all of them have done."""
    if on_progress is None:
        return [None] * count
    done, totals = [0] * count, [0] * count

    def report(number: int, value: int, total: int) -> None:
        done[number], totals[number] = value, total
        known_totals = [value for value in totals if value]
        on_progress(sum(done), sum(known_totals) + max(known_totals, default=1) * (count - len(known_totals)))

    return [lambda value, total, number=number: report(number, value, total) for number in range(count)]
