"""Video in as a stream of pictures, video out as H.264 with the original sound; memory does not grow with length."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from torch import Tensor

from ..checks import check_range
from ..errors import InputError, MediaError
from ..types import Speech, as_fps, check_picture
from .atomic import explain_write_errors, part_path
from .audio import decode_blocks, open_media

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
AAC_RATES_HZ = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
USUAL_FPS = (
    *map(Fraction, (10, 12, 15, 20, 24, 25, 30, 48, 50, 60)),
    *(Fraction(n, 1001) for n in (24000, 30000, 60000)),
)
BT709 = 1

Sound = Path | Speech | tuple[Tensor, int] | None


@dataclass(frozen=True)
class VideoProbe:
    """What a video file holds, found without decoding its pictures."""

    width: int  # pixels, upright
    height: int
    fps: Fraction  # the average, taken to the usual rate next to it within 0.1 %
    num_frames: int
    seconds: float
    has_sound: bool
    variable_rate: bool  # the time between frames changes


def probe_video(path: Path) -> VideoProbe:
    """Look into a video file.

    Raises:
        MediaError: missing, unreadable, or without pictures.
    """
    with _open_video(path) as (container, stream):
        rotation = 0
        for frame in container.decode(stream):
            rotation = getattr(frame, "rotation", 0)
            break
        container.seek(0)
        stamps = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        if not stamps:
            raise MediaError(f"{path} holds no frames; export it again.")
        base = stream.time_base
        steps = np.diff(stamps)
        last = Fraction(int(np.median(steps))) * base if len(steps) else 1 / (stream.average_rate or Fraction(25))
        seconds = (stamps[-1] - stamps[0]) * base + last
        fps = _usual(Fraction(len(stamps)) / seconds if seconds > 0 else stream.average_rate or Fraction(25))
        # a time stamp may be off by one unit of the time base without meaning anything
        variable = len(steps) > 1 and int(steps.max() - steps.min()) > max(2, 0.2 * float(np.median(steps)))
        width, height = stream.codec_context.width, stream.codec_context.height
        if rotation % 180:
            width, height = height, width
        return VideoProbe(
            width, height, fps, len(stamps), float(seconds), bool(container.streams.audio), bool(variable)
        )


def read_pictures(
    path: Path, fps: Fraction | None = None, on_progress: Callable[[int, int], None] | None = None
) -> Iterator[Tensor]:
    """Decode a video at a constant rate: for every output time the picture shown then.

    Args:
        path: the video.
        fps: output frames per second; None takes the file's own.
        on_progress: called with pictures done and in all; may raise to stop.

    Yields:
        (H, W, 3) uint8 RGB, upright; ceil(seconds · fps) of them.

    Raises:
        MediaError: missing, unreadable, or without pictures.
    """
    probe = probe_video(path)
    rate = as_fps(fps) if fps is not None else probe.fps
    total = max(1, math.ceil(Fraction(probe.seconds).limit_denominator(100_000) * rate - Fraction(1, 50)))
    done, shown = 0, None
    for seconds, frame in _stamped_frames(path):
        # the middle of each output frame's time decides, so that rounded time stamps neither drop nor double one
        while shown is not None and done < total and (done + Fraction(1, 2)) / rate < seconds:
            yield shown
            done += 1
            if on_progress:
                on_progress(done, total)
        shown = _upright(frame)
    while shown is not None and done < total:
        yield shown
        done += 1
        if on_progress:
            on_progress(done, total)


def _stamped_frames(path: Path) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    with _open_video(path) as (container, stream):
        stream.thread_type = "AUTO"
        first = None
        try:
            for frame in container.decode(stream):
                if frame.pts is None:
                    continue
                first = frame.pts if first is None else first
                yield (frame.pts - first) * stream.time_base, frame
        except av.FFmpegError as error:
            if first is None:
                raise MediaError(f"the pictures of {path} cannot be decoded ({error}); export it again.") from error


def _upright(frame: av.VideoFrame) -> Tensor:
    picture = torch.from_numpy(frame.to_ndarray(format="rgb24"))
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return torch.rot90(picture, turns, (0, 1)).contiguous() if turns else picture


class _open_video:  # noqa: N801 - used as a function
    """Context of (container, video stream)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> tuple[av.container.InputContainer, av.VideoStream]:
        self.container = open_media(self.path)
        if not self.container.streams.video:
            self.container.close()
            raise MediaError(f"{self.path} holds no video track; give a video file.")
        return self.container, self.container.streams.video[0]

    def __exit__(self, *exc: object) -> None:
        self.container.close()


def _usual(fps: Fraction) -> Fraction:
    near = min(USUAL_FPS, key=lambda usual: abs(usual - fps))
    return near if abs(near - fps) < near / 1000 else fps.limit_denominator(1001)


class VideoWriter:
    """Writes a video frame by frame; the file appears when all is done, or never.

    Args:
        path: .mp4, .m4v, .mov or .mkv.
        width: pixels of the pictures; an odd size gets one more row or column, a repeat of the last.
        height: as width.
        fps: frames per second, exact.
        sound: a file whose first sound track is taken in its own quality, speech, or (waveform (C, N), rate in Hz).
        crf: H.264 quality, 0 lossless .. 51.
        preset: x264's name for the trade of speed against size.
        encoder_threads: 0 lets the encoder choose.

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
    ) -> None:
        self.path, self.fps = Path(path), as_fps(fps)
        self.width, self.height = width, height
        check_range(crf, 0, 51, "crf")
        if self.path.suffix.lower() not in SUFFIXES:
            raise InputError(f"cannot write {self.path.name}: a video must end in {', '.join(SUFFIXES)}.")
        self.num_frames = 0
        self._sound = _SoundTrack(sound) if sound is not None else None
        self._part: Path | None = part_path(self.path)
        try:
            self._open(crf, preset, encoder_threads)
        except BaseException:
            self.abort()
            raise

    def _open(self, crf: int, preset: str, threads: int) -> None:
        fast = {} if self.path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
        self._container = av.open(str(self._part), "w", container_options=fast)
        video = self._container.add_stream("libx264", rate=self.fps, options={"crf": str(crf), "preset": preset})
        video.width, video.height = self.width + self.width % 2, self.height + self.height % 2
        video.pix_fmt = "yuv420p"
        context = video.codec_context
        context.thread_count = threads
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = ColorRange.MPEG
        self._video, self._to_yuv = video, VideoReformatter()  # kept: making one takes as long as using it
        if self._sound:
            self._audio = self._container.add_stream("aac", rate=self._sound.rate)
            self._audio.layout = "mono" if self._sound.channels == 1 else "stereo"
            self._audio.bit_rate = 96_000 * self._sound.channels

    def write(self, picture: Tensor) -> None:
        """Append one (H, W, 3) uint8 picture.

        Raises:
            InputError: another size than the video's.
            OutputError: the disk is full.
        """
        check_picture(picture, "a video frame")
        if tuple(picture.shape[:2]) != (self.height, self.width):
            found = f"{picture.shape[1]}×{picture.shape[0]}"
            raise InputError(f"a frame of {found} does not fit into the video of {self.width}×{self.height}.")
        pixels = picture.numpy()
        if self.width % 2 or self.height % 2:
            pixels = np.pad(pixels, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), format="rgb24")
        frame = self._to_yuv.reformat(
            frame, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        frame.pts, frame.time_base = self.num_frames, 1 / self.fps
        with self._explained():
            self._container.mux(self._video.encode(frame))
            self.num_frames += 1
            self._write_sound(self.num_frames / self.fps)

    def close(self) -> Path:
        """Finish the file, give it its name, and return it. A second call does nothing."""
        if self._part is None:
            return self.path
        try:
            with self._explained():
                self._container.mux(self._video.encode(None))
                if self._sound:
                    self._write_sound(self.num_frames / self.fps, last=True)
                    self._container.mux(self._audio.encode(None))
                self._container.close()
                self._part.replace(self.path)
        except BaseException:
            self.abort()
            raise
        self._part = None
        return self.path

    def abort(self) -> None:
        """Give up: close everything and leave no file."""
        if self._part is None:
            return
        try:
            if hasattr(self, "_container"):
                self._container.close()
        except (av.FFmpegError, OSError):
            pass  # what it could not write is thrown away anyway
        finally:
            self._part.unlink(missing_ok=True)
            self._part = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type | None, *exc: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _write_sound(self, until_s: Fraction, last: bool = False) -> None:
        if not self._sound:
            return
        for frame in self._sound.frames(until_s, self._audio.codec_context.frame_size or 1024, last):
            self._container.mux(self._audio.encode(frame))

    def _explained(self) -> explain_write_errors:
        return explain_write_errors(self.path)


class _SoundTrack:
    """Hands out a sound in encoder-sized frames, cut or filled with silence to the length of the video."""

    def __init__(self, sound: Path | Speech | tuple[Tensor, int]) -> None:
        if isinstance(sound, Speech):
            sound = (sound.waveform[None], sound.sample_rate)
        self._blocks = _file_blocks(Path(sound)) if not isinstance(sound, tuple) else _tensor_blocks(*sound)
        self._waiting = next(self._blocks)  # read early: a bad sound file is told before the work begins
        self.rate = _first_rate(sound)
        self.channels = len(self._waiting)
        self._given = 0

    def frames(self, until_s: Fraction, frame_size: int, last: bool) -> Iterator[av.AudioFrame]:
        """Frames up to a time; the last one may be short."""
        end = round(until_s * self.rate)
        while self._given + frame_size <= end or (last and self._given < end):
            count = min(frame_size, end - self._given)
            frame = av.AudioFrame.from_ndarray(self._take(count), "fltp", "mono" if self.channels == 1 else "stereo")
            frame.sample_rate, frame.pts, frame.time_base = self.rate, self._given, Fraction(1, self.rate)
            self._given += count
            yield frame

    def _take(self, count: int) -> np.ndarray:
        while self._waiting.shape[1] < count:
            block = next(self._blocks, None)
            if block is None:
                block = np.zeros((self.channels, count), np.float32)  # the sound is over, the video is not
            self._waiting = np.concatenate([self._waiting, block], 1)
        taken, self._waiting = self._waiting[:, :count], self._waiting[:, count:]
        return np.ascontiguousarray(taken)


def _first_rate(sound: Path | tuple[Tensor, int]) -> int:
    if isinstance(sound, tuple):
        return _aac_rate(int(sound[1]))
    with open_media(sound) as container:
        return _aac_rate(container.streams.audio[0].codec_context.sample_rate)


def _aac_rate(rate: int) -> int:
    return rate if rate in AAC_RATES_HZ else 48_000


def _file_blocks(path: Path) -> Iterator[np.ndarray]:
    with open_media(path) as container:
        rate = container.streams.audio[0].codec_context.sample_rate if container.streams.audio else None
    return decode_blocks(path, "fltp", None, None if rate is None else _aac_rate(rate))


def _tensor_blocks(waveform: Tensor, rate: int) -> Iterator[np.ndarray]:
    samples = waveform.detach().float().cpu().reshape(-1, waveform.shape[-1])
    if len(samples) > 2:
        samples = samples.mean(0, keepdim=True)
    layout = "mono" if len(samples) == 1 else "stereo"
    resampler = None if rate == _aac_rate(rate) else av.AudioResampler("fltp", layout, _aac_rate(rate))
    for start in range(0, samples.shape[1], rate):
        block = np.ascontiguousarray(samples[:, start : start + rate].numpy())
        if resampler is None:
            yield block
            continue
        frame = av.AudioFrame.from_ndarray(block, "fltp", layout)
        frame.sample_rate = rate
        yield from (made.to_ndarray() for made in resampler.resample(frame))
    if resampler is not None:
        yield from (made.to_ndarray() for made in resampler.resample(None))
