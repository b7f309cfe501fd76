"""Sound tracks of files, decoded block by block on the file's clock."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream

from ..errors import InputError, MediaError
from .files import open_media
from .mix import Block
from .once import warn_once

log = logging.getLogger(__name__)

_UNKNOWN_SIZE = 0x7FFFF000  # writers that stream put this or more into a WAV header

MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
GAP_S = 0.045  # sound that comes so much too early is noticed (ITU-R BT.1359)
RESTART_S = 1.0  # a clock that goes back by more was set anew
MAX_SILENCE_S, MAX_SILENT_SHARE = 600, 10  # silence in gaps, and more of it for every second of sound


@dataclass(frozen=True)
class SoundChoice:
    """One of a file's sound tracks."""

    path: Path
    track: int | None = None  # counted from 1; None is the one that the file calls its default, or the first


class SoundFile:
    """A sound track of a file, decoded block by block by the file's clock.

    Time 0 is where the pictures begin, or the sound in a file without pictures. Sound before it is left out; where
    there is none, at the start or in a gap, there is silence.

    Args:
        source: a file, whose default track is taken, or the choice of a track.

    Raises:
        MediaError: missing, empty, unreadable, or without sound that can be decoded.
        InputError: no such track.
    """

    def __init__(self, source: Path | str | SoundChoice) -> None:
        choice = source if isinstance(source, SoundChoice) else SoundChoice(Path(source))
        self.path = Path(choice.path)
        self._container = open_media(self.path)
        try:
            self._stream = self._choose(choice.track)
            self.rate, self.num_channels = _format_of(self._stream, self.path)
        except InputError:
            self.close()
            raise
        pictures = [s for s in self._container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        start = pictures[0].start_time if pictures else None
        self._zero_s = None if start is None else start * pictures[0].time_base  # None: where the sound begins
        self._shift_s: Fraction | None = None  # stamps count so much more than what was given
        self._skip_s = Fraction(0)  # of the sound that comes next
        self._counted_s, self._counted, self._counted_hz = Fraction(0), 0, 1  # what was given: seconds, and samples
        self._silent_s = Fraction(0)  # of it silence in gaps
        self.num_damaged = 0  # parts that could not be decoded
        self.error = ""  # what ended the reading before the end of the file

    @property
    def _given_s(self) -> Fraction:
        """Seconds given, silence in gaps included."""
        return self._counted_s + Fraction(self._counted, self._counted_hz)

    @property
    def seconds(self) -> float:
        """Length decoded so far, silence in gaps included."""
        return float(self._given_s)

    @property
    def tracks(self) -> list[str]:
        """What the file says of each of its sound tracks, such as `deu "Commentary"`."""
        return [_described(stream) for stream in self._container.streams.audio]

    @property
    def track(self) -> int:
        """The number of the track that is read, from 1."""
        return 1 + [stream.index for stream in self._container.streams.audio].index(self._stream.index)

    def blocks(self) -> Iterator[Block]:
        """Decoded blocks, without the damaged parts.

        Raises:
            MediaError: the sampling rate becomes one that no speech has.
        """
        for packet in self._packets():
            try:
                frames = packet.decode()
            except (av.FFmpegError, OSError) as error:
                self.num_damaged += 1
                self.error = self.error or str(error)
                continue
            for frame in frames:
                _check_rate(frame.sample_rate, self.path)
                names = tuple(channel.name for channel in frame.layout.channels)
                for block in self._placed(Block(float_planes(frame), frame.sample_rate, names), frame):
                    if block.rate != self._counted_hz:
                        self._counted_s, self._counted, self._counted_hz = self._given_s, 0, block.rate
                    self._counted += block.samples.shape[1]
                    yield block

    def _placed(self, block: Block, frame: av.AudioFrame) -> Iterator[Block]:
        """A block, after silence or without its beginning as its time stamp demands."""
        if self._is_due(block, frame):
            yield block
            return
        missing_s = Fraction(0) if frame.pts is None else self._compared(frame.pts * Fraction(frame.time_base))
        while missing_s > 0:
            count = round(min(missing_s, 1) * block.rate)
            if not count:
                break
            yield block._replace(samples=np.zeros((len(block.samples), count), np.float32))
            missing_s -= Fraction(count, block.rate)
        skipped = min(round(self._skip_s * block.rate), block.samples.shape[1])
        if skipped:
            self._skip_s -= Fraction(skipped, block.rate)
            block = block._replace(samples=block.samples[:, skipped:])
        if block.samples.shape[1]:
            yield block

    def _is_due(self, block: Block, frame: av.AudioFrame) -> bool:
        """Whether a block follows on what was given, as nearly all do; fractions would take longer than decoding."""
        if self._skip_s or self._shift_s is None or frame.time is None or not block.samples.shape[1]:
            return False
        given_s = float(self._counted_s) + self._counted / self._counted_hz
        return abs(frame.time - float(self._shift_s) - given_s) < GAP_S / 2

    def _compared(self, stamp_s: Fraction) -> Fraction:
        """Silence due before what is stamped `stamp_s`, in seconds; what comes too early is marked to be skipped."""
        if self._shift_s is None:  # the first
            self._shift_s = stamp_s if self._zero_s is None else self._zero_s
            late_s, tolerance_s, restart_s = stamp_s - self._shift_s, 0, math.inf
        else:
            late_s, tolerance_s, restart_s = stamp_s - self._shift_s - self._given_s + self._skip_s, GAP_S, RESTART_S
        if tolerance_s < late_s <= self._longest_gap_s:
            self._silent_s += late_s
            return late_s
        if -restart_s < late_s < -tolerance_s:
            self._skip_s -= late_s
            if -late_s > RESTART_S:
                warn_once(
                    log, "%s: its pictures begin %.2f s after its sound; the sound before them is left out.",
                    self.path, float(-late_s),
                )  # fmt: skip
        elif abs(late_s) > tolerance_s:  # a clock that was set anew
            self._shift_s += late_s
            log.debug("%s: its clock jumps by %.2f s, which is left out.", self.path, float(late_s))
        return Fraction(0)

    @property
    def _longest_gap_s(self) -> float:
        """Silence that may be put in: no more than the file is long, nor than a small file can be meant to hold."""
        fair_s = MAX_SILENCE_S + MAX_SILENT_SHARE * (self._given_s - self._silent_s) - self._silent_s
        claimed = self._container.duration
        return min(fair_s, claimed / av.time_base + 1 - self.seconds) if claimed else fair_s

    def _choose(self, track: int | None) -> AudioStream:
        streams = self._container.streams.audio
        if not streams:
            content = "a video without sound" if self._container.streams.video else "not a sound file"
            raise MediaError(f"{self.path} is {content}; give a file with speech in it, such as a WAV or MP3.")
        if track is None:
            return next((s for s in streams if s.disposition & av.stream.Disposition.default), streams[0])
        if not 1 <= track <= len(streams):
            raise InputError(f"{self.path} has no sound track {track}; choose one of 1 to {len(streams)}.")
        return streams[track - 1]

    @property
    def expected_s(self) -> float:
        """Length that the file claims, or what was decoded where it claims none or only guesses."""
        if self._container.format.name in ("aac", "mp3"):
            return self.seconds
        if self._stream.duration:
            share = self._share_of_wav() if self._container.format.name == "wav" else 1.0
            return (float(self._stream.duration * self._stream.time_base) + self._start_s) / share
        if self._container.duration and len(self._container.streams) == 1:
            return self._container.duration / av.time_base
        return self.seconds

    @property
    def stated_s(self) -> float | None:
        """Length from time 0 on that the file states, None where it states none."""
        if self._stream.duration:
            return float(self._stream.duration * self._stream.time_base) + self._start_s
        return self._container.duration / av.time_base if self._container.duration else None

    @property
    def _start_s(self) -> float:
        """When the track begins, after time 0."""
        if self._zero_s is None or self._stream.start_time is None:
            return 0.0
        return float(self._stream.start_time * self._stream.time_base - self._zero_s)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __enter__(self) -> SoundFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _packets(self) -> Iterator[av.Packet]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:  # a file that breaks off inside its structure
                self.num_damaged += 1
                self.error = self.error or str(error)
                return
            if packet is None:
                return
            yield packet

    def _share_of_wav(self) -> float:
        """Fraction of a WAV file that is present; FFmpeg takes its length from the file's size and misses the loss."""
        with self.path.open("rb") as file:
            head = file.read(8)
        claimed = int.from_bytes(head[4:8], "little") + 8
        if head[:4] != b"RIFF" or not 8 < claimed < _UNKNOWN_SIZE:
            return 1.0
        return min(1.0, self.path.stat().st_size / claimed)


def _format_of(stream: AudioStream, path: Path) -> tuple[int, int]:
    """Sampling rate in Hz and number of channels of a track that can be decoded."""
    codec = stream.codec_context
    if codec is None or not codec.channels:
        reason = "has no channels" if codec else "is in a format that cannot be decoded"
        raise MediaError(f"the sound of {path} {reason}; export it again, such as a WAV or MP3.")
    return _check_rate(codec.sample_rate, path), codec.channels


def _check_rate(rate: int, path: Path) -> int:
    if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        raise MediaError(
            f"the sound of {path} claims a sampling rate of {rate} Hz; {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz are read. "
            "Export it again."
        )
    return rate


def _described(stream: AudioStream) -> str:
    language, title = stream.metadata.get("language", ""), stream.metadata.get("title", "")
    parts = ["" if language == "und" else language, title and f'"{title}"']
    return " ".join(part for part in parts if part) or "no name"


def float_planes(frame: av.AudioFrame) -> np.ndarray:
    """(C, n) float32 samples of a decoded frame, −1..1."""
    samples = _wide_planes(frame) if frame.format.name.startswith("s64") else frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    return samples.astype(np.float32)


def _wide_planes(frame: av.AudioFrame) -> np.ndarray:
    """Samples of 64-bit integers, which PyAV does not convert."""
    count = frame.samples * (1 if frame.format.is_planar else len(frame.layout.channels))
    return np.stack([np.frombuffer(plane, np.int64, count) for plane in frame.planes])
