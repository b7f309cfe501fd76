"""Conversion of VIDEO: to a file that shows it, whole or in part, or to its frames in memory.

A VIDEO is what has get_stream_source, save_to or get_components, of whichever class. A trimmed or cropped one gives the
untouched file as its source; it tells by its duration and its dimensions.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from pathlib import Path

from ...portraittalk_core.errors import InputError
from ...portraittalk_core.media.video_write import VideoWriter
from ...portraittalk_core.types import as_fps
from .convert import to_pictures
from .convert_audio import to_sound
from .paths import temp_folder

log = logging.getLogger(__name__)

DURATION_S = 0.02  # of which two durations may differ and be one
CRF = 16  # of frames that are written out
# what another pack's class, or FFmpeg in it, raises where it cannot do what is asked
FAILURES = (OSError, ValueError, RuntimeError, TypeError, AttributeError, LookupError, AssertionError)


@contextmanager
def video_file(video: object) -> Iterator[Path]:
    """The file behind a VIDEO; one that is in memory or a part of a file is written out for as long as needed.

    Raises:
        InputError: not a VIDEO, or one that cannot be read.
    """
    source = _method_result(video, "get_stream_source")
    if isinstance(source, str | Path) and _is_same_video(video, Path(source)):
        yield Path(source)
        return
    with tempfile.TemporaryDirectory(dir=temp_folder(), prefix="portraittalk_") as folder:
        path = Path(folder) / "video.mp4"
        _write(video, source, path)
        yield path


def video_frames(video: object) -> tuple[object, Fraction] | None:
    """IMAGE frames and frames per second of a VIDEO that is in memory, as Create Video makes it; None of a file.

    Raises:
        InputError: not a VIDEO.
    """
    from comfy_api.input_impl import VideoFromComponents

    in_file = any(hasattr(video, name) for name in ("get_stream_source", "save_to"))
    if in_file and not isinstance(video, VideoFromComponents):
        return None
    parts = _components(video)
    return parts.images, as_fps(Fraction(parts.frame_rate))


def video_audio(video: object) -> object | None:
    """The AUDIO of a VIDEO that is in memory; None where it has none."""
    return getattr(_components(video), "audio", None)


def _write(video: object, source: object, path: Path) -> None:
    """Write a VIDEO out: its bytes, else as it saves itself, else frame by frame from its components."""
    if isinstance(source, BytesIO):
        path.write_bytes(source.getvalue())
        if _is_same_video(video, path):
            return
    if hasattr(video, "save_to"):
        try:
            video.save_to(str(path))
        except FAILURES as error:
            log.info("the video cannot save itself (%s); its frames are written.", error)
        else:
            if _is_same_video(video, path, ("get_dimensions",)) or not hasattr(video, "get_components"):
                return
    parts = _components(video)
    pictures = to_pictures(parts.images)
    height, width = pictures.size
    sound, fps = to_sound(getattr(parts, "audio", None)), as_fps(Fraction(parts.frame_rate))
    with VideoWriter(path, width, height, fps, sound=sound, crf=CRF, source_type=None) as writer:
        for picture in pictures:
            writer.write(picture)


def _is_same_video(video: object, path: Path, tells: tuple[str, ...] = ("get_duration", "get_dimensions")) -> bool:
    """Whether a file shows all of a VIDEO and nothing else, as far as the VIDEO tells."""
    from comfy_api.input_impl import VideoFromFile

    file = VideoFromFile(str(path))
    for method in (method for method in tells if hasattr(video, method)):
        answer, file_answer = _method_result(video, method), _method_result(file, method)
        if answer is None or file_answer is None:
            return False
        if abs(file_answer - answer) >= DURATION_S if method == "get_duration" else tuple(file_answer) != tuple(answer):
            return False
    return True


def _method_result(video: object, name: str) -> object | None:
    """What a method of a VIDEO gives; None where there is no such method, or where it fails."""
    try:
        return getattr(video, name)()
    except FAILURES:
        return None


def _components(video: object) -> object:
    """Images, frame rate and sound of a VIDEO."""
    if not hasattr(video, "get_components"):
        raise InputError(f"a VIDEO is needed, not {type(video).__name__}.")
    try:
        return video.get_components()
    except FAILURES as error:
        raise InputError(f"the video cannot be read: {error}. Load it again, with another node if need be.") from error
