"""Whether a file is a picture or a video, by its content."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..errors import MediaError
from .files import check_readable
from .image import STILL_BRANDS, open_image
from .video_read import probe_video

ANIMATED = ("GIF", "WEBP", "PNG")  # picture formats that may hold a film


def is_video(path: Path) -> bool:
    """Whether a file is a video, or an animation, rather than a picture.

    Raises:
        MediaError: missing, or neither.
    """
    path = check_readable(Path(path))
    try:
        with open_image(path) as opened:
            return opened.format in ANIMATED and getattr(opened, "n_frames", 1) > 1
    except Image.DecompressionBombError:
        return False  # whose size `load_picture` tells
    except UnidentifiedImageError:
        with path.open("rb") as file:
            head = file.read(12)
        if head[4:8] == b"ftyp" and head[8:12] in STILL_BRANDS:
            return False
    except (OSError, ValueError, SyntaxError):
        return False  # a damaged picture, as `load_picture` tells
    try:
        probe_video(path)
    except MediaError as error:
        raise MediaError(
            f"{path} is neither a picture nor a video that can be read; give a PNG, a JPEG or an MP4."
        ) from error
    return True
