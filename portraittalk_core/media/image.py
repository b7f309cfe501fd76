"""Reading and writing of pictures as (H, W, 3) uint8 sRGB, upright."""

from __future__ import annotations

import io
import logging
import struct
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..errors import InputError, MediaError, MissingDependency
from ..types import check_picture
from .files import atomic_write, check_readable
from .made_mark import marking, picture_options
from .once import warn_once

log = logging.getLogger(__name__)

MIN_SIDE_PX, MAX_SIDE_PX = 128, 4096
MAX_PIXELS = 100_000_000  # that are decoded: more would fill the memory
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
# Formats that Pillow decodes by itself. Others start programs (EPS: Ghostscript) or hold no photographs.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "GIF", "JPEG2000", "PPM", "TGA", "QOI")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
STILL_BRANDS = (*_HEIC_BRANDS, b"avif", b"avis")  # of ISO files (ftyp) that hold a picture and no film
_ORIENTATION = 0x0112  # the EXIF tag
# What Pillow's decoders raise on damaged files
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, RuntimeError, MemoryError, ArithmeticError, LookupError, TypeError),
    struct.error,
)


def load_picture(path: Path) -> Tensor:
    """Read a portrait.

    EXIF rotation is applied; colour profiles are converted to sRGB; grey, palette, CMYK and 16-bit pictures become
    8-bit RGB; transparency is laid on white; of an animation, the first picture is taken. A side of more than 4096
    pixels is scaled down to that, with a warning.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        MediaError: missing, not a picture, damaged, a side under 128 pixels, or too many pixels to decode.
        MissingDependency: a HEIC picture, and pillow-heif is not installed.
    """
    path = check_readable(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on damage and size: what counts is said below
            with _open(path) as opened:
                return torch.from_numpy(np.array(_to_srgb(_scaled(path, opened), path)))
    except (MediaError, MissingDependency):
        raise
    except UnidentifiedImageError as error:
        raise MediaError(f"{path} is not a picture that can be read; give a PNG, JPEG or WebP.") from error
    except Image.DecompressionBombError as error:
        limit = MAX_PIXELS // 10**6
        raise MediaError(f"{path} is too large: more than {limit} million pixels. Resize it first.") from error
    except _DAMAGE as error:
        raise MediaError(f"{path} is damaged and cannot be read as a picture ({error}); export it again.") from error


def save_picture(picture: Tensor, path: Path, source_type: str | None = None) -> Path:
    """Write a (H, W, 3) uint8 picture in the format of its suffix, whole or not at all, and return its path.

    Args:
        picture: to be written.
        path: .png, .jpg, .webp, .bmp or .tif.
        source_type: IPTC digital source type of what a network made, see `made_mark`; unless switched off.

    Raises:
        InputError: a suffix that names no picture format.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    check_picture(picture, "the picture to save")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot write {path.name}: a picture must end in {', '.join(SUFFIXES)}.")
    with atomic_write(path) as part:
        mark = picture_options(path.suffix.lower(), source_type) if source_type and marking() else {}
        Image.fromarray(picture.cpu().contiguous().numpy()).save(part, quality=95, **mark)
    return path


def open_image(source: Path | io.BytesIO) -> Image.Image:
    """Open a picture with Pillow, of a format that starts no other program.

    Raises:
        UnidentifiedImageError: it is none.
    """
    Image.init()  # else not every format that Pillow has is known
    return Image.open(source, formats=[name for name in FORMATS if name in Image.OPEN])


def _open(path: Path) -> Image.Image:
    try:
        return open_image(path)
    except UnidentifiedImageError:
        with path.open("rb") as file:
            head = file.read(12)
        if head[4:8] != b"ftyp":
            raise
        if head[8:12] in (b"avif", b"avis"):
            raise MediaError(
                f"{path} is an AVIF picture, which needs Pillow 11.3 or later: pip install -U pillow; or give a JPEG."
            ) from None
        if head[8:12] not in _HEIC_BRANDS:
            raise
        return _open_heic(path)


def _open_heic(path: Path) -> Image.Image:
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingDependency(
            f"{path} is a HEIC picture, which needs pillow-heif: pip install pillow-heif; or export it as JPEG."
        ) from error
    try:
        file = pillow_heif.open_heif(path, convert_hdr_to_8bit=True)
        _check_decodable(path, *file.size)
        return file.to_pillow()  # which stands upright
    except (RuntimeError, EOFError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"{path} is damaged and cannot be read as a picture ({error}); export it again.") from error


def _scaled(path: Path, image: Image.Image) -> Image.Image:
    """An opened picture, upright, with sides of at most MAX_SIDE_PX."""
    stated, size = image.size, _fitting(image.size)
    if min(size) < MIN_SIDE_PX:
        raise MediaError(
            f"{path} is {stated[0]}×{stated[1]} pixels; each side must have {MIN_SIDE_PX} at least, and the longer one "
            f"not more than {MAX_SIDE_PX // MIN_SIDE_PX} times as many as the other."
        )
    # A JPEG is decoded at a half, a quarter or an eighth where that is enough.
    drafted = image.draft(None, size) if size != stated else None
    _check_decodable(path, *image.size)
    image.load()
    if not drafted:
        size = _fitting(image.size)  # a TIFF may have turned itself upright
    orientation = image.getexif().get(_ORIENTATION)
    image = _eight_bit(image)
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    if size not in (stated, stated[::-1]):
        warn_once(log, "%s is %d×%d pixels; it is scaled down to %d×%d.", path, *stated, *size)
    if orientation:
        image.getexif()[_ORIENTATION] = orientation
    return ImageOps.exif_transpose(image)


def _fitting(size: tuple[int, int]) -> tuple[int, int]:
    share = min(1.0, MAX_SIDE_PX / max(size))
    return round(size[0] * share), round(size[1] * share)


def _check_decodable(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:  # before the pixels are decoded: a huge picture would fill the memory
        raise MediaError(
            f"{path} is {width}×{height} pixels; more than {MAX_PIXELS // 10**6} million are not decoded. "
            "Resize it first."
        )


def _eight_bit(image: Image.Image) -> Image.Image:
    """An opened picture in a mode of 8 bits without palette: L, LA, RGB, RGBA, CMYK, LAB, YCbCr or HSV."""
    if image.mode.startswith(("I", "F")):  # 16-bit and float pictures: Pillow's own conversion clips
        values = np.nan_to_num(np.asarray(image, dtype=np.float32))
        if image.mode == "F":
            top = 1.0 if values.max() <= 1 else 255.0
        else:
            top = 65535.0 if image.format == "PNG" or image.mode != "I" or values.max() > 255 else 255.0
        grey = Image.fromarray(np.clip(values / top * 255, 0, 255).round().astype(np.uint8))
        grey.info.update({key: value for key, value in image.info.items() if key != "transparency"})
        return grey
    if image.mode in ("P", "PA", "1") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert(image.mode.upper()) if image.mode in ("RGBa", "La") else image


def _to_srgb(image: Image.Image, path: Path) -> Image.Image:
    """RGB of a picture of 8 bits, by its colour profile; what is transparent becomes white."""
    profile, alpha = image.info.get("icc_profile"), None
    if image.mode in ("RGBA", "LA"):
        alpha, image = image.getchannel("A"), image.convert(image.mode[:-1])
    rgb = _profiled(image, profile, path) if profile else image.convert("RGB")
    return rgb if alpha is None else Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)


def _profiled(image: Image.Image, profile: bytes, path: Path) -> Image.Image:
    """RGB of a picture without transparency, converted from its colour profile to sRGB."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space == "RGB" and (ImageCms.getProfileDescription(source) or "").startswith("sRGB"):
            return image.convert("RGB")
        if space == "RGB":
            image = image.convert("RGB")
        elif space == "GRAY" and image.mode == "RGB":
            image = image.convert("L")
        if image.mode != {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}.get(space):
            raise ValueError(f"it is for {space}, the picture is {image.mode}")
        return ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError) as error:
        warn_once(log, "%s: its colour profile cannot be used (%s); colours may be off.", path, error)
        return image.convert("RGB")
