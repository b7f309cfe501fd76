"""What IP-LAP's landmark generator hears of every frame: tokens of the mel chunks of its window.

Shapes: F frames at 25 Hz, D channels of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ...speech.wav2lip_mel import (
    CHUNK_COLUMNS,
    CHUNK_LEAD,
    CHUNK_RATE,
    COLUMN_RATE_HZ,
    NUM_MELS,
    SILENCE,
    mel_chunks,
    mel_pieces,
)
from ...types import Speech
from .network import WINDOW, LandmarkNet

MIDDLE = WINDOW // 2  # the frame of a window that is kept
REACH = MIDDLE + CHUNK_LEAD  # chunks before its own index that a frame's window begins with
BATCH = 16  # frames predicted at once


def encoded_in_fives(encode: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """(N, D) tokens of N pieces, which are encoded as many at a time as a window has.

    The last bits of a convolution depend on how many pieces go together; the public code encodes a window's five.
    """
    parts = []
    for part in values.split(WINDOW):
        filled = torch.cat([part, part[-1:].expand(WINDOW - len(part), *part.shape[1:])])
        parts.append(encode(filled)[: len(part)])
    return torch.cat(parts)


def silent_token(net: LandmarkNet) -> Tensor:
    """(1, D) audio token of a chunk of digital silence."""
    weight = next(net.parameters())
    silence = torch.full((1, NUM_MELS, CHUNK_COLUMNS), SILENCE, device=weight.device, dtype=weight.dtype)
    return encoded_in_fives(net.encode_sound, silence)


@torch.no_grad()
def sound_windows(
    net: LandmarkNet, speech: Speech, total: int, length: int | None = None
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The audio tokens of every frame's window, batch by batch; each mel chunk is encoded once.

    Args:
        net: the network.
        speech: the clip.
        total: F; at most the number of frames that the clip lasts, where no length is given.
        length: samples after which nothing sounds; None: the clip counts as followed by silence.

    Yields:
        The first frame of a batch, the tokens (f, 5, D) of its windows, and (f,) bool: windows of digital silence.
    """
    weight, silence = next(net.parameters()), silent_token(net)
    tokens = torch.empty(0, silence.shape[1], device=weight.device, dtype=weight.dtype)  # one a chunk
    quiet = torch.empty(0, dtype=torch.bool)
    for start in range(0, total, BATCH):
        stop = min(start + BATCH, total)
        chunks = _chunks(speech, start, stop, length)
        silent = (chunks == SILENCE).flatten(1).all(1)
        encoded = silence.repeat(len(chunks), 1)
        if not silent.all():
            sounding = chunks[~silent].to(weight.device, weight.dtype)
            encoded[~silent.to(weight.device)] = encoded_in_fives(net.encode_sound, sounding)
        tokens, quiet = torch.cat([tokens, encoded]), torch.cat([quiet, silent])
        first = stop - len(tokens)
        # the window of frame t is the chunks t − 4 .. t, of which the third has its middle in the frame's own
        window = torch.arange(start, stop)[:, None] + torch.arange(WINDOW) - REACH
        window = window.clamp(min=0) - first
        yield start, tokens[window.to(weight.device)], quiet[window].all(1)
        tokens, quiet = tokens[-REACH:], quiet[-REACH:]


def _chunks(speech: Speech, start: int, stop: int, length: int | None) -> Tensor:
    """(stop − start, 80, 16) mel chunks, see `sound_windows`."""
    if length is None:
        return mel_chunks(speech, start, stop)
    return mel_pieces(speech, [k * COLUMN_RATE_HZ // int(CHUNK_RATE) for k in range(start, stop)], length)
