"""Probing of video files, and decoding of their pictures at a constant rate.

Whatever the file holds, a picture has square pixels, stands upright, is progressive and BT.709.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream
from torch import Tensor

from ..errors import MediaError
from ..frame_rate import MAX_FPS, MIN_FPS, as_fps
from ..progress import Progress
from .ahead import read_ahead
from .deinterlace import Deinterlacer
from .files import open_media
from .once import warn_once
from .pictures import PictureConverter, square_size

log = logging.getLogger(__name__)

USUAL_FPS = (
    *map(Fraction, (10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 120)),
    *(Fraction(n, 1001) for n in (24000, 30000, 60000, 120000)),
)
PROBED_PACKETS = 4_000  # enough to see whether the rate varies; reading all of a long film would take minutes
REORDERED = 16  # pictures that H.264 and its kin may hold back
ROUNDING_S = Fraction(1, 2000)  # the most by which a time stamp may be off: Matroska and FLV count milliseconds
SEEK_EARLIER_S = Fraction(1, 2)
REGULAR_SHARE = Fraction(2, 3)  # of the steps of a variable rate, for that of most pictures
CUT_S = Fraction(1, 2)  # a file that lacks less is taken as whole
UNTOLD_FPS = 25  # of pictures whose file tells no rate
MAX_SIDE_PX = 8192
MAX_S = 12 * 3600  # a picture with a later stamp would have to be repeated for hours


@dataclass(frozen=True)
class VideoProbe:
    """Properties of a video file; one picture is decoded to find out."""

    width: int  # square pixels, upright
    height: int
    fps: Fraction  # the average, or of a variable rate that of most pictures; taken to the usual rate next to it
    num_frames: int | None  # stored ones; None where it is only known by counting
    seconds: float
    has_sound: bool
    variable_rate: bool  # the time between pictures changes
    timestamp_tolerance_s: Fraction = ROUNDING_S  # so far a picture's time stamp may be off, read at this rate
    has_timestamps: bool = True  # else there are none, or all are alike: pictures are taken in turn at `fps`

    @property
    def max_frames(self) -> int | None:
        """As many as `read_pictures` gives at this rate, or a few more: in pauses they repeat; None if not known."""
        return None if self.num_frames is None else max(self.num_frames, math.ceil(self.seconds * self.fps))


def probe_video(path: Path) -> VideoProbe:
    """Read the properties of a video file.

    Raises:
        MediaError: missing, unreadable, or without pictures.
    """
    width, height = _upright_size(path)
    container, stream = _open(path)  # anew: some damaged files cannot be wound back
    with container:
        stamps, duration, complete = _packet_times(container, stream)
        if not stamps or (len(stamps) > 1 and stamps[0] == stamps[-1]):
            return _probe_untimed(path, width, height)
        steps = [later - earlier for earlier, later in pairwise(stamps)]
        usual_step = sorted(steps)[len(steps) // 2] if steps else Fraction(0)
        # A stamp may be off by a unit of the time base, and a camera's clock by a little, without meaning anything.
        jitter = max(2 * Fraction(stream.time_base), usual_step / 5)
        regular = [step for step in steps if abs(step - usual_step) <= jitter]
        variable = len(regular) < len(steps)
        of_most = _rate_of_most(regular, len(steps)) if variable else None
        fps = of_most or _average_fps(stream, stamps, duration, variable)
        if not complete:
            duration = _claimed_s(container, stream) or duration
        elif steps and not variable:
            duration = stamps[-1] - stamps[0] + 1 / fps
        return VideoProbe(
            width=width,
            height=height,
            fps=fps,
            num_frames=len(stamps) if complete else stream.frames or None,
            seconds=float(duration),
            has_sound=bool(container.streams.audio),
            variable_rate=variable,
            timestamp_tolerance_s=1 / (3 * fps) if of_most or not variable else ROUNDING_S,
        )


def _probe_untimed(path: Path, width: int, height: int) -> VideoProbe:
    """Of a file without time stamps, such as a raw H.264 stream, or whose stamps are all alike."""
    container, stream = _open(path)
    with container:
        rates = (stream.guessed_rate, stream.codec_context.framerate, stream.average_rate)
        fps = next((Fraction(rate) for rate in rates if rate and MIN_FPS <= rate <= MAX_FPS), Fraction(UNTOLD_FPS))
        count = sum(1 for packet in _packets(container, stream) if packet.size and not packet.is_discard)
        warn_once(
            log,
            "%s does not tell when its pictures are shown; they are taken in turn at %g a second.",
            path,
            float(fps),
        )
        return VideoProbe(
            width=width,
            height=height,
            fps=fps,
            num_frames=count,
            seconds=float(count / fps),
            has_sound=bool(container.streams.audio),
            variable_rate=False,
            timestamp_tolerance_s=1 / (3 * fps),
            has_timestamps=False,
        )


def read_pictures(
    path: Path, fps: Fraction | None = None, on_progress: Progress | None = None, first: int = 0
) -> Iterator[Tensor]:
    """Decode a video at a constant rate: picture k is the one shown k / fps seconds after the first.

    A file that breaks off is read up to there, with a logged warning.

    Pixels that are not square are resampled, interlaced frames deinterlaced, HDR and wide gamuts converted to BT.709;
    each is logged once.

    Args:
        path: the video; its rotation mark is honoured.
        fps: output frames per second; None takes the file's own (`VideoProbe.fps`).
        on_progress: called with pictures done and in all (the latter as far as the file tells); may raise to stop.
        first: number of the picture to begin with; what is before it is skipped, not decoded.

    Returns:
        Iterator of (H, W, 3) uint8 RGB pictures, ceil(seconds · fps) of them, less the first ones.

    Raises:
        MediaError: missing, unreadable, or without pictures.
    """
    probe = probe_video(path)  # at once, not at the first picture: a bad file raises before any work begins
    rate = as_fps(fps) if fps is not None else min(max(probe.fps, Fraction(MIN_FPS)), Fraction(MAX_FPS))
    total = math.ceil(probe.seconds * float(rate) - 1e-6)
    pictures = _constant_rate(Path(path), rate, probe, first, first > 0 and probe.has_timestamps)
    return _reported(read_ahead(pictures), total - first, on_progress)


def _reported(pictures: Iterator[Tensor], total: int, on_progress: Progress | None) -> Iterator[Tensor]:
    for done, picture in enumerate(pictures, 1):
        yield picture
        if on_progress:
            on_progress(done, max(done, total))


def _constant_rate(path: Path, rate: Fraction, probe: VideoProbe, first: int, seek: bool) -> Iterator[Tensor]:
    container, stream = _open(path)
    with container:
        stream.thread_type = "AUTO"
        zero = _sought(container, stream, first / rate) if seek else None
        slack = probe.timestamp_tolerance_s if rate == probe.fps else ROUNDING_S
        done, current, end = first, None, Fraction(0)
        converter = PictureConverter(path, stream)
        for start, until, frame in _timed_frames(container, stream, probe, zero):
            if seek and current is None and start > first / rate + slack:  # the file's index is wrong
                yield from _constant_rate(path, rate, probe, first, seek=False)
                return
            if start > MAX_S:
                raise MediaError(f"{path} has a picture at {float(start):.0f} s; videos of {MAX_S} s are read. Cut it.")
            while current is not None and done / rate < start - slack:
                yield converter.picture(current)
                done += 1
            current, end = frame, max(end, until)
        if current is None:
            raise MediaError(f"the pictures of {path} cannot be decoded; export it again.")
        while done < max(1, math.ceil((end - 2 * ROUNDING_S) * rate)):
            yield converter.picture(current)
            done += 1
        claimed = (stream.duration or 0) * Fraction(stream.time_base)
        if claimed - end > max(CUT_S, 2 / probe.fps):
            log.warning(
                "%s is cut off: %.2f s of %.2f s could be read; going on with these.", path, float(end), float(claimed)
            )


def _sought(container: InputContainer, stream: VideoStream, seconds: Fraction) -> int | None:
    """Go to a key frame a while before a time; the stamp of the first picture, None where the file stays at its start.

    A while: decoders and the deinterlacer need some pictures before the wanted one.
    """
    zero = next((frame.pts for packet in _packets(container, stream) for frame in _decoded(packet)), None)
    target = 0 if zero is None else zero + int((seconds - SEEK_EARLIER_S) / Fraction(stream.time_base))
    try:
        container.seek(max(target, zero or 0), stream=stream)
    except (av.FFmpegError, OSError):
        container.seek(0)
    return zero


def _decoded(packet: av.Packet) -> list[av.VideoFrame]:
    try:
        return packet.decode()
    except (av.FFmpegError, OSError):
        return []


def _timed_frames(
    container: InputContainer, stream: VideoStream, probe: VideoProbe, zero: int | None = None
) -> Iterator[tuple[Fraction, Fraction, av.VideoFrame]]:
    """Frames with the time they appear, from the first one on, and the time until which the packets read so far last.

    Seconds as exact fractions, from the stamp `zero`, or else from the first frame's. Damaged parts are left out.
    """
    base, first, usual_s = Fraction(stream.time_base), zero, 1 / probe.fps
    last = -usual_s
    durations: dict[int, int] = {}
    damaged, deinterlacer = 0, Deinterlacer()

    def decoded() -> Iterator[av.VideoFrame]:
        nonlocal damaged
        for packet in _packets(container, stream):
            if packet.pts is not None and packet.duration and probe.variable_rate:
                durations[packet.pts] = packet.duration
            try:
                frames = packet.decode()
            except (av.FFmpegError, OSError) as error:
                log.debug("a damaged part was left out: %s", error)
                damaged += 1
                continue
            for frame in frames:
                damaged += frame.is_corrupt
                yield from deinterlacer.feed(frame)
        yield from deinterlacer.feed(None)

    for frame in decoded():
        first = frame.pts if first is None else first
        stamped = probe.has_timestamps and frame.pts is not None and first is not None
        last = (frame.pts - first) * base if stamped else last + usual_s
        lasts = durations.pop(frame.pts, 0) * base if stamped else 0
        yield last, last + (lasts or usual_s), frame
    if deinterlacer.seen:
        warn_once(
            log, "%s is interlaced; its fields are made into whole pictures.", container.name.removeprefix("file:")
        )
    if damaged:
        log.warning(
            "%s is damaged (%d pictures or parts of it); what could not be read is left out or guessed.",
            Path(container.name).name, damaged,
        )  # fmt: skip


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:  # the file breaks off inside its structure
            log.debug("reading stopped: %s", error)
            return
        if packet is None:
            return
        yield packet


def _open(path: Path) -> tuple[InputContainer, VideoStream]:
    container = open_media(path)
    streams = container.streams.video
    stream = next((s for s in streams if not s.disposition & av.stream.Disposition.attached_pic), None)  # no cover
    problem = ""
    if stream is None:
        problem = "holds no video track, only sound; give a video file"
    elif stream.codec_context is None:
        problem = "holds pictures in a format that cannot be decoded; export it again, such as an MP4"
    elif max(stream.codec_context.width, stream.codec_context.height) > MAX_SIDE_PX:
        size = f"{stream.codec_context.width}×{stream.codec_context.height}"
        problem = f"has pictures of {size} pixels; each side may have {MAX_SIDE_PX}. Scale it down first"
    if problem:
        container.close()
        raise MediaError(f"{path} {problem}.")
    return container, stream


def _upright_size(path: Path) -> tuple[int, int]:
    container, stream = _open(path)
    with container:
        for packet in _packets(container, stream):
            try:
                frames = packet.decode()
            except (av.FFmpegError, OSError):
                continue
            if frames:
                width, height = square_size(frames[0].width, frames[0].height, stream.sample_aspect_ratio)
                return (height, width) if frames[0].rotation % 180 else (width, height)
    raise MediaError(f"the pictures of {path} cannot be decoded; export it again.")


def _packet_times(container: InputContainer, stream: VideoStream) -> tuple[list[Fraction], Fraction, bool]:
    """Sorted times of the first packets in seconds, how long they last in all, and whether these are all."""
    base, stamps, end, complete = Fraction(stream.time_base), [], 0, True
    for packet in _packets(container, stream):
        if packet.pts is None or packet.is_discard:
            continue
        if len(stamps) >= PROBED_PACKETS:
            complete = False
            break
        stamps.append(packet.pts)
        end = max(end, packet.pts + (packet.duration or 0))
    stamps.sort()
    if len(stamps) > 2 * REORDERED and (not complete or len(stamps) < stream.frames):
        del stamps[-REORDERED:]  # pictures that are shown between these come later in the file, or are lost
    if not stamps:
        return [], Fraction(0), complete
    if end <= stamps[-1]:  # the last packet does not say how long it lasts: as long as the one before
        end = 2 * stamps[-1] - stamps[-2] if len(stamps) > 1 else end
    seconds = (end - stamps[0]) * base or 1 / Fraction(stream.average_rate or 25)
    return [stamp * base for stamp in stamps], seconds, complete


def _claimed_s(container: InputContainer, stream: VideoStream) -> Fraction:
    if stream.duration:
        return stream.duration * Fraction(stream.time_base)
    return Fraction(container.duration or 0, av.time_base)


def _rate_of_most(regular: list[Fraction], num_steps: int) -> Fraction | None:
    """Of a variable rate, the usual one of most pictures: at the average, a film with pauses would judder between them.

    Args:
        regular: the steps in seconds that are as long as most.
        num_steps: of all pictures.

    Returns:
        None where the steps differ too much for one rate, or it is no usual one.
    """
    seconds = sum(regular)
    if len(regular) < REGULAR_SHARE * num_steps or not seconds:
        return None
    fps, rounding = len(regular) / seconds, 2 * ROUNDING_S * (num_steps - len(regular) + 1) / seconds
    # rounded stamps may not tell 30 from 29.97: then the first, a whole one
    alike = (usual for usual in USUAL_FPS if abs(usual - fps) < usual * rounding)
    nearest = next(alike, min(USUAL_FPS, key=lambda usual: abs(usual - fps)))
    return nearest if abs(nearest - fps) < nearest / 100 else None


def _average_fps(stream: VideoStream, stamps: list[Fraction], duration: Fraction, variable: bool) -> Fraction:
    span = stamps[-1] - stamps[0] if stamps else Fraction(0)
    if span <= 0:
        return Fraction(stream.average_rate or stream.guessed_rate or 25)
    fps = len(stamps) / duration if variable else (len(stamps) - 1) / span
    nearest = min(USUAL_FPS, key=lambda usual: abs(usual - fps))
    rounding = Fraction(stream.time_base) / span  # by so much two rounded stamps may mislead
    if abs(nearest - fps) < nearest * max(Fraction(1, 1000), rounding):
        return nearest
    return max(fps.limit_denominator(1001), Fraction(1, 1001))  # of a film with hours between pictures it would be 0
