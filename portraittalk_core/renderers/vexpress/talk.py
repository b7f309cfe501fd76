"""One portrait and one speech clip become a video file that V-Express has painted."""

from __future__ import annotations

import time
from pathlib import Path

from ...media.video import VideoWriter
from ...pipelines.talk import Sound, TalkResult
from ...types import LandmarkTrack, Portrait, Speech
from ..repaint import Watch
from .pipeline import FPS, VExpressFiles, VExpressModels, VExpressOptions, paint_vexpress


def talk_vexpress(
    portrait: Portrait,
    track: LandmarkTrack | None,
    speech: Speech,
    models: VExpressFiles | VExpressModels,
    out: Path,
    options: VExpressOptions | None = None,
    video: tuple[Sound, int] = (None, 18),
    watch: Watch | None = None,
) -> TalkResult:
    """Let a portrait speak, as `vexpress.pipeline.paint_vexpress` does, into a file.

    Args:
        portrait: picture and landmarks of the face that is to speak.
        track: whose head is followed, and at which rate; None holds it still at 25 frames a second.
        speech: what is said.
        models: V-Express's files or networks.
        out: the video file to write.
        options: how to paint.
        video: the video's sound, the speech itself if None, and H.264 quality, 0 lossless .. 51.
        watch: told of layers and frames done, and of every picture; may raise to stop, and then no file remains.

    Raises:
        InputError: something given does not fit the rest.
        OutputError: the file cannot be written.
    """
    started, first = time.perf_counter(), 0.0
    options, watch = options or VExpressOptions(), watch or Watch()
    fps = FPS if track is None else track.fps
    sound, crf = video
    sound = speech if sound is None else sound
    count = speech.num_frames(fps)
    with VideoWriter(out, options.width, options.height, fps, sound=sound, crf=crf) as writer:
        given = (portrait, track, speech, models, options)
        for picture in paint_vexpress(*given, on_progress=watch.on_progress):
            if watch.on_picture is not None:
                watch.on_picture(picture)
            writer.write(picture)
            first = first or time.perf_counter() - started
        writer.close()
    return TalkResult(writer.path, count, fps, first, time.perf_counter() - started)
