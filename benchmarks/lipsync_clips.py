"""Real clips with ground-truth mouth curves: read from a folder, or measured with our own face mesh."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from portraittalk_core.errors import InputError, NoFaceError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import align, mouth_open, mouth_width
from portraittalk_core.media.audio import load_speech
from portraittalk_core.motion.rig import face_axes
from portraittalk_core.types import LandmarkTrack, Speech, as_fps

from .lipsync_tables import progress

FPS = Fraction(25)


@dataclass(frozen=True)
class Clip:
    """A real clip: its speech, and its mouth curves in inter-ocular distances."""

    name: str
    speaker: str
    speech: Speech
    gap: Tensor  # (T,) between the inner lips, points 13 and 14
    width: Tensor  # (T,) between the mouth's corners
    jaw: Tensor  # (T,) chin below nose tip, head pose taken out
    valid: Tensor  # (T,) bool
    fps: Fraction
    video: Path
    measured: bool  # by us in this run, for want of a file in gt/
    track: LandmarkTrack | None = field(default=None, repr=False)  # where landmarks were asked for

    def __len__(self) -> int:
        return len(self.valid)


def load_clips(
    folder: Path,
    speakers: Path | None = None,
    landmarks: bool = False,
    tracks: Path | None = None,
    on_skip: Callable[[str], None] = print,
) -> list[Clip]:
    """Every clip of a folder of <clip>.mp4, <clip>.wav (else the video's sound) and gt/<clip>.npz (else measured).

    Args:
        folder: where the clips are.
        speakers: see `speaker_of`.
        landmarks: track the face even where gt/ tells the curves but not the landmarks.
        tracks: a folder in which tracks are kept for the next run.
        on_skip: called with a sentence on each clip that cannot be used.

    Raises:
        InputError: no video in the folder.
    """
    videos = sorted(Path(folder).glob("*.mp4"))
    if not videos:
        raise InputError(f"{folder} holds no .mp4 files; give a folder of clips of speaking people.")
    names = _known_speakers(speakers)
    clips = []
    for number, video in enumerate(videos, 1):
        progress(f"{number}/{len(videos)} {video.stem}")
        try:
            clips.append(_load(video, names.get(video.stem, speaker_of(video.stem)), landmarks, tracks))
        except (NoFaceError, InputError) as error:
            on_skip(f"{video.name} is left out: {error}")
    progress("")
    return clips


def speaker_of(clip: str) -> str:
    """Speaker of a clip: its name up to the last underscore."""
    return clip.rpartition("_")[0] or clip


def _known_speakers(path: Path | None) -> dict[str, str]:
    """Speakers by clip, from a JSON object or a CSV with the columns file and speaker."""
    if path is None:
        return {}
    text = Path(path).read_text(encoding="utf-8")
    if Path(path).suffix == ".json":
        return json.loads(text)
    rows = [row for row in csv.DictReader(text.splitlines()) if row["file"].endswith(".mp4")]
    return {Path(row["file"]).stem: row["speaker"] for row in rows}


def _load(video: Path, speaker: str, landmarks: bool, tracks: Path | None) -> Clip:
    sound = video.with_suffix(".wav")
    speech = load_speech(sound if sound.exists() else video)
    truth_path = video.parent / "gt" / f"{video.stem}.npz"
    if not truth_path.exists():
        track = tracked_video(video, FPS, tracks)
        curves = mouth_open(track), mouth_width(track), pose_free_jaw(track)
        return Clip(video.stem, speaker, speech, *curves, track.valid, track.fps, video, True, track)
    with np.load(truth_path, allow_pickle=False) as file:
        gap, width, jaw = (torch.from_numpy(file[f"sig_{name}"]) for name in ("gap", "width", "jaw_pn"))
        valid, fps = torch.from_numpy(file["valid"]), as_fps(float(file["fps"]))
        track = None
        if landmarks and "lm" in file:
            width_px, height_px = (int(side) for side in file["size"])
            track = LandmarkTrack.from_px(torch.from_numpy(file["lm"]), width_px, height_px, fps, valid)
        elif landmarks:
            track = tracked_video(video, fps, tracks)
    return Clip(video.stem, speaker, speech, gap, width, jaw, valid, fps, video, False, track)


def tracked_video(video: Path, fps: Fraction, tracks: Path | None) -> LandmarkTrack:
    """The face of a video, from a folder of earlier tracks where it is there."""
    from portraittalk_core.face.mesh.landmarks import track_faces
    from portraittalk_core.media.records import load_record, save_record
    from portraittalk_core.media.video_read import read_pictures

    cache_path = tracks / f"{video.stem}.safetensors" if tracks else None
    if cache_path and cache_path.exists():
        return load_record(LandmarkTrack, cache_path)
    track = track_faces(read_pictures(video, fps), fps, on_missing="interpolate", source=video.name)
    if cache_path:
        tracks.mkdir(parents=True, exist_ok=True)
        save_record(track, cache_path)
    return track


def in_one_pose(track: LandmarkTrack, onto_px: Tensor) -> Tensor:
    """(T, 478, 3) pixels: every frame turned, moved and scaled so that its rigid points lie on those of `onto_px`.

    Args:
        track: T frames.
        onto_px: (478, 3).
    """
    points, rigid = track.points_px.double(), list(topo.RIGID)
    scale, rotation, shift = align(points[:, rigid], onto_px.double()[rigid].expand(len(points), -1, -1))
    return scale[:, None, None] * points @ rotation.transpose(1, 2) + shift[:, None]


def pose_free_jaw(track: LandmarkTrack) -> Tensor:
    """(T,) how far the chin is below the nose tip along the face's own height, in inter-ocular distances."""
    median = track.points_px.double().median(0).values
    axes, _, unit_px = face_axes(median)
    points = in_one_pose(track, median)
    return ((points[:, topo.CHIN] - points[:, topo.NOSE_TIP]) @ axes[1] / unit_px).float()


def neutral_face() -> LandmarkTrack:
    """One frame of the canonical face, 100 pixels between the eyes."""
    points_px = canonical_face()[None] * 100 + torch.tensor([256.0, 220.0, 0.0])
    return LandmarkTrack.from_px(points_px, 512, 512, 25)
