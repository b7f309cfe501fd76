"""Sound that arrives while it is used: a stream such as stdin, or a microphone, as 16 kHz mono."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..errors import MediaError
from ..types import SPEECH_RATE_HZ
from .mix import Block, mix_blocks
from .sound import float_planes

if TYPE_CHECKING:
    from av.container import InputContainer

BUFFER_BYTES = 1024  # of a stream: 32 ms of 16 kHz, so that little waits before it is decoded
MICROPHONES = {"linux": ("alsa", "default"), "darwin": ("avfoundation", ":default"), "win32": ("dshow", "")}


def stream_sound(stream: BinaryIO, source: str = "standard input") -> Iterator[Tensor]:
    """The sound of a WAV stream as it arrives.

    Args:
        stream: with `read`; its header may claim any length.
        source: what to call it in messages.

    Yields:
        (N,) float32 samples, −1..1, at 16 kHz.

    Raises:
        MediaError: it is no WAV.
    """
    import av

    try:
        container = av.open(stream, format="wav", buffer_size=BUFFER_BYTES)
    except (av.FFmpegError, ValueError, EOFError) as error:
        raise MediaError(
            f"{source} holds no WAV sound ({error}); pipe one in, as `arecord -f S16_LE -r 16000 -t wav |` does."
        ) from error
    yield from _samples(container, source)


def microphone_sound(device: str = "") -> Iterator[Tensor]:
    """What a microphone hears.

    Args:
        device: its name for the system's sound (ALSA, AVFoundation, DirectShow); empty takes the default one.
            "KIND:NAME" names another kind of FFmpeg's input devices.

    Yields:
        (N,) float32 samples, −1..1, at 16 kHz.

    Raises:
        MediaError: there is none, or it cannot be opened.
    """
    import av

    kind, default = MICROPHONES.get(sys.platform, ("alsa", "default"))
    named, _, rest = device.partition(":")
    if rest and named in av.formats_available:
        kind, device = named, rest
    if kind == "dshow" and not device:
        raise MediaError("on Windows a microphone must be named; give its name as the system's sound settings show it.")
    name = device or default
    try:
        container = av.open(f"audio={name}" if kind == "dshow" else name, format=kind)
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(
            f"the microphone {name} ({kind}) cannot be opened ({error}); name another one, or pipe a WAV into standard "
            "input."
        ) from error
    yield from _samples(container, f"the microphone {name}")


def _samples(container: InputContainer, source: str) -> Iterator[Tensor]:
    with container:
        if not container.streams.audio:
            raise MediaError(f"{source} holds no sound.")
        for mono in mix_blocks(_blocks(container, source), 1, SPEECH_RATE_HZ):
            yield torch.from_numpy(np.nan_to_num(mono[0], nan=0, posinf=0, neginf=0)).clamp(-1, 1)


def _blocks(container: InputContainer, source: str) -> Iterator[Block]:
    import av

    try:
        for frame in container.decode(audio=0):
            names = tuple(channel.name for channel in frame.layout.channels)
            yield Block(float_planes(frame), frame.sample_rate, names)
    except av.FFmpegError as error:
        raise MediaError(f"{source} can no longer be read ({error}).") from error
