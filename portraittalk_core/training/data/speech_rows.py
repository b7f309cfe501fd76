"""Rows of a speech encoder beside prepared videos: computed once, kept on disk, read by memory mapping.

Shapes: R rows at 50 Hz, D channels, N rows of a window.
Source: ControlTalk's windows: 18 rows of HuBERT from the frame's own time on; `row = round(50 · frame / fps)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from ...errors import InputError
from ...media.tensor_file import save_tensors
from ...progress import Progress
from ...speech.encoders import HOP, SpeechFeatures, WaveEncoder, load_speech_encoder
from ...speech.mel import log_mel
from ...types import SPEECH_RATE_HZ, Speech
from ...weights.load import read_metadata, read_tensors
from .video_clips import SPEECH, VideoClip

ROWS = "speech_rows.safetensors"  # in the folder of a prepared video
ROW_RATE_HZ, WINDOW_ROWS = 50, 18
AHEAD = WINDOW_ROWS * HOP  # samples of silence after the end, so that the last frame has a whole window
LEVEL, SPREAD = -60.0, 20.0  # decibels: of log-mel rows, which become numbers about 0
QUIET = 2 / 32768  # amplitude of the noise that stands for silence
SILENCE_S = 2.0


class RowEncoder(Protocol):
    """What makes rows of speech."""

    name: str

    def encode(self, speech: Speech) -> SpeechFeatures:
        """(R, D) features at 50 Hz, the first one about the first samples."""


class MelEncoder:
    """Log-mel rows in the place of HuBERT's, for training without anybody's weights: two frames of 10 ms each."""

    name = "log-mel"

    def encode(self, speech: Speech) -> SpeechFeatures:
        """(samples // 320, 160) features."""
        mel = (log_mel(speech) - LEVEL) / SPREAD
        count = len(mel) // 2
        return SpeechFeatures(mel[: 2 * count].reshape(count, -1), name=self.name, start_s=0.0)


def open_row_encoder(hubert: Path | None) -> RowEncoder:
    """HuBERT of a weight file, or log-mel rows without one.

    Raises:
        MissingDependency: there is no such file.
        InputError: it holds another kind of network.
    """
    if hubert is None:
        return MelEncoder()
    encoder = load_speech_encoder(hubert)
    if not isinstance(encoder, WaveEncoder):
        raise InputError(
            f"{hubert.name} is {encoder.name}, which has windows of its own; give a HuBERT file as hubert."
        )
    return encoder


def encoder_mark(encoder: RowEncoder) -> str:
    """Fingerprint of an encoder: its name, and its weights where it has some."""
    digest = hashlib.sha256(encoder.name.encode())
    network = getattr(encoder, "network", None)
    for name, tensor in network.state_dict().items() if network is not None else ():
        digest.update(name.encode() + tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def silent_rows(encoder: RowEncoder, num_rows: int = WINDOW_ROWS) -> Tensor:
    """(N, D) rows of silence: noise of two steps of 16 bits of a fixed seed, for no recording is digitally silent."""
    draw = torch.Generator().manual_seed(0)
    noise = QUIET * (2 * torch.rand(round(SILENCE_S * SPEECH_RATE_HZ), generator=draw) - 1)
    return encoder.encode(Speech(noise, "silence")).values[:num_rows]


def window_start(frame: int, fps: Fraction, num_rows: int) -> int:
    """First row of a frame's window, moved back where the rows end."""
    return max(0, min(round(Fraction(ROW_RATE_HZ * frame) / fps), num_rows - WINDOW_ROWS))


@dataclass(frozen=True)
class SpeechRows:
    """Kept rows of videos; a window is read when it is asked for."""

    paths: tuple[Path, ...]  # a file for each video, in the order of the data
    rates: tuple[Fraction, ...]  # frames per second of each
    counts: tuple[int, ...]  # rows of each
    width: int  # D
    mark: str  # fingerprint of the encoder and of all sounds

    def windows(self, video: int, frames: Sequence[int]) -> Tensor:
        """(len(frames), 18, D) float32 windows of a video's frames."""
        from safetensors import safe_open

        starts = [window_start(frame, self.rates[video], self.counts[video]) for frame in frames]
        with safe_open(str(self.paths[video]), framework="pt") as file:
            rows = file.get_slice("rows")
            return torch.stack([rows[start : start + WINDOW_ROWS].float() for start in starts])


def keep_rows(folder: Path, name: str, encoder: RowEncoder, mark: str) -> Path | None:
    """File with the rows (R, D), in half precision, of a prepared video; made if it is absent or of another encoder.

    Args:
        folder: that the videos were prepared into.
        name: of the video.
        encoder: HuBERT, or log-mel rows.
        mark: of the encoder.

    Returns:
        None for a video without sound.

    Raises:
        OutputError: the file cannot be written.
    """
    sound, path = folder / name / SPEECH, folder / name / ROWS
    waveform = read_tensors(sound).get("waveform") if sound.is_file() else None
    if waveform is None or not len(waveform):
        return None
    digest = hashlib.sha256(mark.encode() + waveform.numpy().tobytes()).hexdigest()[:32]
    if not path.is_file() or read_metadata(path).get("mark") != digest:
        rows = encoder.encode(Speech(pad(waveform, (0, AHEAD)), name)).values
        save_tensors({"rows": rows.half()}, path, {"mark": digest, "encoder": encoder.name})
    return path


def read_rows(
    folder: Path, videos: Sequence[VideoClip], encoder: RowEncoder, on_progress: Progress | None = None
) -> tuple[list[VideoClip], SpeechRows, tuple[tuple[str, str], ...]]:
    """Videos that have sound, and their rows; missing rows are computed and kept.

    Args:
        folder: that the videos were prepared into.
        videos: of the data.
        encoder: HuBERT, or log-mel rows.
        on_progress: called with videos done and in all; may raise to stop.

    Returns:
        The videos with sound, their rows, and name and reason of all others.

    Raises:
        InputError: none has sound.
        OutputError: rows cannot be written.
    """
    notify, kept, paths, dropped = on_progress or (lambda *_: None), [], [], []
    mark = encoder_mark(encoder)
    for done, video in enumerate(videos):
        notify(done, len(videos))
        path = keep_rows(folder, video.name, encoder, mark)
        if path is None:
            dropped.append((video.name, "it has no sound, which this training needs"))
            continue
        kept.append(video)
        paths.append(path)
    notify(len(videos), len(videos))
    if not kept:
        raise InputError(f"none of the {len(videos)} videos has sound; prepare videos in which somebody speaks.")
    return kept, _opened(kept, paths, encoder.name), tuple(dropped)


def _opened(videos: Sequence[VideoClip], paths: Sequence[Path], name: str) -> SpeechRows:
    from safetensors import safe_open

    shapes, digest = [], hashlib.sha256(name.encode())
    for path in paths:
        with safe_open(str(path), framework="pt") as file:
            shapes.append(tuple(file.get_slice("rows").get_shape()))
            digest.update((file.metadata() or {})["mark"].encode())
    for video, (count, _) in zip(videos, shapes, strict=True):
        if count < WINDOW_ROWS:
            raise InputError(
                f"{video.name} has sound of {count} rows; a window takes {WINDOW_ROWS}: 0.36 s. Leave it out."
            )
    rates = tuple(video.track.fps for video in videos)
    return SpeechRows(tuple(paths), rates, tuple(n for n, _ in shapes), shapes[0][1], digest.hexdigest())
