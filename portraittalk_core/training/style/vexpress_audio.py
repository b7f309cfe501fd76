"""What V-Express's training hears of prepared videos: the whole speech of each, heard once and kept on disk.

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
from ...media.atomic import explain_write_errors
from ...media.tensor_file import save_tensors
from ...progress import Progress
from ...renderers.vexpress.audio_projection import AudioProjection, audio_tokens
from ...renderers.vexpress.pipeline import check_family
from ...speech.encoders import SpeechEncoder, require_width
from ...types import SPEECH_RATE_HZ, LandmarkTrack, Speech
from ..data.video_clips import VideoData
from .attention_data import sounds_of

TOKENS = "tokens"  # their name in a file


class Heard(Protocol):
    """What is heard in the frames of videos."""

    def __call__(self, video: int, start: int, stop: int) -> Tensor:
        """(F, 5, C) audio tokens of frames start..stop-1 of a video, by its number in the data."""

    def fingerprint(self) -> str:
        """Tells whether the sounds, and what hears them, are the same."""


class TokenFiles:
    """Audio tokens of videos on disk, of which a clip's are read when they are wanted.

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
        """Tells whether the sounds, and what hears them, are the same."""
        return hashlib.sha256("\n".join(path.name for path in self.paths).encode()).hexdigest()


@dataclass(frozen=True)
class Listener:
    """Hears a video's whole speech once, and keeps the tokens of its frames in a folder.

    They take 15 KB a frame, a twentieth of what the frame's picture does.
    """

    encoder: SpeechEncoder
    projection: AudioProjection
    folder: Path

    def __post_init__(self) -> None:
        check_family(self.encoder.name)

    def mark(self) -> bytes:
        """Tells networks from others."""
        digest = hashlib.sha256()
        for network in (self.encoder.network, self.projection):
            for name, tensor in network.state_dict().items():
                digest.update(name.encode() + tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.digest()

    def hear(self, speech: Speech, track: LandmarkTrack, mark: bytes, tick: Callable[[], None]) -> Path:
        """The file with the tokens (T, 5, C) of a video's frames; made where there is none yet.

        Args:
            speech: from the first frame on; what is missing at the end is silence.
            track: of the video.
            mark: of this listener.
            tick: called now and then; may raise to stop.

        Raises:
            InputError: an encoder of another width.
            OutputError: the file cannot be written.
        """
        wanted = round(len(track) / track.fps * SPEECH_RATE_HZ)
        waveform = speech.waveform[:wanted]
        waveform = nn.functional.pad(waveform, (0, wanted - len(waveform)))
        told = hashlib.sha256(mark + f"{len(track)}".encode() + waveform.numpy().tobytes())
        path = self.folder / f"{told.hexdigest()[:32]}.safetensors"
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
    """The videos that have sound.

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
    tell, kept, files, dropped = on_progress or (lambda *_: None), [], {}, []
    mark, total = listener.mark(), len(data.videos)
    for done, video in enumerate(data.videos):
        tell(done, total)
        sounds = sounds_of(folder, video.name)
        if not sounds:
            dropped.append((video.name, "it has no sound, which V-Express is trained with"))
            continue
        files[video.name] = listener.hear(sounds[0], video.track, mark, lambda done=done: tell(done, total))
        kept.append(video)
    tell(total, total)
    if not kept:
        raise InputError(
            f"none of the {total} videos has sound, which V-Express is trained with; prepare videos in which somebody "
            "speaks, or leave vexpress out."
        )
    return VideoData(kept, data.num_frames), files, tuple(dropped)
