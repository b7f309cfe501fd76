"""Speech features around the frames of prepared videos, for an audio projection that is to be trained.

Shapes: F frames of a clip, T of a video, D numbers of a feature.
Source: V-Express (Wang et al. 2024), section 3.3: two features a frame, and those of two frames on either side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...media.files import explain_write_errors
from ...media.tensor_file import save_tensors
from ...progress import Progress
from ...renderers.vexpress.audio_projection import FEATURES, PER_FRAME, features_around
from ...renderers.vexpress.pipeline import check_family
from ...speech.encoders import SpeechEncoder
from ...types import SPEECH_RATE_HZ, LandmarkTrack, Speech
from ..data.video_clips import VideoData
from .attention_data import sounds_of

AROUND = "around"  # tensor name in a file: (T, 10, D) would hold each feature five times, so it is (2 · T + 8, D)


class ClipFeatures(Protocol):
    """Interface of the speech features of videos' frames."""

    def __call__(self, video: int, start: int, stop: int) -> Tensor:
        """(F, 10, D) features around frames start..stop-1 of a video, by its number in the data."""

    def fingerprint(self) -> str:
        """Fingerprint of the sounds and of the encoder."""


class FeatureFiles:
    """Kept features of videos; a clip's are read when they are asked for.

    Args:
        paths: a file for each video, in the data's order; their names tell what was heard, and by what.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    def __call__(self, video: int, start: int, stop: int) -> Tensor:
        """(F, 10, D) features around frames start..stop-1 of a video."""
        from safetensors import safe_open

        with safe_open(str(self.paths[video]), framework="pt") as file:
            rows = file.get_slice(AROUND)[PER_FRAME * start : PER_FRAME * (stop - 1) + FEATURES]
        return rows.unfold(0, FEATURES, PER_FRAME).transpose(1, 2)

    def fingerprint(self) -> str:
        """Fingerprint of the sounds and of the encoder."""
        return hashlib.sha256("\n".join(path.name for path in self.paths).encode()).hexdigest()


@dataclass(frozen=True)
class FeatureKeeper:
    """Computes the features of a video's whole speech once, and keeps them in a folder: 6 KB a frame."""

    encoder: SpeechEncoder
    folder: Path

    def __post_init__(self) -> None:
        check_family(self.encoder.name)

    def mark(self) -> bytes:
        """Hash of the encoder's weights."""
        digest = hashlib.sha256(b"features around frames")
        for name, tensor in self.encoder.network.state_dict().items():
            digest.update(name.encode() + tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.digest()

    def keep(self, speech: Speech, track: LandmarkTrack, mark: bytes, tick: Callable[[], None]) -> Path:
        """The kept file of a video's features; computed if absent.

        Args:
            speech: from the first frame on; what is missing at the end is silence.
            track: of the video.
            mark: of this keeper.
            tick: called now and then; may raise to stop.

        Raises:
            OutputError: the file cannot be written.
        """
        num_samples = round(len(track) / track.fps * SPEECH_RATE_HZ)
        waveform = speech.waveform[:num_samples]
        waveform = nn.functional.pad(waveform, (0, num_samples - len(waveform)))
        digest = hashlib.sha256(mark + f"{len(track)}".encode() + waveform.numpy().tobytes())
        path = self.folder / f"{digest.hexdigest()[:32]}.safetensors"
        if not path.is_file():
            values = self.encoder.encode(Speech(waveform, speech.source), lambda *_: tick()).values
            around = features_around(values.float().cpu(), len(track))
            rows = torch.cat([around[:, :PER_FRAME].flatten(0, 1), around[-1, PER_FRAME:]])
            with explain_write_errors(path):
                self.folder.mkdir(parents=True, exist_ok=True)
            save_tensors({AROUND: rows.contiguous()}, path)
        return path


def keep_features(
    folder: Path, data: VideoData, keeper: FeatureKeeper, on_progress: Progress | None = None
) -> tuple[VideoData, FeatureFiles, tuple[tuple[str, str], ...]]:
    """Compute the features of all videos; those without sound are dropped.

    Args:
        folder: that they were prepared into.
        data: the videos.
        keeper: hears them.
        on_progress: called with videos done and in all, several times for each; may raise to stop.

    Returns:
        Those with sound, their features, and the others' names with the reasons.

    Raises:
        InputError: none has sound.
    """
    notify, videos, files, dropped = on_progress or (lambda *_: None), [], [], []
    mark, total = keeper.mark(), len(data.videos)
    for done, video in enumerate(data.videos):
        notify(done, total)
        sounds = sounds_of(folder, video.name)
        if not sounds:
            dropped.append((video.name, "it has no sound, which the audio layers are trained with"))
            continue
        files.append(keeper.keep(sounds[0], video.track, mark, lambda done=done: notify(done, total)))
        videos.append(video)
    notify(total, total)
    if not videos:
        raise InputError(
            f"none of the {total} videos has sound, which the audio layers are trained with; prepare videos in which "
            "somebody speaks."
        )
    return VideoData(videos, data.num_frames), FeatureFiles(files), tuple(dropped)
