"""What networks compute of the speech of prepared videos: once for a whole video, kept in a file, read by the frame.

Shapes: T frames of a video.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor, nn

from ...errors import InputError
from ...media.files import explain_write_errors
from ...media.tensor_file import save_tensors
from ...progress import Progress
from ...types import SPEECH_RATE_HZ, LandmarkTrack, Speech
from ..data.video_clips import VideoData
from .attention_data import sounds_of

Keep = Callable[[Speech, LandmarkTrack, Callable[[], None]], Path]  # a video's speech, its track, and a tick


class KeptFiles:
    """A file for each video; what belongs to a clip is read when it is asked for.

    Args:
        paths: in the data's order; their names tell what was heard, and by what.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    def fingerprint(self) -> str:
        """Fingerprint of the sounds and of the networks that encode them."""
        return hashlib.sha256("\n".join(path.name for path in self.paths).encode()).hexdigest()

    def _rows(self, video: int, name: str, rows: slice) -> Tensor:
        from safetensors import safe_open

        with safe_open(str(self.paths[video]), framework="pt") as file:
            return file.get_slice(name)[rows]


def weights_digest(*networks: nn.Module, start: bytes = b"") -> bytes:
    """Hash of networks' weights; another `start` gives another one."""
    digest = hashlib.sha256(start)
    for network in networks:
        for name, tensor in network.state_dict().items():
            digest.update(name.encode() + tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.digest()


def kept_file(
    folder: Path, mark: bytes, speech: Speech, track: LandmarkTrack, compute: Callable[[Speech], dict[str, Tensor]]
) -> Path:
    """The file of a video's speech; written if absent.

    Args:
        folder: where it lies; made if absent.
        mark: of the networks, from `weights_digest`.
        speech: from the first frame on; what is missing at the end is silence.
        track: of the video's T frames.
        compute: the file's tensors, of speech that is as long as the track.

    Raises:
        OutputError: the file cannot be written.
    """
    num_samples = round(len(track) / track.fps * SPEECH_RATE_HZ)
    waveform = speech.waveform[:num_samples]
    waveform = nn.functional.pad(waveform, (0, num_samples - len(waveform)))
    digest = hashlib.sha256(mark + f"{len(track)}".encode() + waveform.numpy().tobytes())
    path = folder / f"{digest.hexdigest()[:32]}.safetensors"
    if not path.is_file():
        tensors = compute(Speech(waveform, speech.source))
        with explain_write_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
        save_tensors(tensors, path)
    return path


def keep_videos(
    folder: Path, data: VideoData, keep: Keep, learner: str, advice: str, on_progress: Progress | None = None
) -> tuple[VideoData, tuple[Path, ...], tuple[tuple[str, str], ...]]:
    """Files of all videos with sound; those without are dropped.

    Args:
        folder: that they were prepared into.
        data: the videos.
        keep: makes a video's file; it calls the tick now and then.
        learner: what is trained with sound, such as "V-Express is", for messages.
        advice: what else to do where no video has sound.
        on_progress: called with videos done and in all, several times for each; may raise to stop.

    Returns:
        Those with sound, their files, and the others' names with the reasons.

    Raises:
        InputError: none has sound.
    """
    notify, videos, paths, dropped = on_progress or (lambda *_: None), [], [], []
    total = len(data.videos)
    for done, video in enumerate(data.videos):
        notify(done, total)
        sounds = sounds_of(folder, video.name)
        if not sounds:
            dropped.append((video.name, f"it has no sound, which {learner} trained with"))
            continue
        paths.append(keep(sounds[0], video.track, lambda done=done: notify(done, total)))
        videos.append(video)
    notify(total, total)
    if not videos:
        raise InputError(f"none of the {total} videos has sound, which {learner} trained with; {advice}.")
    return VideoData(videos, data.num_frames), tuple(paths), tuple(dropped)
