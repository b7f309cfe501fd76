"""Sound as a stream of float blocks: decoded, mixed down and resampled without ever holding all of it.

Blocks are (C, n) float32 arrays in -1..1.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.audio.stream import AudioStream
from torch import Tensor

from ..errors import InputError, MediaError
from .files import open_media
from .once import warn_once

log = logging.getLogger(__name__)

# How loud each channel is on the left of a stereo mix; the right mirrors it (ITU-R BS.775: 3 dB less from elsewhere).
_HALF_POWER = math.sqrt(0.5)
_TO_LEFT = {"FL": 1.0, "FC": _HALF_POWER, "SL": _HALF_POWER, "BL": _HALF_POWER, "BC": 0.5, "FLC": 1.0, "LFE": 0.0}
_MIRROR = {"FL": "FR", "SL": "SR", "BL": "BR", "FLC": "FRC"}
_TO_LEFT |= {right: 0.0 for right in _MIRROR.values()}
_MIRROR |= {right: left for left, right in _MIRROR.items()}
# What a file that does not name its channels means by so many of them.
_USUAL_LAYOUT = {6: ("FL", "FR", "FC", "LFE", "BL", "BR"), 8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR")}
_UNKNOWN_SIZE = 0x7FFFF000  # writers that stream put this or more into a WAV header

MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 384_000
GAP_S = 0.045  # sound that comes so much too early is noticed (ITU-R BT.1359)
RESTART_S = 1.0  # a clock that goes back by more was set anew
MAX_GAP_S = 3600.0  # of a file that does not say how long it is
CANCEL = 10.0  # as a ratio of powers: a sum so much weaker than with channels turned over has cancelled out
PHASE_S = 0.05  # by how long channels are compared
FADE_S = 0.01


class Block(NamedTuple):
    """A stretch of sound as it was recorded."""

    samples: np.ndarray  # (C, n) float32
    rate: int  # Hz
    channels: tuple[str, ...]  # FFmpeg's names, "NONE" where the file has none


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
        self._given_s = Fraction(0)
        self.num_damaged = 0  # parts that could not be decoded
        self.error = ""  # what ended the reading before the end of the file

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
                for block in self._placed(Block(_float_planes(frame), frame.sample_rate, names), frame):
                    self._given_s += Fraction(block.samples.shape[1], block.rate)
                    yield block

    def _placed(self, block: Block, frame: av.AudioFrame) -> Iterator[Block]:
        """A block, after silence or without its beginning as its time stamp demands."""
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

    def _compared(self, stamp_s: Fraction) -> Fraction:
        """Silence due before what is stamped `stamp_s`, in seconds; what comes too early is marked to be skipped."""
        if self._shift_s is None:  # the first
            self._shift_s = stamp_s if self._zero_s is None else self._zero_s
            late_s, tolerance_s, restart_s = stamp_s - self._shift_s, 0, math.inf
        else:
            late_s, tolerance_s, restart_s = stamp_s - self._shift_s - self._given_s + self._skip_s, GAP_S, RESTART_S
        if tolerance_s < late_s <= self._longest_gap_s:
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
        return Fraction(0)

    @property
    def _longest_gap_s(self) -> float:
        claimed = self._container.duration
        return claimed / av.time_base + 1 - self.seconds if claimed else MAX_GAP_S

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


def tensor_blocks(waveform: Tensor, rate: int) -> Iterator[Block]:
    """A (C, N) waveform in memory as blocks of a second."""
    names = _USUAL_LAYOUT.get(len(waveform), ("NONE",) * len(waveform))
    for start in range(0, waveform.shape[1], rate):
        samples = waveform[:, start : start + rate].detach().float().cpu().numpy()
        yield Block(samples, rate, names)


def mix_blocks(blocks: Iterable[Block], num_channels: int, rate: int) -> Iterator[np.ndarray]:
    """Mix blocks to one or two channels and resample them.

    In a mix to one, channels in opposite phase to the loudest are turned over where their sum would cancel out.

    Args:
        blocks: rate and channels may change on the way.
        num_channels: 1 or 2.
        rate: Hz of the result.

    Yields:
        (num_channels, n) float32.
    """
    layout = "mono" if num_channels == 1 else "stereo"
    resampler, from_rate = None, rate
    phases, from_channels = None, None
    for block in blocks:
        if num_channels == 1 and len(block.samples) > 1:
            if block.channels != from_channels:
                phases, from_channels = _Phases(mix_weights(block.channels, 1)[0]), block.channels
            mixed = phases.mix(block.samples, block.rate)
        else:
            mixed = mix(block.samples, block.channels, num_channels)
        if block.rate != from_rate:
            yield from _resampled(resampler, None)
            resampler = av.AudioResampler("fltp", layout, rate) if block.rate != rate else None
            from_rate = block.rate
        if resampler is None:
            yield mixed
        elif mixed.shape[1]:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mixed), "fltp", layout)
            frame.sample_rate = block.rate
            yield from _resampled(resampler, frame)
    yield from _resampled(resampler, None)


def mix(samples: np.ndarray, channels: tuple[str, ...], num_channels: int) -> np.ndarray:
    """Mix (C, n) samples down to one or two channels, never louder than the loudest channel.

    Args:
        samples: (C, n).
        channels: FFmpeg's names of the C channels.
        num_channels: 1 or 2.

    Returns:
        (num_channels, n) float32.
    """
    if len(samples) == num_channels:
        return samples
    if len(samples) == 1:
        return np.repeat(samples, num_channels, 0)
    return mix_weights(channels, num_channels) @ samples


def mix_weights(channels: tuple[str, ...], num_channels: int) -> np.ndarray:
    """(num_channels, C) float32 share of each of C channels in a mix to one or two."""
    count = len(channels)
    names = channels if "NONE" not in channels else _USUAL_LAYOUT.get(count, ())
    left = np.array([_TO_LEFT.get(name, 0.5) for name in names] or [1.0] * count)
    right = np.array([_TO_LEFT.get(_MIRROR.get(name, name), 0.5) for name in names] or [1.0] * count)
    rows = np.stack([left + right] if num_channels == 1 else [left, right])
    if not rows.any():
        rows = np.ones_like(rows)
    return (rows / rows.sum(1).max()).astype(np.float32)


class _Phases:
    """Mix of C channels to one, in which those of opposite phase to the loudest are turned over rather than lost."""

    def __init__(self, weights: np.ndarray) -> None:
        self._weights = weights.astype(np.float64)
        self._signs = np.ones(len(weights))
        self._powers = np.zeros((len(weights), len(weights)))  # of the last moments, weighted, and what they share
        self._begun = False

    def mix(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """(1, n) float32 of (C, n) samples."""
        step = max(1, round(PHASE_S / 2 * rate))
        pieces = [self._piece(samples[:, at : at + step], rate) for at in range(0, samples.shape[1], step)]
        return np.concatenate(pieces, 1) if pieces else np.zeros((1, 0), np.float32)

    def _piece(self, samples: np.ndarray, rate: int) -> np.ndarray:
        before, count = self._signs, samples.shape[1]
        weighted = samples * self._weights[:, None]
        self._powers = self._powers * math.exp(-count / (PHASE_S * rate)) + weighted @ weighted.T
        self._signs = self._chosen()
        gains = (self._signs * self._weights).astype(np.float32)
        mixed = gains @ samples
        if self._begun and before is not self._signs:
            fade = np.linspace(1, 0, min(count, max(1, round(FADE_S * rate))), dtype=np.float32)
            other = (before * self._weights).astype(np.float32) @ samples[:, : len(fade)]
            mixed[: len(fade)] += fade * (other - mixed[: len(fade)])
        self._begun = True
        return mixed[None]

    def _chosen(self) -> np.ndarray:
        """Signs of the channels; those in use while they do."""
        plain = np.ones(len(self._signs))
        turned = np.where(self._powers[self._powers.diagonal().argmax()] < 0, -1.0, 1.0)
        turned *= turned[0]  # the first channel stays as it is
        power, best = self._power(self._signs), self._power(turned)
        if power * CANCEL < best:
            if (turned < 0).any():
                log.info("channels are in opposite phase; %d of %d are turned over.", (turned < 0).sum(), len(turned))
            return turned
        return plain if (self._signs < 0).any() and 2 * self._power(plain) > best else self._signs

    def _power(self, signs: np.ndarray) -> float:
        return float(signs @ self._powers @ signs)


def _resampled(resampler: av.AudioResampler | None, frame: av.AudioFrame | None) -> Iterator[np.ndarray]:
    if resampler is None:
        return
    for resampled in resampler.resample(frame):
        yield resampled.to_ndarray()


def _format_of(stream: AudioStream, path: Path) -> tuple[int, int]:
    """Sampling rate in Hz and number of channels of a track that can be decoded."""
    codec = stream.codec_context
    if codec is None or not codec.channels:
        said = "has no channels" if codec else "is in a format that cannot be decoded"
        raise MediaError(f"the sound of {path} {said}; export it again, such as a WAV or MP3.")
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


def _float_planes(frame: av.AudioFrame) -> np.ndarray:
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
