"""Only the face of pictures of any size is painted: cut out, painted at SD1.5's own size, and pasted back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from ..errors import InputError
from ..face.crop import FaceCrop
from ..media.video import VideoWriter
from ..pipelines.talk import Sound, TalkResult, needed_reach_px
from ..types import LandmarkTrack, Portrait
from .paste import PasteOptions, paste_frames
from .repaint import Painter, Watch, repainted
from .warp.renderer import PortraitRenderer


def painted_faces(
    pictures: Iterable[Tensor],
    plan: FaceCrop,
    painter: Painter,
    paste: PasteOptions | None = None,
    watch: Watch | None = None,
) -> Iterator[Tensor]:
    """Pictures whose face is painted anew; all else in them stays as it is, to the last bit.

    Of the pictures no more are in memory than the painter paints at once.

    Args:
        pictures: (H, W, 3) uint8, one for every frame of the plan.
        plan: where the face is; its crop's size is the painter's.
        painter: SD1.5 with the face's identity.
        paste: how the painted face is blended in.
        watch: what to tell meanwhile; pictures are not told here.

    Yields:
        (H, W, 3) uint8, as many.

    Raises:
        InputError: fewer pictures than the plan has frames, or another size.
    """
    to_cut, behind = itertools.tee(pictures)
    crops = (plan.crop(picture, index) for index, picture in enumerate(to_cut))
    painted = repainted(crops, len(plan), painter, watch or Watch())
    yield from paste_frames(behind, painted, plan, paste)


def paint_face(
    portrait: Portrait,
    track: LandmarkTrack,
    painter: Painter,
    out: Path,
    plan: FaceCrop,
    *,
    video: tuple[Sound, int] = (None, 18),
    watch: Watch | None = None,
) -> TalkResult:
    """Let a portrait follow a track at its own size: each frame is warped, then its face alone painted anew.

    Args:
        portrait: picture of any size and landmarks of the face that is to move.
        track: where its landmarks go, on the portrait's picture.
        painter: SD1.5 with the face's identity.
        out: the video file to write.
        plan: the crop of every frame of the track.
        video: the sound to put into the video, none if None, and the H.264 quality.
        watch: what to tell meanwhile.

    Raises:
        OutputError: the file cannot be written.
    """
    watch = watch or Watch()
    warped = PortraitRenderer(portrait, needed_reach_px(portrait, track)).render(track)
    made = painted_faces(warped, plan, painter, PasteOptions("face"), watch)
    height, width = portrait.picture.shape[:2]
    with VideoWriter(out, width, height, track.fps, sound=video[0], crf=video[1]) as writer:
        return written(writer, made, len(track), watch)


def written(writer: VideoWriter, pictures: Iterator[Tensor], total: int, watch: Watch) -> TalkResult:
    """Write pictures as they come, close the file, and let go of finished sections.

    Raises:
        InputError: there are none.
        OutputError: the file cannot be written.
    """
    started, first = time.perf_counter(), 0.0
    for picture in pictures:
        if watch.on_picture:
            watch.on_picture(picture)
        writer.write(picture)
        first = first or time.perf_counter() - started
    if total == 0 or not first:
        raise InputError("there is nothing to paint: 0 frames.")
    writer.close()
    if watch.sections is not None:
        watch.sections.finish()
    return TalkResult(writer.path, total, writer.fps, first, time.perf_counter() - started)
