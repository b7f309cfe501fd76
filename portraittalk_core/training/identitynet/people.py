"""The two kinds of folders that IdentityNet learns from: pictures by person, and videos prepared for all stages."""

from __future__ import annotations

import contextlib
import functools
import logging

import torch

from ...errors import InputError
from ...media.files import files_below
from ...progress import Progress
from ..data.options import POOL
from ..data.references import ReferenceReader
from ..data.video_clips import MARKER, VideoClip, read_videos
from .config import IdentityTraining
from .data import DataReport, Encoder, FaceData, FacePicture, read_people
from .describe import open_describer, stacked

log = logging.getLogger(__name__)

MAX_REASONS = 3  # reasons in an error text
PARTS = {"arcface": "face_embeds", "clip": "clip_embeds"}  # of an embedding, by face encoder


def read_faces(config: IdentityTraining, on_progress: Progress) -> tuple[FaceData, DataReport]:
    """Read the pictures of `config.data`: one folder per person, or what `portraittalk prepare` has made.

    Of prepared videos each is a person, and every frame that shows the face a picture.

    Args:
        config: its data, and what describes faces that have no embedding yet.
        on_progress: called with pictures, or videos, done and in all; may raise to stop.

    Raises:
        InputError: no folder, or nothing in it can be used.
        MissingDependency: an embedding has to be computed, and that is not installed.
    """
    if not config.data.is_dir() or not files_below(config.data, MARKER):
        if config.face_encoder == "clip":
            raise InputError(
                f'face_encoder = "clip" learns from clips that `portraittalk prepare` made, not {config.data}.'
            )
        return read_people(config.data, lambda: _encoder(config), on_progress, config.remove_background)
    return _read_prepared(config, on_progress)


def _read_prepared(config: IdentityTraining, on_progress: Progress) -> tuple[FaceData, DataReport]:
    videos, pictures, dropped = read_videos(config.data, 1).videos, [], []
    with contextlib.ExitStack() as stack:
        reader = ReferenceReader(
            config.data,
            lambda: open_describer(config.face_models, config.clip_vision, config.remove_background, stack),
            config.remove_background,
            frozenset({"clip_embeds"} if config.face_encoder == "clip" else ()),
        )
        for number, video in enumerate(videos):
            try:
                pictures += pictures_of(reader.read(video, POOL), PARTS[config.face_encoder])
            except InputError as error:
                dropped.append((video.name, str(error)))
                log.warning("%s is left out: %s", video.name, error)
            on_progress(number + 1, len(videos))
    if not pictures:
        reasons = "; ".join(reason for _, reason in dropped[:MAX_REASONS])
        raise InputError(f"none of the {len(videos)} videos in {config.data} can be used: {reasons}")
    data = FaceData(pictures)
    return data, DataReport(len(data.people), len(data), tuple(dropped))


def pictures_of(video: VideoClip, part: str) -> list[FacePicture]:
    """A picture of every frame of a video that shows the face; those that are references have an embedding.

    Args:
        video: with its references.
        part: of their embeddings, one of PARTS.
    """
    frames = list(video.references)
    embeds = dict(zip(frames, stacked(list(video.references.values()), (part,))[part], strict=True))
    return [
        FacePicture(
            video.name, f"{video.name}/{frame:06d}", functools.partial(video.read, frame), embeds.get(frame),
            video.caption,
        )
        for frame in torch.nonzero(video.track.valid)[:, 0].tolist()
    ]  # fmt: skip


def _encoder(config: IdentityTraining) -> Encoder:
    from ...face.identity.encoder import FaceEncoder, find_face_models

    if config.face_models is None:
        raise InputError("it has no embedding file, and the configuration names no face_models to compute it with.")
    return FaceEncoder(find_face_models(config.face_models))
