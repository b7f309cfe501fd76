"""Decoded video frames as pictures: square pixels, upright, BT.709, (H, W, 3) uint8 RGB."""

from __future__ import annotations

import contextlib
import logging
import struct
from fractions import Fraction
from pathlib import Path

import av
import torch
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from .colour import HIGHEST_NITS, PEAK_NITS, PQ, UNSPECIFIED, WHITE_NITS, Encoding, to_bt709
from .once import warn_once

log = logging.getLogger(__name__)

_HD_WIDTH, _HD_HEIGHT = 1280, 577  # from here on players take BT.709 where a file does not say
_WIDEST_PIXEL = 4  # a pixel's shape beyond this is a mistake in the file
_LARGEST_PX = 8192  # a side is not stretched beyond it
_LUMINANCE = struct.Struct("=10i10i4i2i")  # FFmpeg's AVMasteringDisplayMetadata: chromaticities, luminance, what is set


class PictureConverter:
    """Converts the decoded frames of a stream; all pictures have the size of the first.

    A stream may change its size on the way, as calls over a bad line do; its pictures may not.
    """

    def __init__(self, path: Path, stream: VideoStream) -> None:
        self.path, self._stream = path, stream
        self._size = (0, 0)  # width and height before the frame is turned upright
        self._reformatter = VideoReformatter()  # kept: making one takes as long as using it
        self._peak_nits = PEAK_NITS

    def picture(self, frame: av.VideoFrame) -> Tensor:
        """(H, W, 3) uint8 RGB of a frame."""
        if self._size == (0, 0):
            self._begin(frame)
        encoding = self._encoding(frame)
        kind = "rgb48le" if encoding.name else "rgb24"
        try:
            rgb = self._reformatted(frame, kind)
        except (av.FFmpegError, OSError, ValueError):  # colours stated that FFmpeg does not convert, or damaged
            rgb = self._reformatted(_without_colours(frame), kind)
        if encoding.name:
            message = "%s is %s; its colours are converted to those of ordinary video (BT.709, SDR)."
            warn_once(log, message, self.path, encoding.name)
            rgb = to_bt709(rgb, encoding)
        picture = torch.from_numpy(rgb)
        turns = round(frame.rotation / 90) % 4
        return torch.rot90(picture, turns, (0, 1)).contiguous() if turns else picture

    def _begin(self, frame: av.VideoFrame) -> None:
        ratio = self._stream.sample_aspect_ratio
        self._size = square_size(frame.width, frame.height, ratio)
        if self._size != (frame.width, frame.height):
            warn_once(
                log, "%s has pixels that are not square (%s); it is read as %d×%d square ones.",
                self.path, str(ratio).replace("/", ":"), *self._size,
            )  # fmt: skip

    def _encoding(self, frame: av.VideoFrame) -> Encoding:
        codec = self._stream.codec_context
        transfer = int(getattr(frame, "color_trc", None) or codec.color_trc)  # older PyAV asks the stream alone
        primaries = int(getattr(frame, "color_primaries", None) or codec.color_primaries)
        if transfer == PQ:
            self._peak_nits = _stated_peak(frame) or self._peak_nits
        return Encoding(transfer, primaries, self._peak_nits if transfer == PQ else PEAK_NITS)

    def _reformatted(self, frame: av.VideoFrame, kind: str):  # noqa: ANN202 - (H, W, 3) array
        large = frame.width >= _HD_WIDTH or frame.height >= _HD_HEIGHT
        space = Colorspace.ITU709 if large and frame.colorspace == UNSPECIFIED else None
        scaled = self._size != (frame.width, frame.height)
        # The target's colour space has no meaning for RGB, but unless it differs older PyAV disregards the frame's own.
        return self._reformatter.reformat(
            frame,
            *self._size,
            kind,
            src_colorspace=space,
            dst_colorspace=Colorspace.DEFAULT,
            interpolation="BICUBIC" if scaled else None,
        ).to_ndarray()


def _without_colours(frame: av.VideoFrame) -> av.VideoFrame:
    for name in ("colorspace", "color_trc", "color_primaries"):
        with contextlib.suppress(AttributeError):  # of an older PyAV
            setattr(frame, name, UNSPECIFIED)
    return frame


def square_size(width: int, height: int, ratio: Fraction | None) -> tuple[int, int]:
    """Width and height in square pixels of a picture whose pixels are `ratio` times as wide as high.

    One side grows, so that nothing is lost, to an even number.
    """
    if not ratio or not 1 / _WIDEST_PIXEL <= ratio <= _WIDEST_PIXEL:
        return width, height
    wide = _even(width * ratio) if abs(width * ratio - width) >= 1 else width
    high = _even(height / ratio) if abs(height / ratio - height) >= 1 else height
    if (ratio > 1) == (max(wide, high) <= _LARGEST_PX):
        return wide, height
    return width, high


def _even(side: Fraction) -> int:
    return max(2, 2 * round(side / 2))


def _stated_peak(frame: av.VideoFrame) -> float:
    """Brightest light of a PQ video in cd/m², 0 where it does not say."""
    content = mastering = 0.0
    for data in frame.side_data:
        if data.type.name == "CONTENT_LIGHT_LEVEL":
            content = float(struct.unpack_from("=I", bytes(data))[0])
        elif data.type.name == "MASTERING_DISPLAY_METADATA":
            numbers = _LUMINANCE.unpack_from(bytes(data))
            mastering = numbers[22] / numbers[23] if numbers[-1] and numbers[23] else 0.0
    peak_nits = content or mastering
    return min(max(peak_nits, WHITE_NITS), HIGHEST_NITS) if peak_nits else 0.0
