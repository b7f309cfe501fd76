"""What MuseTalk hears: all hidden states of whisper-tiny's encoder, ten features around each frame.

Shapes: T frames, L + 1 hidden states of an encoder of L layers, D channels.
Source: the public inference of MuseTalk 1.5; `docs/design/lips.md` 5; A. Radford et al. 2022 (arXiv 2212.04356).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from ....errors import InputError
from ....speech.encoders import FEATURE_RATE_HZ, WHISPER_WINDOW, WhisperEncoder, load_speech_encoder
from ....speech.wave import HOP
from ....types import SPEECH_RATE_HZ, Speech, num_frames_for

STATES = 5  # hidden states of whisper-tiny: what enters its four layers, and its output
BEFORE, AFTER = 4, 6  # features of each frame's window: four before the frame, and six from it on
FEATURES_A_FRAME = (BEFORE + AFTER) * STATES
SEGMENT = WHISPER_WINDOW // HOP  # features of one window of 30 s
KEPT = 2  # segments in memory


class WhisperRows:
    """Rows of speech of every frame of a clip, made where they are asked for, so that memory does not grow.

    A frame's window are the features floor(50 t / fps) − 4 .. + 5. From 25 to below 50 frames a second that is the
    public code's; at other rates the public window moves with the rate, and this one stays around the frame.

    Args:
        encoder: whisper-tiny.
        speech: the clip.
        fps: of the frames.
    """

    def __init__(self, encoder: WhisperEncoder, speech: Speech, fps: Fraction) -> None:
        self.encoder, self.speech, self.fps = encoder, speech, Fraction(fps)
        self.num_features = speech.waveform.numel() // HOP
        self.num_frames = num_frames_for(speech.waveform.numel(), SPEECH_RATE_HZ, self.fps)
        self._segments: OrderedDict[int, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return self.num_frames

    def rows(self, frames: Iterable[int]) -> Tensor:
        """(B, 50, D) float32 on the CPU of some frames, whose numbers rise; beyond the clip there are zeros.

        Of a frame's ten features one follows another, each with its five hidden states.
        """
        rate = Fraction(int(FEATURE_RATE_HZ)) / self.fps
        return torch.stack([self._window(int(rate * frame)) for frame in frames])

    def _window(self, at: int) -> Tensor:
        parts = [self._feature(i) for i in range(at - BEFORE, at + AFTER)]
        return torch.cat(parts)

    def _feature(self, i: int) -> Tensor:
        """(5, D) hidden states."""
        if not 0 <= i < self.num_features:
            return torch.zeros(STATES, self.encoder.network.config.d_model)
        return self._segment(i // SEGMENT)[i % SEGMENT]

    def _segment(self, index: int) -> Tensor:
        """(1500, 5, D) of the clip's window of 30 s."""
        if index not in self._segments:
            if len(self._segments) == KEPT:
                self._segments.popitem(last=False)
            first = index * WHISPER_WINDOW
            self._segments[index] = hidden_states(self.encoder, self.speech.waveform[first : first + WHISPER_WINDOW])
        return self._segments[index]


@torch.no_grad()
def hidden_states(encoder: WhisperEncoder, waveform: Tensor) -> Tensor:
    """(1500, L + 1, D) float32 on the CPU: what enters each layer, and the output, of at most 30 s at 16 kHz."""
    network = encoder.network
    states: list[Tensor] = []
    handles = [
        layer.register_forward_pre_hook(
            lambda _, inputs, options: states.append((*inputs, *options.values())[0]), with_kwargs=True
        )
        for layer in network.layers
    ]
    try:
        mel = encoder.spectrogram(waveform.numpy(), sampling_rate=SPEECH_RATE_HZ, return_tensors="pt").input_features
        like = next(network.parameters())
        output = network(mel.to(like)).last_hidden_state
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([*states, output], 2)[0].float().cpu()


def silent_row(encoder: WhisperEncoder) -> Tensor:
    """(50, D) float32 on the CPU: the row of a frame in the middle of 30 s of digital silence."""
    middle = SEGMENT // 2
    return hidden_states(encoder, torch.zeros(WHISPER_WINDOW))[middle - BEFORE : middle + AFTER].flatten(0, 1)


def open_whisper(path: Path, row_width: int, device: torch.device | str = "cpu") -> WhisperEncoder:
    """Whisper's encoder of a file, if it is the one that MuseTalk was trained with.

    Args:
        path: see `speech.encoders.load_speech_encoder`.
        row_width: channels that the UNet hears.
        device: of the encoder.

    Raises:
        MissingDependency: no such file, or transformers is not installed.
        InputError: damaged, or another encoder.
    """
    encoder = load_speech_encoder(path, device)
    if not isinstance(encoder, WhisperEncoder):
        raise InputError(f"{Path(path).name} is {encoder.name}; MuseTalk hears openai/whisper-tiny. Give its file.")
    config = encoder.network.config
    if (config.d_model, config.encoder_layers + 1) != (row_width, STATES):
        raise InputError(
            f"{Path(path).name} is {encoder.name}, of {config.d_model} channels and {config.encoder_layers} layers; "
            f"MuseTalk hears openai/whisper-tiny, of {row_width} and {STATES - 1}. Give its file."
        )
    return encoder
