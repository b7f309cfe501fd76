"""Audio tokens of prepared videos for V-Express's training, computed once and cached on disk.

Shapes: F frames of a clip, T of a video, C channels of the audio tokens.
Source: V-Express (Wang et al. 2024), section 3.3; `docs/design/vexpress.md` 1, 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from ...errors import InputError
from ...media.files import explain_write_errors
from ...media.tensor_file import save_tensors
from ...progress import Progress
from ...renderers.vexpress.audio_projection import AudioProjection, audio_tokens
from ...renderers.vexpress.pipeline import check_family
from ...speech.encoders import SpeechEncoder, require_width
from ...types import SPEECH_RATE_HZ, LandmarkTrack, Speech
from ..data.video_clips import VideoData
from .attention_data import sounds_of

TOKENS = "tokens"  # tensor name in a file


class AudioTokens(Protocol):
    """Interface of the audio tokens of videos' frames."""

    def __call__(self, video: int, start: int, stop: int) -> Tensor:
        """(F, 5, C) audio tokens of frames start..stop-1 of a video, by its number in the data."""

    def fingerprint(self) -> str:
        """Fingerprint of the sounds and of the networks that encode them."""


class TokenFiles:
    """Cached audio tokens of videos on disk; a clip's are read on demand.

    Args:
        paths: a file for each video, in the data's order; their names tell what was heard, and by what.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    def __call__(self, video: int, start: int, stop: int) -> Tensor:
        """(F, 5, C) audio tokens of frames start..stop-1 of a video."""
        from safetensors import safe_open

        with safe_open(str(self.paths[video]), framework="pt") as file:
            return file.get_slice(TOKENS)[start:stop]

    def fingerprint(self) -> str:
        """Fingerprint of the sounds and of the networks that encode them."""
        return hashlib.sha256("\n".join(path.name for path in self.paths).encode()).hexdigest()


@dataclass(frozen=True)
class Listener:
    """Computes the audio tokens of a video's whole speech once, and caches them in a folder.

    They take 15 KB a frame, a twentieth of what the frame's picture does.
    """

    encoder: SpeechEncoder
    projection: AudioProjection
    folder: Path

    def __post_init__(self) -> None:
        check_family(self.encoder.name)

    def mark(self) -> bytes:
        """Hash of the networks' weights."""
        digest = hashlib.sha256()
        for network in (self.encoder.network, self.projection):
            for name, tensor in network.state_dict().items():
                digest.update(name.encode() + tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.digest()

    def hear(self, speech: Speech, track: LandmarkTrack, mark: bytes, tick: Callable[[], None]) -> Path:
        """The cached file with the tokens (T, 5, C) of a video's frames; computed if absent.

        Args:
            speech: from the first frame on; what is missing at the end is silence.
            track: of the video.
            mark: of this listener.
            tick: called now and then; may raise to stop.

        Raises:
            InputError: an encoder of another width.
            OutputError: the file cannot be written.
        """
        num_samples = round(len(track) / track.fps * SPEECH_RATE_HZ)
        waveform = speech.waveform[:num_samples]
        waveform = nn.functional.pad(waveform, (0, num_samples - len(waveform)))
        digest = hashlib.sha256(mark + f"{len(track)}".encode() + waveform.numpy().tobytes())
        path = self.folder / f"{digest.hexdigest()[:32]}.safetensors"
        if not path.is_file():
            features = self.encoder.encode(Speech(waveform, speech.source), lambda *_: tick())
            values = require_width(features, self.projection.sizes.features, "V-Express")
            tokens = audio_tokens(self.projection, values, len(track))
            with explain_write_errors(path):
                self.folder.mkdir(parents=True, exist_ok=True)
            save_tensors({TOKENS: tokens}, path)
        return path


def hear_videos(
    folder: Path, data: VideoData, listener: Listener, on_progress: Progress | None = None
) -> tuple[VideoData, dict[str, Path], tuple[tuple[str, str], ...]]:
    """Compute the audio tokens of all videos; those without sound are dropped.

    Args:
        folder: that they were prepared into.
        data: the videos.
        listener: hears them.
        on_progress: called with videos done and in all, several times for each; may raise to stop.

    Returns:
        Those with sound, the file of each one's tokens by its name, and the others' names with the reasons.

    Raises:
        InputError: none has sound, or the encoder does not fit.
    """
    notify, videos, files, dropped = on_progress or (lambda *_: None), [], {}, []
    mark, total = listener.mark(), len(data.videos)
    for done, video in enumerate(data.videos):
        notify(done, total)
        sounds = sounds_of(folder, video.name)
        if not sounds:
            dropped.append((video.name, "it has no sound, which V-Express is trained with"))
            continue
        files[video.name] = listener.hear(sounds[0], video.track, mark, lambda done=done: notify(done, total))
        videos.append(video)
    notify(total, total)
    if not videos:
        raise InputError(
            f"none of the {total} videos has sound, which V-Express is trained with; prepare videos in which somebody "
            "speaks, or leave vexpress out."
        )
    return VideoData(videos, data.num_frames), files, tuple(dropped)
