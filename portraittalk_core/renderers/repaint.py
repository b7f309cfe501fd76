"""Repainting of pictures or latents by SD1.5 in batches of frames, with finished sections cached.

Shapes: B frames of a batch, T of all, H and W pixels, h = H/8 and w = W/8.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..diffusion.windows import chunks
from ..media.video_write import VideoWriter
from ..progress import Progress
from ..threads import one_torch_thread
from .contract import Callbacks
from .identitynet.painter import Painted
from .sections import Section, Sections
from .write import RenderResult, Sound, write_pictures


class Painter(Protocol):
    """Interface of a painter: SD1.5 on diffusers in `identitynet.painter`, or in ComfyUI in the nodes.

    `first` is the number of the first frame given; `fixed` are latents (O, 4, h, w) of the frames just before it, which
    are finished: they are looked at, but not given back.
    """

    batch: int  # frames at once, finished ones included
    # of them finished already, from the second batch on; 0 for none; a whole batch: they are looked at only, and do not
    # count among the frames at once
    overlap: int
    steps: int  # calls of on_step for a batch

    def paint(self, frames: Tensor, on_step: Progress | None, first: int, fixed: Tensor | None) -> Painted:
        """Repaint frames (B, H, W, 3) float 0..1."""

    def paint_latents(self, latents: Tensor, on_step: Progress | None, first: int, fixed: Tensor | None) -> Painted:
        """Paint latents (B, 4, h, w), from noise if they are empty."""


def paint_latents(
    latents: Tensor,
    painter: Painter,
    out: Path,
    fps: Fraction,
    *,
    sound: Sound = None,
    crf: int = 18,
    callbacks: Callbacks | None = None,
) -> RenderResult:
    """Paint latents (T, 4, h, w), one a frame, into a video file.

    Raises:
        OutputError: the file cannot be written.
    """
    started, callbacks = time.perf_counter(), callbacks or Callbacks()
    total, _, height, width = latents.shape
    with VideoWriter(out, 8 * width, 8 * height, fps, sound=sound, crf=crf) as writer:
        painted = _each_batch(_LatentSource(latents), total, painter, painter.paint_latents, callbacks)
        return write_pictures(writer, painted, callbacks, started)


def repainted(pictures: Iterator[Tensor], total: int, painter: Painter, callbacks: Callbacks) -> Iterator[Tensor]:
    """Repaint pictures in batches.

    Args:
        pictures: (H, W, 3) uint8, drawn one batch ahead at most.
        total: how many there are.
        painter: what paints.
        callbacks: called meanwhile; not with pictures.

    Yields:
        (H, W, 3) uint8, as many.
    """
    return _each_batch(_PictureSource(pictures), total, painter, painter.paint, callbacks)


class _PictureSource:
    """Source of batches from an iterator of pictures, all of which must be consumed in order."""

    def __init__(self, pictures: Iterator[Tensor]) -> None:
        self._pictures = iter(pictures)

    def take(self, frames: range) -> Tensor:
        with one_torch_thread():
            taken = list(itertools.islice(self._pictures, len(frames)))
        return torch.stack(taken).float() / 255

    def skip(self, frames: range) -> None:
        with one_torch_thread():
            for _ in itertools.islice(self._pictures, len(frames)):
                pass


class _LatentSource:
    """Source of batches from latents (T, 4, h, w)."""

    def __init__(self, latents: Tensor) -> None:
        self._latents = latents

    def take(self, frames: range) -> Tensor:
        return self._latents[frames.start : frames.stop]

    def skip(self, frames: range) -> None:
        pass


def _next_frames(done: int, total: int, painter: Painter) -> range:
    """Frame numbers of the next batch; with overlap, a painter gets finished frames before them.

    A painter that ran out of memory may have made its batch smaller meanwhile.
    """
    if not painter.overlap or painter.overlap >= painter.batch:
        return range(done, min(done + painter.batch, total))
    stops = (chunk.frames.stop for chunk in chunks(total, painter.batch, painter.overlap))
    return range(done, next(stop for stop in stops if stop > done))


def _each_batch(
    source: _PictureSource | _LatentSource, total: int, painter: Painter, paint: Callable, callbacks: Callbacks
) -> Iterator[Tensor]:
    done, previous = 0, None
    while done < total:
        frames = _next_frames(done, total, painter)
        section = _finished_section(frames, total, painter, callbacks.sections)
        if section is None:
            num_new = 0 if painter.overlap >= painter.batch else len(frames)
            fixed = None if previous is None else previous[max(len(previous) + num_new - painter.batch, 0) :]
            on_step = _steps_of(frames, total, painter.steps, callbacks.on_progress)
            section = _painted(paint(source.take(frames), on_step, done, fixed), done, painter, callbacks.sections)
        else:
            source.skip(range(done, section.stop))
            painter.batch = section.batch  # as the run that began it: what was too much then is too much now
        previous = _last_latents(previous, section.latents, painter)
        if callbacks.on_latents and section.latents is not None:
            callbacks.on_latents(section.latents)
        yield from section.pictures
        done = section.stop
        if callbacks.on_progress:
            callbacks.on_progress(done * painter.steps, total * painter.steps)


def _finished_section(frames: range, total: int, painter: Painter, sections: Sections | None) -> Section | None:
    """Finished section of an earlier run for these frames; it may be longer if frames are independent."""
    if sections is None:
        return None
    if painter.overlap:
        return sections.find(frames.start, len(frames), exactly=True)
    return sections.find(frames.start, total - frames.start)


def _painted(painted: Painted, first: int, painter: Painter, sections: Sections | None) -> Section:
    pictures = torch.stack([frame.clamp(0, 1).mul(255).round().to(torch.uint8).cpu() for frame in painted.frames])
    section = Section(first, pictures, painted.latents, painter.batch)
    if sections is not None and painted.latents is not None:  # None: nothing was painted, so saving gains nothing
        sections.save(section)
    return section


def _last_latents(previous: Tensor | None, latents: Tensor | None, painter: Painter) -> Tensor | None:
    """Latents of the last frames, at most a batch, for overlap; None for a painter without overlap."""
    if painter.overlap == 0 or latents is None:
        return None
    return (latents if previous is None else torch.cat([previous.to(latents), latents]))[-painter.batch :]


def _steps_of(frames: range, total: int, steps: int, on_progress: Progress | None) -> Progress | None:
    if on_progress is None:
        return None

    def on_step(step: int, of: int) -> None:
        # counted in frames times steps, so that the time left is right while a batch is being painted
        on_progress(frames.start * steps + len(frames) * min(step, of) * steps // max(of, 1), total * steps)

    return on_step
