"""Rendering of a job to a video file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from ..errors import InputError
from ..media.alpha_write import PictureFolder, open_alpha_writer
from ..media.video_write import Sound, VideoWriter
from .contract import Callbacks, Renderer, RenderJob, check_motion


@dataclass(frozen=True)
class RenderResult:
    """Output file, frame count and speed of a rendering."""

    path: Path
    num_frames: int
    fps: Fraction
    first_frame_s: float  # from the beginning until the first frame was encoded
    elapsed_s: float  # from the beginning until the file was complete

    @property
    def seconds(self) -> float:
        """Length of the video."""
        return float(self.num_frames / self.fps)

    @property
    def speed(self) -> float:
        """Seconds of video per second of work."""
        return self.seconds / max(self.elapsed_s, 1e-9)


def render_video(
    renderer: Renderer,
    job: RenderJob,
    out: Path,
    *,
    sound: Sound = None,
    crf: int = 18,
    callbacks: Callbacks | None = None,
    started: float | None = None,
) -> RenderResult:
    """Render a job to a video file, which is written atomically.

    Args:
        renderer: what draws.
        job: what is drawn.
        out: the video file to write; opened first, so that a bad path is an error before the work. Of a renderer whose
            attribute `transparent` is true, a file or folder that can hold transparency, see `media.alpha_write`.
        sound: the video's sound; cut, or followed by silence, where it is not as long.
        crf: H.264 quality, 0 lossless .. 51.
        callbacks: called meanwhile.
        started: `time.perf_counter()` of the beginning, for the result's times; now if None.

    Raises:
        InputError: the renderer drew nothing, or cannot draw this kind of motion.
        OutputError: the file cannot be written.
    """
    job = check_motion(renderer, job)
    started, callbacks = time.perf_counter() if started is None else started, callbacks or Callbacks()
    width, height = renderer.output_size(job)
    opened = open_alpha_writer if getattr(renderer, "transparent", False) else VideoWriter
    with opened(out, width, height, job.fps, sound=sound, crf=crf) as writer:
        return write_pictures(writer, renderer.render(job, callbacks), callbacks, started)


def write_pictures(
    writer: VideoWriter | PictureFolder, pictures: Iterator[Tensor], callbacks: Callbacks, started: float
) -> RenderResult:
    """Encode pictures as they come, close the file, and drop finished sections.

    Raises:
        InputError: there are no pictures.
        OutputError: the file cannot be written.
    """
    count, first_s = 0, 0.0
    for picture in pictures:
        if callbacks.on_picture is not None:
            callbacks.on_picture(picture)
        writer.write(picture)
        count += 1
        first_s = first_s or time.perf_counter() - started
    if count == 0:
        raise InputError("there is nothing to render: 0 frames.")
    writer.close()
    if callbacks.sections is not None:
        callbacks.sections.finish()
    return RenderResult(writer.path, count, writer.fps, first_s, time.perf_counter() - started)
