"""Reference frames of training clips: the same person at another time, or in another video.

Source: V-Express's training, which takes frames of the same video at least 30 frames away; SVP, section 3.4.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np
from torch import Tensor

from ..data.squares import fit_square
from ..data.video_clips import VideoData

MIN_DISTANCE = 30  # frames that a reference lies away from the clip, where the video is long enough


class ReferenceFrames:
    """Chooses and reads the reference frames of clips.

    Args:
        data: the videos.
        other_video: share of references that come from another video of the person, where there is one.
    """

    def __init__(self, data: VideoData, other_video: float = 0.0) -> None:
        self.data, self.other_video = data, other_video

    def place(self, video: int, start: int, rng: np.random.Generator) -> tuple[int, int]:
        """Video and frame of a reference for the clip of a video that begins at a frame."""
        chance, candidates = rng.random(), self._same_person(video)
        if candidates and chance < self.other_video:
            other = int(rng.choice(candidates))
            return other, int(rng.choice(self._valid_frames(other)))
        frames, end = self._valid_frames(video), start + self.data.num_frames - 1
        distances = np.maximum(start - frames, frames - end)  # negative inside the clip
        distant = frames[distances >= MIN_DISTANCE]
        return video, int(rng.choice(distant) if len(distant) else frames[distances.argmax()])

    def picture(self, place: tuple[int, int], side_px: int) -> Tensor:
        """(3, S, S) in −1..1 of a video's frame."""
        video, frame = place
        return fit_square(self.data.videos[video].read(frame), side_px)

    def _same_person(self, video: int) -> list[int]:
        """Other videos of the same person: those in the same folder, if any."""
        person = PurePosixPath(self.data.videos[video].name).parent
        parents = [PurePosixPath(clip.name).parent for clip in self.data.videos]
        return [n for n, parent in enumerate(parents) if parent == person != PurePosixPath() and n != video]

    def _valid_frames(self, video: int) -> np.ndarray:
        return self.data.videos[video].track.valid.nonzero()[:, 0].numpy()
