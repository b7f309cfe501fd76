"""Rows of a speech encoder beside prepared videos: computed once, kept on disk, read by memory mapping.

Shapes: R rows at 50 Hz, D channels, N = 18 rows of a window.
Source: ControlTalk's windows, see `speech.windows`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from ...errors import InputError
from ...media.tensor_file import save_tensors
from ...progress import Progress
from ...speech.encoders import WaveEncoder, load_speech_encoder
from ...speech.mel import log_mel
from ...speech.wave import HOP, TAIL, clip_normalisation
from ...speech.windows import ROWS, WaveEncoderLike, made_silence, missing_samples, window_start
from ...types import Speech
from ...weights.load import read_metadata, read_tensors
from .video_clips import SPEECH, VideoClip

ROWS_FILE = "speech_rows.safetensors"  # in the folder of a prepared video
LEVEL, SPREAD = -60.0, 20.0  # decibels: of log-mel rows, which become numbers about 0


class MelEncoder:
    """Log-mel rows in the place of HuBERT's, for training without anybody's weights: two frames of 10 ms each."""

    name = "log-mel"

    def stream(
        self,
        speech: Speech,
        silence: int = 0,
        normalisation: tuple[Tensor, Tensor] | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[Tensor]:
        """The (R, 160) features of a clip at once, as many as HuBERT has; loudness stays as it is."""
        waveform = pad(speech.waveform, (0, silence))
        mel = (log_mel(Speech(waveform, speech.source)) - LEVEL) / SPREAD
        count = (len(waveform) - TAIL) // HOP
        yield mel[: 2 * count].reshape(count, -1)


def open_row_encoder(hubert: Path | None) -> WaveEncoderLike:
    """HuBERT of a weight file, or log-mel rows without one.

    Raises:
        MissingDependency: there is no such file.
        InputError: it holds another kind of network.
    """
    if hubert is None:
        return MelEncoder()
    encoder = load_speech_encoder(hubert)
    if not isinstance(encoder, WaveEncoder):
        raise InputError(f"{hubert.name} is {encoder.name}, which hears windows of its own; give a HuBERT file.")
    return encoder


def encoder_mark(encoder: WaveEncoderLike) -> str:
    """Fingerprint of an encoder: its name, and its weights where it has some."""
    digest = hashlib.sha256(encoder.name.encode())
    network = getattr(encoder, "network", None)
    for name, tensor in network.state_dict().items() if network is not None else ():
        digest.update(name.encode() + tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class SpeechRows:
    """Kept rows of videos; a window is read when it is asked for."""

    paths: tuple[Path, ...]  # a file for each video, in the order of the data
    rates: tuple[Fraction, ...]  # frames per second of each
    width: int  # D
    mark: str  # fingerprint of the encoder and of all sounds

    def windows(self, video: int, frames: Sequence[int]) -> Tensor:
        """(len(frames), 18, D) float32 windows of a video's frames."""
        from safetensors import safe_open

        starts = [window_start(frame, self.rates[video]) for frame in frames]
        with safe_open(str(self.paths[video]), framework="pt") as file:
            rows = file.get_slice("rows")
            return torch.stack([rows[start : start + ROWS] for start in starts]).float()

    def silence(self, video: int) -> Tensor:
        """(18, D) float32 window of a silence as loud beside the video's speech as the driver's."""
        from safetensors import safe_open

        with safe_open(str(self.paths[video]), framework="pt") as file:
            return file.get_tensor("silence").float()


def keep_rows(folder: Path, video: VideoClip, encoder: WaveEncoderLike, mark: str) -> Path | None:
    """File with the rows (R, D) of a prepared video, in half precision, and those of silence; made if it is absent.

    Args:
        folder: that the videos were prepared into.
        video: one of them.
        encoder: HuBERT, or log-mel rows.
        mark: of the encoder.

    Returns:
        None for a video without sound.

    Raises:
        OutputError: the file cannot be written.
    """
    sound, path = folder / video.name / SPEECH, folder / video.name / ROWS_FILE
    waveform = read_tensors(sound).get("waveform") if sound.is_file() else None
    if waveform is None or not len(waveform):
        return None
    frames, fps = len(video.track), video.track.fps
    digest = hashlib.sha256(f"{mark} {frames} {fps}".encode() + waveform.numpy().tobytes()).hexdigest()[:32]
    if not path.is_file() or read_metadata(path).get("mark") != digest:
        save_tensors(_heard(waveform, frames, fps, encoder), path, {"mark": digest, "encoder": encoder.name})
    return path


@torch.no_grad()
def _heard(waveform: Tensor, frames: int, fps: Fraction, encoder: WaveEncoderLike) -> dict[str, Tensor]:
    speech, quiet = Speech(waveform), made_silence()
    missing = missing_samples(len(waveform), frames, fps)
    rows = torch.cat(list(encoder.stream(speech, missing)))
    silent = encoder.stream(quiet, missing_samples(len(quiet.waveform), 1, fps), clip_normalisation(waveform))
    return {"rows": rows.half(), "silence": torch.cat(list(silent))[:ROWS].half()}


def read_rows(
    folder: Path, videos: Sequence[VideoClip], encoder: WaveEncoderLike, on_progress: Progress | None = None
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
    notify, videos_used, paths, dropped = on_progress or (lambda *_: None), [], [], []
    mark = encoder_mark(encoder)
    for done, video in enumerate(videos):
        notify(done, len(videos))
        path = keep_rows(folder, video, encoder, mark)
        if path is None:
            dropped.append((video.name, "it has no sound, which this training needs"))
            continue
        videos_used.append(video)
        paths.append(path)
    notify(len(videos), len(videos))
    if not videos_used:
        raise InputError(f"none of the {len(videos)} videos has sound; prepare videos in which somebody speaks.")
    return videos_used, _opened(videos_used, paths, encoder.name), tuple(dropped)


def _opened(videos: Sequence[VideoClip], paths: Sequence[Path], name: str) -> SpeechRows:
    from safetensors import safe_open

    width, digest = 0, hashlib.sha256(name.encode())
    for path in paths:
        with safe_open(str(path), framework="pt") as file:
            width = file.get_slice("rows").get_shape()[1]
            digest.update((file.metadata() or {})["mark"].encode())
    return SpeechRows(tuple(paths), tuple(video.track.fps for video in videos), width, digest.hexdigest())
