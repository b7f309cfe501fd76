"""Writing of pictures with transparency: VP9 in WebM, ProRes 4444 in MOV, or a folder of PNG files.

Alpha is straight: colours are not multiplied by it.
"""

from __future__ import annotations

import secrets
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from torch import Tensor

from ..checks import check_range
from ..errors import InputError, OutputError, ShapeError
from ..types import as_fps
from .files import check_writable, explain_write_errors
from .made_mark import COMPOSITE, marking, picture_options
from .video_write import Sound, VideoWriter

WEBM, MOV = ".webm", ".mov"
VP9_CRF = 12  # by which VP9's quality number lies above H.264's of about the same look
MOST_VP9_CRF = 63
OPUS_HZ = 48_000
DIGITS = 6  # of a picture's number


def open_alpha_writer(
    path: Path, width: int, height: int, fps: Fraction, sound: Sound = None, crf: int = 18
) -> AlphaVideoWriter | PictureFolder:
    """The writer of pictures (H, W, 4) for a path; a context manager as `VideoWriter`.

    Args:
        path: .webm or .mov, or a new folder's name, without an ending, for PNG files; they have no sound.
        width: pixels of the pictures.
        height: as width.
        fps: frames per second.
        sound: as of `VideoWriter`.
        crf: quality as of H.264, 0 best .. 51; ProRes and PNG have none.

    Raises:
        InputError: the path's format holds no transparency.
        OutputError: the path cannot be written.
    """
    check_alpha_path(path)
    if Path(path).suffix:
        return AlphaVideoWriter(path, width, height, fps, sound=sound, crf=crf)
    return PictureFolder(path, fps)


def check_alpha_path(path: Path) -> Path:
    """Check that a path's format holds transparency, and return it.

    Raises:
        InputError: it does not; the text says which do.
    """
    path = Path(path)
    if path.suffix.lower() not in (WEBM, MOV, ""):
        raise InputError(
            f"{path.name} cannot hold transparency: take a name that ends in .webm (VP9) or .mov (ProRes 4444), or one "
            "without an ending for a folder of PNG files; or keep the background."
        )
    return path


class AlphaVideoWriter(VideoWriter):
    """Writes video with transparency frame by frame: VP9 and Opus in .webm, ProRes 4444 and AAC in .mov."""

    def _check_suffix(self) -> None:
        check_alpha_path(self.path)

    def _check_frame(self, picture: Tensor) -> None:
        _check_rgba(picture)

    @property
    def _is_webm(self) -> bool:
        return self.path.suffix.lower() == WEBM

    def _add_video(self) -> av.VideoStream:
        if not self._is_webm:
            video = self._container.add_stream("prores_ks", rate=self.fps, options={"profile": "4444"})
            video.pix_fmt = "yuva444p10le"
            return video
        crf = min(MOST_VP9_CRF, int(self._options["crf"]) + VP9_CRF)
        options = {"crf": str(crf), "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1", "auto-alt-ref": "0"}
        video = self._container.add_stream("libvpx-vp9", rate=self.fps, options=options)
        video.pix_fmt = "yuva420p"
        return video

    def _sound_format(self) -> tuple[str, int, int]:
        return ("libopus", OPUS_HZ, 128_000) if self._is_webm else ("aac", self._sound.rate, 128_000)

    def _wrapped(self, pixels: np.ndarray) -> av.VideoFrame:
        return av.VideoFrame.from_ndarray(pixels, format="rgba")


class PictureFolder:
    """Writes pictures with transparency as 000000.png and so on; the folder appears when all is done, or never.

    Args:
        path: the folder, which must not be there, or be empty.
        fps: frames per second, which PNG files do not say.

    Raises:
        OutputError: the folder cannot be written, or holds something.
    """

    def __init__(self, path: Path, fps: Fraction) -> None:
        self.path, self.fps = Path(path), as_fps(fps)
        if self.path.is_dir() and any(self.path.iterdir()):
            raise OutputError(f"the folder {self.path} holds files already; choose a new name for the pictures.")
        if not self.path.is_dir():
            check_writable(self.path)
        self.num_frames = 0
        self._part: Path | None = None

    def __enter__(self) -> PictureFolder:
        part = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        with explain_write_errors(self.path):
            part.mkdir()
        self._part = part
        return self

    def __exit__(self, kind: type | None, *exc: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, picture: Tensor) -> None:
        """Write the next (H, W, 4) uint8 picture."""
        _check_rgba(picture)
        check_range(self.num_frames, 0, 10**DIGITS - 1, "the number of pictures in a folder")
        mark = picture_options(".png", COMPOSITE) if marking() else {}
        with explain_write_errors(self.path):
            image = Image.fromarray(picture.cpu().contiguous().numpy())
            image.save(self._part / f"{self.num_frames:0{DIGITS}d}.png", compress_level=3, **mark)
        self.num_frames += 1

    def close(self) -> Path:
        """Give the folder its name, and return it. A second call does nothing.

        Raises:
            InputError: no picture was written.
        """
        part = self._part
        if part is None:
            return self.path
        try:
            if self.num_frames == 0:
                raise InputError(f"the folder {self.path} would be empty: no picture was written.")
            with explain_write_errors(self.path):
                if self.path.is_dir():
                    self.path.rmdir()
                part.rename(self.path)
            self._part = None
        finally:
            self.abort()
        return self.path

    def abort(self) -> None:
        """Remove the unfinished folder."""
        part, self._part = self._part, None
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)


def _check_rgba(picture: Tensor) -> None:
    if picture.ndim != 3 or picture.shape[2] != 4 or str(picture.dtype) != "torch.uint8":
        raise ShapeError(
            f"a picture with transparency must be (H, W, 4) uint8, not {tuple(picture.shape)} {picture.dtype}."
        )
