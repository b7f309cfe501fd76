"""Drives a KeypointTrack by speech with Audio2Exp: first a silent pass that shuts the mouth, then what is said.

Source: ControlTalk (arXiv 2406.02880), section 3.3, and its public code: the silent pass has alpha 1 throughout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ....checks import check_range
from ....errors import InputError, MissingDependency
from ....progress import Progress
from ....speech.encoders import WaveEncoder, load_speech_encoder
from ....speech.windows import WindowStream
from ....types import KeypointTrack, Speech
from .alpha import DEFAULT_ALPHA, Alpha, AlphaCurve
from .files import load_audio2exp
from .network import Audio2Exp

BATCH = 64  # frames whose windows are embedded at once
MAX_OFFSET = 100  # frames
ENCODER_NAMES = ("model.safetensors", "pytorch_model.bin")  # of a folder of Hugging Face
ENCODER_ADVICE = "chinese-hubert-large (huggingface.co/TencentGameMate/chinese-hubert-large, MIT, 1.3 GB)"


@dataclass(frozen=True)
class Audio2ExpDriver:
    """An Audio2Exp network with its speech encoder."""

    network: Audio2Exp
    encoder: WaveEncoder
    source: str = "Audio2Exp"  # what to call the file in messages

    def __post_init__(self) -> None:
        name, width = self.encoder.name, self.network.size.features
        if not hasattr(self.encoder, "stream") or not name.startswith("hubert"):
            raise InputError(f"{self.source} hears HuBERT; {name} is another speech encoder. Choose {ENCODER_ADVICE}.")
        if self.encoder.network.config.hidden_size != width:
            raise InputError(
                f"{self.source} needs a speech encoder with {width} channels, and {name} has "
                f"{self.encoder.network.config.hidden_size}. Choose {ENCODER_ADVICE}."
            )

    @staticmethod
    def open(
        file: Path, hubert: Path | WaveEncoder | None = None, device: torch.device | str = "cpu"
    ) -> Audio2ExpDriver:
        """The driver of an Audio2Exp file.

        Args:
            file: ControlTalk's lipControlNet.pt or our own safetensors.
            hubert: the speech encoder it was trained with: a file, a folder of Hugging Face, or one that is open.
            device: where both compute.

        Raises:
            MissingDependency: a file is missing, or there is no speech encoder.
            InputError: a file is damaged or of another model.
        """
        if hubert is None:
            raise MissingDependency(f"{Path(file).name} cannot be used yet: give its speech encoder, {ENCODER_ADVICE}.")
        network = load_audio2exp(Path(file)).to(device)
        encoder = load_speech_encoder(encoder_file(Path(hubert)), device) if isinstance(hubert, str | Path) else hubert
        return Audio2ExpDriver(network, encoder, Path(file).name)

    @property
    def layout(self) -> str:
        """Layout of the keypoints that it moves."""
        return self.network.size.layout

    def drive(
        self,
        base: Iterable[KeypointTrack],
        speech: Speech,
        alpha: Alpha = DEFAULT_ALPHA,
        silence_pass: bool = True,
        audio_offset: int = 0,
        silence: Speech | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[KeypointTrack]:
        """Spans of a track that says `speech`; only expression changes.

        Args:
            base: consecutive spans of the layout, such as those of a film or of a head motion at rest.
            speech: the clip; where the track lasts longer, nobody speaks.
            alpha: how far speech moves the expression, 0..2; a curve as `AlphaCurve` has it. 0 shuts the mouth.
            silence_pass: whether the mouth is shut first, with alpha 1; False adds speech to the mouth as it is.
            audio_offset: frames by which the mouth is later than the sound; below 0 it is earlier.
            silence: a recording in which nobody speaks, for the silent pass; None makes one.
            on_progress: called with layers of the speech encoder done and in all; may raise to stop.

        Yields:
            One span for each of `base`; nothing is held but 20 s of features.

        Raises:
            InputError: a bad alpha or offset at once; keypoints of another layout, or of another rate than the first
                span's, when they come.
        """
        curve = AlphaCurve(alpha)
        check_range(audio_offset, -MAX_OFFSET, MAX_OFFSET, "the audio offset in frames")
        if int(audio_offset) != audio_offset:
            raise InputError(f"the audio offset must be whole frames, not {audio_offset:g}.")
        return self._spans(base, speech, curve, silence_pass, (int(audio_offset), silence, on_progress))

    @torch.no_grad()
    def _spans(
        self, base: Iterable[KeypointTrack], speech: Speech, curve: AlphaCurve, silence_pass: bool, heard_by: tuple
    ) -> Iterator[KeypointTrack]:
        windows = quiet = None
        done = 0
        for span in base:
            span.check_layout(self.layout)
            if windows is None:
                windows = WindowStream(self.encoder, speech, span.fps, *heard_by, rows=self.network.size.rows)
                quiet = self._embedding(windows.silence[None]) if silence_pass else None
            if span.fps != windows.fps:
                raise InputError(
                    f"the track goes from {float(windows.fps):g} to {float(span.fps):g} fps; give one rate."
                )
            parts = []
            for part in span.expression.split(BATCH):
                amounts = curve.at(done, len(part), span.fps)
                parts.append(self._moved(part, windows.take(len(part)), quiet, amounts))
                done += len(part)
            yield replace(span, expression=torch.cat(parts))

    def _moved(self, expression: Tensor, windows: Tensor, quiet: Tensor | None, alpha: Tensor) -> Tensor:
        """(T, K, 3) float32 expression that is silent, then says what the windows hold."""
        device = self._device()
        moved = expression.to(device)
        if quiet is not None:
            moved = self.network.displaced(moved, quiet.expand(len(moved), -1))
        moved = self.network.displaced(moved, self._embedding(windows), alpha.to(device))
        return moved.float().cpu()

    def _embedding(self, windows: Tensor) -> Tensor:
        return self.network.audio_encoder(windows.to(self._device()))

    def _device(self) -> torch.device:
        return self.network.out_fc.weight.device


def encoder_file(path: Path) -> Path:
    """A speech encoder's file: as it is, or the one in a folder of Hugging Face.

    Raises:
        MissingDependency: the folder holds none.
    """
    if not path.is_dir():
        return path
    path_found = next((path / name for name in ENCODER_NAMES if (path / name).is_file()), None)
    if path_found is None:
        raise MissingDependency(
            f"the folder {path} holds no speech encoder ({' or '.join(ENCODER_NAMES)}); choose {ENCODER_ADVICE}."
        )
    return path_found
