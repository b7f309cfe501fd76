"""Reference frames of prepared videos, and their face embeddings: a person in several expressions and head angles.

Shapes: T frames of a video, K references of it.
Source: PortraitTalk, "Number of Reference Images".
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ...errors import InputError, OutputError
from ...face.geometry import head_pose, mouth_open
from ...face.identity.embedding import FaceEmbedding
from ...media.records import load_record, save_record
from ...types import LandmarkTrack
from .options import POOL
from .video_clips import VideoClip

log = logging.getLogger(__name__)

FACES = "faces"  # folder of their embeddings, in a prepared video's folder
ANGLE_DEG, OPENING = 30.0, 0.5  # a turn of the head, and a lip gap over the inter-ocular distance, that count alike
DescribeFace = Callable[[Tensor, str], FaceEmbedding]  # of a picture (H, W, 3) uint8 and its name


def reference_frames(track: LandmarkTrack, first: int, count: int = POOL) -> tuple[int, ...]:
    """Frames that differ most in head angles and mouth opening, by farthest-point sampling.

    Args:
        track: T frames.
        first: the frame that is always one of them.
        count: K, or as many as show the face.

    Returns:
        Frame numbers in the order of choice, without repetition.
    """
    places = torch.cat([head_pose(track).angles_deg / ANGLE_DEG, mouth_open(track)[:, None] / OPENING], 1)
    selected = [first]
    distance = torch.full((len(track),), float("inf")).masked_fill(~track.valid, -1.0)
    for _ in range(count - 1):
        distance = torch.minimum(distance, (places - places[selected[-1]]).norm(dim=1))
        distance[selected] = -1.0
        farthest = int(distance.argmax())
        if distance[farthest] < 0:  # no frame is left
            break
        selected.append(farthest)
    return tuple(selected)


def reference_file(folder: Path, frame: int, without_background: bool) -> Path:
    """File of a reference's embedding.

    Args:
        folder: of the prepared video.
        frame: its number.
        without_background: whether the background was removed first, which gives another embedding.
    """
    return folder / FACES / f"{frame:06d}{'.person' if without_background else ''}.embedding.safetensors"


class ReferenceReader:
    """Reads embeddings of reference frames, and describes and saves those that are absent.

    Args:
        folder: of all prepared videos.
        open_describer: called when the first embedding has to be computed.
        without_background: see `reference_file`.
        views: parts of an embedding besides ArcFace's that must be there: "clip_states", "clip_embeds".
    """

    def __init__(
        self,
        folder: Path,
        open_describer: Callable[[], DescribeFace],
        without_background: bool = False,
        views: frozenset[str] = frozenset(),
    ) -> None:
        self.folder, self.without_background, self.views = folder, without_background, views
        self._open, self._describe = open_describer, None

    def read(self, video: VideoClip, count: int) -> VideoClip:
        """The video with embeddings of up to `count` reference frames.

        Raises:
            InputError: no face is found in any of them, or what describes faces cannot be opened.
            MissingDependency: face models or what runs them are absent.
        """
        embeddings, reasons = {}, []
        for frame in reference_frames(video.track, video.reference, count):
            path = reference_file(self.folder / video.name, frame, self.without_background)
            embedding = load_record(FaceEmbedding, path) if path.is_file() else None
            if embedding is None or any(getattr(embedding, name) is None for name in self.views):
                self._describe = self._describe or self._open()
                try:
                    embedding = self._described(video, frame, path)
                except InputError as error:  # no face is found in this frame
                    reasons.append(str(error))
                    continue
            embeddings[frame] = embedding
        if not embeddings:
            raise InputError(f"{video.name}: no reference frame shows a face that can be used ({reasons[0]})")
        return dataclasses.replace(video, references=embeddings)

    def _described(self, video: VideoClip, frame: int, path: Path) -> FaceEmbedding:
        picture = ((video.read(frame) + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous()
        embedding = self._describe(picture, f"frame {frame} of {video.name}")
        try:
            path.parent.mkdir(exist_ok=True)
            save_record(embedding, path)
        except (OutputError, OSError) as error:
            log.warning("the face in frame %d of %s is not kept: %s", frame, video.name, error)
        return embedding
