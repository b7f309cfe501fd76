"""Frames of a warped portrait, or latents, become a video that SD1.5 has painted, a batch of frames at a time.

Shapes: B frames of a batch, T of all, H and W pixels, h = H/8 and w = W/8.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..diffusion.windows import chunks
from ..engines.registry import MotionEngine
from ..errors import InputError
from ..media.video import VideoWriter
from ..pipelines.talk import Sound, TalkResult, fit_track, needed_reach_px, talking_pictures
from ..threads import one_torch_thread
from ..types import LandmarkTrack, MotionOptions, Portrait, Speech
from .identitynet.painter import Painted
from .sections import Section, Sections
from .warp.renderer import PortraitRenderer

Progress = Callable[[int, int], None]


class Painter(Protocol):
    """SD1.5 with everything it needs, behind one call; `diffusion.painter` has one, ComfyUI's nodes another.

    `first` is the number of the first frame given; `fixed` are latents (O, 4, h, w) of the frames just before it, which
    are finished: they are looked at, but not given back.
    """

    batch: int  # frames at once, finished ones included
    overlap: int  # of them finished already, from the second batch on; 0 for none
    steps: int  # calls of on_step for a batch

    def paint(self, frames: Tensor, on_step: Progress | None, first: int, fixed: Tensor | None) -> Painted:
        """Paint frames (B, 3, H, W) float 0..1 anew."""

    def paint_latents(self, latents: Tensor, on_step: Progress | None, first: int, fixed: Tensor | None) -> Painted:
        """Paint latents (B, 4, h, w), from noise if they are empty."""


@dataclass(frozen=True)
class Watch:
    """What a caller wants to be told; each may raise to stop, and then no file remains.

    With `sections`, finished ones are kept until the video is whole: the same job, begun again, goes on from them.
    """

    on_progress: Progress | None = None  # steps of frames done, and in all
    on_picture: Callable[[Tensor], None] | None = None  # every picture (H, W, 3) uint8, before it is written
    on_latents: Callable[[Tensor], None] | None = None  # latents (B, 4, h, w) of every batch
    sections: Sections | None = None  # where finished ones are; its key must tell all that the result depends on


def paint_track(
    portrait: Portrait,
    track: LandmarkTrack,
    painter: Painter,
    out: Path,
    *,
    sound: Sound = None,
    transfer: str = "auto",
    crf: int = 18,
    watch: Watch | None = None,
) -> TalkResult:
    """Let a portrait follow a landmark track: each frame is warped, then painted anew.

    Args:
        portrait: picture and landmarks of the face that is to move, sides a multiple of 8.
        track: where its landmarks go, or another face's track.
        painter: SD1.5 with the face's identity.
        out: the video file to write.
        sound: the sound to put into the video; none if None.
        transfer: see `talk.render_track`.
        crf: H.264 quality, 0 lossless .. 51.
        watch: what to tell meanwhile.

    Raises:
        InputError: the track's picture has another shape than the portrait.
        OutputError: the file cannot be written.
    """
    watch = watch or Watch()
    moved = fit_track(portrait, track, transfer)
    height, width = portrait.picture.shape[:2]
    pictures = PortraitRenderer(portrait, needed_reach_px(portrait, moved)).render(moved)
    with VideoWriter(out, width, height, track.fps, sound=sound, crf=crf) as writer:
        return _write(writer, repainted(pictures, len(track), painter, watch), len(track), watch)


def paint_talk(
    portrait: Portrait,
    speech: Speech,
    painter: Painter,
    out: Path,
    options: MotionOptions,
    *,
    engine: MotionEngine,
    video: tuple[Sound, int] = (None, 18),
    watch: Watch | None = None,
) -> TalkResult:
    """Let a portrait speak: each frame is warped, then painted anew.

    Args:
        portrait: picture and landmarks of the face that is to speak, sides a multiple of 8.
        speech: what it says.
        painter: SD1.5 with the face's identity.
        out: the video file to write.
        options: frame rate, mouth gain, head motion, blinks, seed.
        engine: what moves the face.
        video: the sound to put into the video, the speech itself if None, and the H.264 quality.
        watch: what to tell meanwhile.

    Raises:
        OutputError: the file cannot be written.
    """
    watch, (sound, crf) = watch or Watch(), video
    total = speech.num_frames(options.fps)
    height, width = portrait.picture.shape[:2]
    hearing = None if watch.on_progress is None else lambda *_: watch.on_progress(0, total * painter.steps)
    with VideoWriter(out, width, height, options.fps, sound=sound if sound is not None else speech, crf=crf) as writer:
        pictures = talking_pictures(portrait, speech, options, engine, hearing)
        return _write(writer, repainted(pictures, total, painter, watch), total, watch)


def paint_latents(
    latents: Tensor,
    painter: Painter,
    out: Path,
    fps: Fraction,
    *,
    sound: Sound = None,
    crf: int = 18,
    watch: Watch | None = None,
) -> TalkResult:
    """Paint latents (T, 4, h, w), one a frame, into a video; see `paint_track`."""
    watch = watch or Watch()
    total, _, height, width = latents.shape
    with VideoWriter(out, 8 * width, 8 * height, fps, sound=sound, crf=crf) as writer:
        painted = _each_batch(_Given(latents), total, painter, painter.paint_latents, watch)
        return _write(writer, painted, total, watch)


def repainted(pictures: Iterator[Tensor], total: int, painter: Painter, watch: Watch) -> Iterator[Tensor]:
    """Pictures painted anew.

    Args:
        pictures: (H, W, 3) uint8, drawn one batch ahead at most.
        total: how many there are.
        painter: what paints.
        watch: what to tell meanwhile; pictures are not told here.

    Yields:
        (H, W, 3) uint8, as many.
    """
    return _each_batch(_Drawn(pictures), total, painter, painter.paint, watch)


class _Drawn:
    """Frames that are drawn one after another, also those that nobody needs any more."""

    def __init__(self, pictures: Iterator[Tensor]) -> None:
        self._pictures = iter(pictures)

    def take(self, frames: range) -> Tensor:
        with one_torch_thread():
            drawn = list(itertools.islice(self._pictures, len(frames)))
        return torch.stack(drawn).permute(0, 3, 1, 2).float() / 255

    def skip(self, frames: range) -> None:
        with one_torch_thread():
            for _ in itertools.islice(self._pictures, len(frames)):
                pass


class _Given:
    """Latents (T, 4, h, w) that are there already."""

    def __init__(self, latents: Tensor) -> None:
        self._latents = latents

    def take(self, frames: range) -> Tensor:
        return self._latents[frames.start : frames.stop]

    def skip(self, frames: range) -> None:
        pass


def new_frames(total: int, painter: Painter) -> Iterator[range]:
    """The frames that each batch adds."""
    done = 0
    while done < total:
        one = _next_frames(done, total, painter)
        yield one
        done = one.stop


def _next_frames(done: int, total: int, painter: Painter) -> range:
    """The frames that the next batch adds; a batch of a painter with overlap sees finished ones before them.

    A painter that ran out of memory may have made its batch smaller meanwhile.
    """
    if not painter.overlap:
        return range(done, min(done + painter.batch, total))
    stops = (chunk.frames.stop for chunk in chunks(total, painter.batch, painter.overlap))
    return range(done, next(stop for stop in stops if stop > done))


def _each_batch(
    source: _Drawn | _Given, total: int, painter: Painter, paint: Callable, watch: Watch
) -> Iterator[Tensor]:
    done, kept = 0, None
    while done < total:
        one = _next_frames(done, total, painter)
        section = _finished(one, total, painter, watch.sections)
        if section is None:
            fixed = None if kept is None else kept[len(kept) + len(one) - painter.batch :]
            on_step = _steps_of(one, total, painter.steps, watch.on_progress)
            section = _painted(paint(source.take(one), on_step, done, fixed), done, painter, watch.sections)
        else:
            source.skip(range(done, section.stop))
            painter.batch = section.batch  # as the run that began it: what was too much then is too much now
        kept = _last(kept, section.latents, painter)
        if watch.on_latents and section.latents is not None:
            watch.on_latents(section.latents)
        yield from section.pictures
        done = section.stop
        if watch.on_progress:
            watch.on_progress(done * painter.steps, total * painter.steps)


def _finished(one: range, total: int, painter: Painter, sections: Sections | None) -> Section | None:
    """What an earlier run has made of these frames, or of some more where they do not look at each other."""
    if sections is None:
        return None
    if painter.overlap:
        return sections.find(one.start, len(one), exactly=True)
    return sections.find(one.start, total - one.start)


def _painted(painted: Painted, first: int, painter: Painter, sections: Sections | None) -> Section:
    frames = [frame.permute(1, 2, 0).clamp(0, 1).mul(255).round().to(torch.uint8).cpu() for frame in painted.frames]
    section = Section(first, torch.stack(frames), painted.latents, painter.batch)
    if sections is not None and painted.latents is not None:  # without, nothing was painted: as soon drawn as read
        sections.save(section)
    return section


def _last(kept: Tensor | None, latents: Tensor | None, painter: Painter) -> Tensor | None:
    """Latents of the last frames, as many as a batch may begin with; None for a painter that needs none."""
    if painter.overlap == 0 or latents is None:
        return None
    return (latents if kept is None else torch.cat([kept.to(latents), latents]))[-painter.batch :]


def _steps_of(one: range, total: int, steps: int, on_progress: Progress | None) -> Progress | None:
    if on_progress is None:
        return None

    def on_step(step: int, of: int) -> None:
        # counted in frames times steps, so that the time left is right while a batch is being painted
        on_progress(one.start * steps + len(one) * min(step, of) * steps // max(of, 1), total * steps)

    return on_step


def _write(writer: VideoWriter, pictures: Iterator[Tensor], total: int, watch: Watch) -> TalkResult:
    started, first = time.perf_counter(), 0.0
    if total == 0:
        raise InputError("there is nothing to paint: 0 frames.")
    for done, picture in enumerate(pictures, 1):
        if watch.on_picture:
            watch.on_picture(picture)
        writer.write(picture)
        first = first or time.perf_counter() - started if done == 1 else first
    writer.close()
    if watch.sections is not None:
        watch.sections.finish()
    return TalkResult(writer.path, total, writer.fps, first, time.perf_counter() - started)
