"""A filmed face says something else: its mouth follows a new speech, the rest of the video stays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..engines.registry import MotionEngine
from ..errors import InputError
from ..face.crop import FaceCrop
from ..face.mesh.landmarks import MeshBackend, track_faces
from ..media.video import VideoWriter, probe_video, read_pictures
from ..motion.dub import dub_track, resting_frame
from ..renderers.face_region import painted_faces, written
from ..renderers.paste import PasteOptions
from ..renderers.repaint import Painter, Watch
from ..renderers.warp.renderer import PortraitRenderer
from ..threads import one_torch_thread
from ..types import LandmarkTrack, MotionOptions, Portrait, Speech
from .talk import Sound, TalkResult, compare_lengths

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Dub:
    """A video and where its face goes from now on."""

    video: Path
    filmed: LandmarkTrack  # as it is in the video; `valid` is False where no face was seen
    spoken: LandmarkTrack  # with the mouth of the new speech

    @property
    def num_faceless(self) -> int:
        """Frames without a face."""
        return int((~self.filmed.valid).sum())


def plan_dub(
    video: Path,
    speech: Speech,
    options: MotionOptions,
    engine: MotionEngine,
    *,
    mesh: MeshBackend | None = None,
    face: tuple[int, str] = (0, "size"),
    on_progress: Progress | None = None,
) -> Dub:
    """Find the face of a video and give it the mouth of a speech.

    Args:
        video: with a face in some of its frames, read one at a time.
        speech: what is to be said; after its end the mouth rests closed.
        options: of the mouth; its fps, head motion and blinks do not count.
        engine: what moves the mouth.
        mesh: what finds landmarks; None opens one.
        face: which one, and how faces are counted, see `face.mesh.detect_faces`.
        on_progress: called with frames seen and in all; may raise to stop.

    Raises:
        MediaError: the video cannot be read.
        NoFaceError: no frame shows the face.
    """
    fps = probe_video(video).fps
    pictures = read_pictures(video, fps, on_progress=on_progress)
    index, order = face
    filmed = track_faces(pictures, fps, mesh, index, order, on_missing="interpolate", source=Path(video).name)
    return Dub(Path(video), filmed, dub_track(filmed, speech, options, engine))


def dubbed_pictures(dub: Dub) -> Iterator[Tensor]:
    """Every frame with its face warped to the new landmarks; one without a face stays as it is, to the last bit.

    Yields:
        (H, W, 3) uint8.

    Raises:
        InputError: the video has changed since.
    """
    for index, picture in enumerate(_filmed_pictures(dub)):
        frame = slice(index, index + 1)
        here, there = dub.filmed.slice(frame.start, frame.stop), dub.spoken.slice(frame.start, frame.stop)
        if not bool(here.valid) or torch.equal(here.points, there.points):
            yield picture
            continue
        here = replace(here, valid=torch.ones(1, dtype=torch.bool))
        with one_torch_thread():
            made = next(PortraitRenderer(Portrait(picture, here, dub.video.name)).render(there))
        yield made


def resting_portrait(dub: Dub) -> Portrait:
    """The frame that shows the face best: what tells whose it is."""
    best = resting_frame(dub.filmed)
    index = int((dub.filmed.points == best.points).flatten(1).all(1).int().argmax())
    for number, picture in enumerate(_filmed_pictures(dub)):
        if number == index:
            return Portrait(picture, best, dub.video.name)
    raise InputError(f"{dub.video.name} has become shorter while it was read.")


def write_dub(
    dub: Dub,
    out: Path,
    *,
    sound: Sound = None,
    crf: int = 18,
    watch: Watch | None = None,
    painted: tuple[Painter, FaceCrop] | None = None,
) -> TalkResult:
    """Write the dubbed video; of its pictures only those at hand are in memory.

    Args:
        dub: of `plan_dub`.
        out: the video file to write, as long as the video.
        sound: the new speech; cut, or silence added, where it is not as long.
        crf: H.264 quality, 0 lossless .. 51.
        watch: what to tell meanwhile.
        painted: SD1.5, which paints the face of every warped frame anew, and the crop of `dub.spoken`; None warps only.

    Raises:
        OutputError: the file cannot be written.
    """
    watch, total = watch or Watch(), len(dub.filmed)
    compare_lengths(dub.filmed.seconds, sound)
    started = time.perf_counter()
    pictures: Iterable[Tensor] = dubbed_pictures(dub)
    if painted is None:
        pictures = _counted(pictures, total, watch.on_progress)
    else:
        painter, plan = painted
        pictures = painted_faces(pictures, plan, painter, PasteOptions("face"), watch)
    with VideoWriter(out, dub.filmed.width, dub.filmed.height, dub.filmed.fps, sound=sound, crf=crf) as writer:
        made = written(writer, iter(pictures), total, watch)
    return replace(made, elapsed_s=time.perf_counter() - started)


def _filmed_pictures(dub: Dub) -> Iterator[Tensor]:
    """As many as the landmarks are: a file read twice gives the same."""
    for number, picture in enumerate(read_pictures(dub.video, dub.filmed.fps)):
        if number == len(dub.filmed):
            return
        yield picture


def _counted(pictures: Iterable[Tensor], total: int, on_progress: Progress | None) -> Iterator[Tensor]:
    for done, picture in enumerate(pictures, 1):
        yield picture
        if on_progress:
            on_progress(done, total)
