"""Silero's voice activity network in torch: the probability that somebody speaks, every 32 ms.

Learnt from the published weights and from what the published model answers; no code of it was used. A window is the
magnitude spectrum of 36 ms, four convolutions make one vector of it, and an LSTM cell carries what was heard before.

Source and licence of the weights: silero-vad 6.2.3, MIT, Silero Team (see NOTICE and ``weights/voice_activity.md``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_finite, check_shape
from ..errors import InputError, MissingDependency
from ..threads import one_torch_thread
from ..types import SPEECH_RATE_HZ, Speech

WINDOW = 512  # samples of one answer: 32 ms
CONTEXT = 64  # samples before them that the network sees too
FFT_SIZE, HOP = 256, 128
WIDTH = 128  # channels of the LSTM cell
LOUD, MAX_GAIN = 0.1, 1000.0  # a clip whose loudest half second has a lower RMS is raised to it, by up to 60 dB
MEASURED = SPEECH_RATE_HZ // 2
BLOCK = 128  # windows whose spectra are computed at once: 4 s
WEIGHTS = Path(__file__).with_name("weights") / "voice_activity.safetensors"
SHA256 = "86d0b230328a7361b6bfca381dea4d05e0b0fce16a0d4de5b69fe13db9b11778"

State = tuple[Tensor, Tensor]  # (1, 1, 128) each: what the LSTM cell remembers


class VoiceNetwork(nn.Module):
    """From windows of sound to the probability of a voice in each."""

    def __init__(self) -> None:
        super().__init__()
        bins = FFT_SIZE // 2 + 1
        self.encoder = nn.Sequential(
            nn.Conv1d(bins, 128, 3, padding=1), nn.ReLU(),
            nn.Conv1d(128, 64, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv1d(64, 64, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv1d(64, WIDTH, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.memory = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.answer = nn.Linear(WIDTH, 1)

    def forward(self, windows: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Probabilities of consecutive windows of one clip.

        Args:
            windows: (K, 576) samples −1..1 at 16 kHz: the 64 before a window, and its 512.
            state: what the call before this one returned; None begins a clip.

        Returns:
            (K,) 0..1, and the state for the next windows.
        """
        vectors = self.encoder(spectra(windows))[:, :, 0]
        hidden, state = self.memory(vectors[None], state)
        return self.answer(hidden[0].relu())[:, 0].sigmoid(), state


def spectra(windows: Tensor) -> Tensor:
    """(K, 129, 4) magnitude spectra of (K, 576) samples, one every 8 ms; the last one sees the end mirrored."""
    mirrored = F.pad(windows, (0, CONTEXT), mode="reflect")
    frames = mirrored.unfold(1, FFT_SIZE, HOP) * torch.hann_window(FFT_SIZE, device=windows.device)
    return torch.fft.rfft(frames).abs().transpose(1, 2)


@cache
def load_voice_network() -> VoiceNetwork:
    """The network with this package's weights; read and checked once per process.

    Raises:
        MissingDependency: the weights that come with this package are not there.
        InputError: the file is damaged.
    """
    from safetensors.torch import load

    if not WEIGHTS.is_file():
        raise MissingDependency(f"the voice activity weights {WEIGHTS} are missing; install this package again.")
    content = WEIGHTS.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise InputError(f"the voice activity weights {WEIGHTS} are damaged (another SHA-256); install it again.")
    network = VoiceNetwork()
    network.load_state_dict({name: tensor.float() for name, tensor in load(content).items()})
    return network.eval().requires_grad_(False)


class LiveVoice:
    """Voice probabilities of sound that arrives in pieces of any size; the same in pieces as at once."""

    latency_s = WINDOW / SPEECH_RATE_HZ  # a window is answered when its last sample is there

    def __init__(self) -> None:
        self._network = load_voice_network()
        self._sound = torch.zeros(CONTEXT)  # begins with the context of the next window
        self._state: State | None = None

    def push(self, waveform: Tensor) -> Tensor:
        """Process the next samples of a clip.

        Args:
            waveform: (N,) the next samples at 16 kHz, any number, −1..1.

        Returns:
            (K,) probabilities of the windows that are now complete, 31.25 a second.

        Raises:
            ShapeError, InputError: another shape, or values that are not finite.
        """
        check_finite(check_shape(waveform, "N", "the waveform"), "the waveform")
        sound = torch.cat([self._sound, waveform.float()])
        count = (len(sound) - CONTEXT) // WINDOW
        answers = [torch.empty(0)]
        with one_torch_thread(), torch.inference_mode():
            for first in range(0, count, BLOCK):
                last = min(first + BLOCK, count)
                piece = sound[first * WINDOW : last * WINDOW + CONTEXT]
                probability, self._state = self._network(piece.unfold(0, WINDOW + CONTEXT, WINDOW), self._state)
                answers.append(probability)
        self._sound = sound[count * WINDOW :].clone()
        return torch.cat(answers)


def voice_probability(speech: Speech) -> Tensor:
    """How sure the network is of a voice in every 32 ms of a clip; a quiet clip is heard as loud as others.

    Memory does not grow with the clip, besides the answer.

    Returns:
        (ceil(samples / 512),) 0..1; silence follows a clip whose last window is not full.
    """
    return torch.cat(list(iterate_voice_probability(speech)))


def iterate_voice_probability(speech: Speech) -> Iterator[Tensor]:
    """`voice_probability` in blocks of up to 4 s, none of them empty, each computed when it is asked for."""
    live, pieces = LiveVoice(), speech.waveform.split(BLOCK * WINDOW)
    gain = min(max(1.0, LOUD / max(_loudest(pieces), 1e-9)), MAX_GAIN)
    for piece in pieces:
        answer = live.push(piece if gain == 1 else piece * gain)
        if len(answer):  # of a clip of less than a window, nothing before its end
            yield answer
    if missing := -len(speech.waveform) % WINDOW:
        yield live.push(torch.zeros(missing))


def _loudest(pieces: Sequence[Tensor]) -> float:
    """Root mean square of the loudest half second of a clip."""
    loudest = 0.0
    for piece in pieces:
        parts = F.pad(piece, (0, -len(piece) % MEASURED)).reshape(-1, MEASURED)
        loudest = max(loudest, float(parts.square().mean(1).amax().sqrt()))
    return loudest
