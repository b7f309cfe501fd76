"""Writing of H.264 video with sound, frame by frame; the file appears when all is done, or never."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from torch import Tensor

from ..checks import check_choice, check_finite, check_range
from ..errors import InputError, OutputError
from ..types import Speech, as_fps, check_picture
from .files import PartFile, check_writable, disk_full_message, explain_write_errors
from .made_mark import COMPOSITE, append_xmp, marking, video_tags
from .mix import Block, mix_blocks, tensor_blocks
from .sound import MAX_RATE_HZ, MIN_RATE_HZ, SoundChoice, SoundFile

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
_WITH_INDEX = SUFFIXES[:3]  # which players want at the beginning
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
# Measured on 512×512, one core, crf 18: a third less time on real video for 7 % more bytes and 0.1 dB.
LEANER = {"veryfast": "subme=1:me=dia:weightp=0"}
SOUND_BLOCK = 4096  # samples: four frames of AAC
BT709 = 1
_MAX_SIDE_PX = 8192
AAC_RATES_HZ = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000)
USUAL_RATE_HZ = 48_000

Sound = Path | SoundChoice | Speech | tuple[Tensor, int] | None
"""A file, one of its tracks, a speech, or a waveform (C, N) and its rate; None is silence."""


class VideoWriter:
    """Writes a video frame by frame, as a context manager; the file appears when all is done, or never.

    Args:
        path: .mp4, .m4v, .mov or .mkv.
        width: pixels of the pictures; an odd size gets one more row or column, a repeat of the last.
        height: as width.
        fps: frames per second, exact.
        sound: a file whose sound is taken in its own quality, speech, or (waveform (C, N), rate in Hz);
            cut or filled with silence to the length of the video.
        crf: H.264 quality, 0 lossless .. 51.
        preset: x264's name for the trade of speed against size.
        encoder_threads: 0 lets the encoder choose.
        source_type: IPTC digital source type of the pictures, see `made_mark`; not written if that is switched off.
            None: no network made them.

    Raises:
        OutputError: the file cannot be written.
        InputError: an unknown suffix or a value out of range.
        MediaError: the sound cannot be read.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        fps: Fraction,
        sound: Sound = None,
        crf: int = 18,
        preset: str = "veryfast",
        encoder_threads: int = 0,
        *,
        source_type: str | None = COMPOSITE,
    ) -> None:
        self.path, self.fps = Path(path), as_fps(fps)
        self.width = int(check_range(width, 16, _MAX_SIDE_PX, "the video's width"))
        self.height = int(check_range(height, 16, _MAX_SIDE_PX, "the video's height"))
        check_writable(self.path)
        self._check_suffix()
        self._options = {
            "crf": str(check_range(crf, 0, 51, "crf")),
            "preset": check_choice(preset, PRESETS, "preset"),
        }
        if preset in LEANER:
            self._options["x264-params"] = LEANER[preset]
        self._threads = int(check_range(encoder_threads, 0, 128, "encoder_threads"))
        self.num_frames = 0  # pictures taken
        self.num_encoded = 0  # pictures that the encoder has given back; it looks some ahead
        self._sound = SoundTrack(sound) if sound is not None else None
        self._num_samples = 0
        self._source_type = source_type if marking() else None
        self._part: PartFile | None = None
        self._container: av.container.OutputContainer | None = None
        self._closed = False

    def __enter__(self) -> VideoWriter:
        try:
            self._part = PartFile(self.path)
            with explain_write_errors(self.path):
                self._open()
        except BaseException:
            self.abort()
            raise
        return self

    def __exit__(self, kind: type | None, *exc: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, picture: Tensor) -> None:
        """Append one (H, W, 3) uint8 picture.

        Raises:
            InputError: another size than the video's.
            OutputError: the disk is full, or the writer is not open.
        """
        if self._container is None:
            raise OutputError(f"the video {self.path} is not open: write inside `with VideoWriter(...) as writer`.")
        self._check_frame(picture)
        if tuple(picture.shape[:2]) != (self.height, self.width):
            size = f"{picture.shape[1]}×{picture.shape[0]}"
            raise InputError(f"a frame of {size} does not fit into the video of {self.width}×{self.height}.")
        frame = self._frame(picture.cpu().numpy())
        with explain_write_errors(self.path):
            self._encode(frame)
            self.num_frames += 1
            self._write_sound()

    def _check_suffix(self) -> None:
        if self.path.suffix.lower() not in SUFFIXES:
            raise InputError(f"cannot write {self.path.name}: a video must end in {', '.join(SUFFIXES)}.")

    def _check_frame(self, picture: Tensor) -> None:
        check_picture(picture, "a video frame")

    def close(self) -> Path:
        """Finish the file, give it its name, and return it. A second call does nothing.

        Raises:
            InputError: no picture was written.
            OutputError: the disk is full.
        """
        if self._closed:
            return self.path
        try:
            if self.num_frames == 0:
                raise InputError(f"the video {self.path} would be empty: no picture was written.")
            with explain_write_errors(self.path):
                self._write_sound(last=True)
                self._encode(None)
                self._container.close()
                self._check_complete()
                if self._source_type:
                    append_xmp(self._part.path, self._source_type)
            self._part.finish()
        finally:
            self.abort()  # after a success, nothing is left to give up
        return self.path

    def abort(self) -> None:
        """Close everything and remove the unfinished file."""
        self._closed = True
        container, self._container = self._container, None
        part, self._part = self._part, None
        try:
            if container is not None:
                with contextlib.suppress(av.FFmpegError, OSError, ValueError):
                    container.close()  # what it could not write is thrown away anyway
        finally:
            if self._sound:
                self._sound.close()
            if part is not None:
                part.remove()

    def _open(self) -> None:
        fast = {"movflags": "+faststart"} if self.path.suffix.lower() in _WITH_INDEX else {}
        self._container = av.open(f"file:{self._part.path}", "w", container_options=fast)
        if self._source_type:
            self._container.metadata.update(video_tags(self._source_type))
        video = self._add_video()
        video.width, video.height = self.width + self.width % 2, self.height + self.height % 2
        context = video.codec_context
        context.thread_count = self._threads
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = ColorRange.MPEG
        self._video, self._to_yuv = video, VideoReformatter()  # kept: making one takes as long as using it
        if self._sound:
            codec, rate, bit_rate = self._sound_format()
            self._audio = self._container.add_stream(codec, rate=rate)
            self._audio.layout = "mono" if self._sound.num_channels == 1 else "stereo"
            self._audio.bit_rate = bit_rate * self._sound.num_channels

    def _add_video(self) -> av.VideoStream:
        """The stream of pictures."""
        video = self._container.add_stream("libx264", rate=self.fps, options=self._options)
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_type = "FRAME"  # PyAV's default, slices, makes us wait for every frame
        return video

    def _sound_format(self) -> tuple[str, int, int]:
        """Codec, samples and bits a second of a channel."""
        # The default coder: "fast" takes half its time, but leaves pure tones at 27 dB, this one at 50.
        return "aac", self._sound.rate, min(128_000, 4 * self._sound.rate)

    def _frame(self, pixels: np.ndarray) -> av.VideoFrame:
        if self.width % 2 or self.height % 2:
            pixels = np.pad(pixels, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        frame = self._wrapped(np.ascontiguousarray(pixels))
        frame = self._to_yuv.reformat(
            frame, format=self._video.pix_fmt, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        frame.pts, frame.time_base = self.num_frames, 1 / self.fps
        return frame

    def _wrapped(self, pixels: np.ndarray) -> av.VideoFrame:
        return av.VideoFrame.from_numpy_buffer(pixels, format="rgb24")

    def _encode(self, frame: av.VideoFrame | None) -> None:
        packets = self._video.encode(frame)
        self.num_encoded += len(packets)
        self._container.mux(packets)
        if frame is None and self._sound:
            self._container.mux(self._audio.encode(None))

    def _write_sound(self, last: bool = False) -> None:
        """Encode the sound that belongs to the pictures so far; what is too short to be worth it, with the last."""
        if not self._sound:
            return
        due = round(self.num_frames / self.fps * self._sound.rate) - self._num_samples
        while due >= SOUND_BLOCK or (last and due > 0):
            samples = self._sound.read(min(due, SOUND_BLOCK))
            frame = av.AudioFrame.from_ndarray(samples, "fltp", self._audio.layout.name)
            frame.sample_rate = self._sound.rate
            frame.pts, frame.time_base = self._num_samples, Fraction(1, self._sound.rate)
            self._container.mux(self._audio.encode(frame))
            self._num_samples += samples.shape[1]
            due -= samples.shape[1]

    def _check_complete(self) -> None:
        """Verify the finished file: a disk that fills up at the very end is not always reported while writing."""
        try:
            with av.open(f"file:{self._part.path}") as written:
                stream = written.streams.video[0]
                complete = stream.frames in (0, self.num_frames)
        except (av.FFmpegError, IndexError):
            complete = False
        if not complete:
            raise OutputError(
                f"cannot write {self.path}: the file came out incomplete, as if {disk_full_message(self.path)}; "
                "free some space or choose another."
            )


class SoundTrack:
    """Sequential reader of a video's sound, with silence after its end.

    One or two channels are kept, more are mixed down to two. A rate that AAC does not know becomes 48 kHz, and one
    below 16 kHz does too: an AAC frame would last longer there than a frame of video.

    Args:
        sound: a file, the choice of one of its tracks, speech, or (waveform (C, N), rate in Hz).

    Raises:
        MediaError: the file cannot be read or has no sound.
        InputError: not a waveform.
    """

    def __init__(self, sound: Path | str | SoundChoice | Speech | tuple[Tensor, int]) -> None:
        self._file: SoundFile | None = None
        if isinstance(sound, (str, Path, SoundChoice)):
            self._file = SoundFile(sound)
            rate, num_channels, blocks = self._file.rate, self._file.num_channels, self._file.blocks()
        else:
            waveform, rate = _waveform_of(sound)
            num_channels, blocks = len(waveform), tensor_blocks(waveform, rate)
        self.rate = rate if rate in AAC_RATES_HZ else USUAL_RATE_HZ
        self.num_channels = min(num_channels, 2)
        self._blocks = mix_blocks(_without_nan(blocks), self.num_channels, self.rate)
        self._waiting: list[np.ndarray] = []

    def read(self, count: int) -> np.ndarray:
        """The next `count` samples, (C, count) float32."""
        have = sum(block.shape[1] for block in self._waiting)
        while have < count:
            block = next(self._blocks, None)
            if block is None:
                block = np.zeros((self.num_channels, count - have), np.float32)
            self._waiting.append(block)
            have += block.shape[1]
        joined = np.concatenate(self._waiting, 1) if self._waiting else np.zeros((self.num_channels, 0), np.float32)
        self._waiting = [joined[:, count:]]
        return np.ascontiguousarray(joined[:, :count])

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


def _waveform_of(sound: Speech | tuple[Tensor, int]) -> tuple[Tensor, int]:
    if isinstance(sound, Speech):
        return sound.waveform[None], sound.sample_rate
    if not isinstance(sound, tuple) or len(sound) != 2 or not isinstance(sound[0], Tensor):
        received = type(sound).__name__
        raise InputError(f"the video's sound must be a file, speech or (waveform, sample rate), not {received}.")
    waveform, rate = sound
    if waveform.ndim != 2 or not waveform.dtype.is_floating_point or 0 in waveform.shape:
        received = f"{tuple(waveform.shape)} {waveform.dtype}"
        raise InputError(f"the video's sound must be a float waveform of shape (channels, samples), not {received}.")
    check_finite(waveform, "the video's sound")
    return waveform, int(check_range(rate, MIN_RATE_HZ, MAX_RATE_HZ, "the sample rate of the video's sound"))


def _without_nan(blocks: Iterator[Block]) -> Iterator[Block]:
    for block in blocks:  # the encoder would refuse them after minutes of work
        yield block._replace(samples=np.nan_to_num(block.samples, posinf=1, neginf=-1))
