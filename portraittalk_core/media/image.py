"""Reading and writing of pictures as (H, W, 3) uint8 RGB, upright, in all formats of Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..errors import InputError, MediaError
from ..types import check_picture
from .files import atomic_write, check_readable

MIN_SIDE_PX, MAX_SIDE_PX = 128, 4096
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def load_picture(path: Path) -> Tensor:
    """Read a portrait.

    EXIF rotation is applied; grey, palette and 16-bit pictures become 8-bit RGB; transparency is laid on white; of an
    animation, the first picture is taken.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        MediaError: missing, not a picture, damaged, or a side outside 128..4096 pixels.
    """
    path = check_readable(path)
    try:
        with Image.open(path) as opened:
            _check_size(path, *opened.size)  # before the pixels are decoded: a huge one would fill the memory
            rgb = _to_rgb(ImageOps.exif_transpose(opened), sixteen_bit=opened.format == "PNG")
    except MediaError:
        raise
    except UnidentifiedImageError as error:
        raise MediaError(f"{path} is not a picture that can be read; give a PNG, JPEG or WebP.") from error
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path} is too large; each side may have {MAX_SIDE_PX} pixels. Resize it first.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's decoders raise on damage
        raise MediaError(f"{path} is damaged and cannot be read as a picture ({error}); export it again.") from error
    return torch.from_numpy(np.array(rgb))


def save_picture(picture: Tensor, path: Path) -> Path:
    """Write a (H, W, 3) uint8 picture in the format of its suffix, whole or not at all, and return its path.

    Raises:
        InputError: a suffix that names no picture format.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    check_picture(picture, "the picture to save")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot write {path.name}: a picture must end in {', '.join(SUFFIXES)}.")
    with atomic_write(path) as part:
        Image.fromarray(picture.cpu().contiguous().numpy()).save(part, quality=95)
    return path


def _check_size(path: Path, width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE_PX or max(width, height) > MAX_SIDE_PX:
        raise MediaError(
            f"{path} is {width}×{height} pixels; each side must be {MIN_SIDE_PX} to {MAX_SIDE_PX}. Resize it first."
        )


def _to_rgb(image: Image.Image, sixteen_bit: bool) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit and float pictures: Pillow's own conversion clips
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        if image.mode == "F":
            top = 1.0 if values.max() <= 1 else 255.0
        else:
            top = 65535.0 if sixteen_bit or image.mode != "I" or values.max() > 255 else 255.0
        image = Image.fromarray(np.clip(values / top * 255, 0, 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
