"""Clips that the benchmarks of lip renderers train on and paint: drawn people, prepared clips, and films."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from portraittalk_core.face.geometry import mouth_open
from portraittalk_core.face.sketch import draw_sketch
from portraittalk_core.media.audio import load_speech
from portraittalk_core.renderers.contract import Film
from portraittalk_core.renderers.lip.contract import RADIUS, LipBatch, LipCropRule, References
from portraittalk_core.renderers.lip.crop import LipBoxes
from portraittalk_core.renderers.lip.masks import around_lips
from portraittalk_core.renderers.lip.references import choose
from portraittalk_core.speech.wav2lip_mel import SILENCE
from portraittalk_core.training.data.video_clips import SPEECH, VideoClip, read_list, read_videos
from portraittalk_core.training.lips.clips import LipClip, keep_clip
from portraittalk_core.training.lips.data import as_pictures, window_offsets
from portraittalk_core.training.lips.mouth_opening import scale_mouth_opening
from portraittalk_core.types import Speech
from portraittalk_core.weights.load import read_tensors

from .implicit_small import HELD_OUT, TRAIN, clip_picture, groups
from .lips_puppet import Acting, person_clip

DRAWING = "drawing 9"  # marks kept crops of drawn people; to be changed with the drawing
EVERY = 3  # every so manyth frame of a clip's second half is painted
PEOPLE, LENGTH = 144, 16  # drawn ones that are trained on, and frames of the clip of each
NEW_PEOPLE, NEW_LENGTH = 12, 96  # others, who are painted
NOISE_SEED = 4  # of how far mouths are opened
CLOSED = 0.3  # share of a half clip's frames, of the most closed mouths


class SilentClip(LipClip):
    """A clip in which silence is heard."""

    def heard(self, frame: int) -> Tensor:
        """(80, 16) mel chunk of silence, whatever the frame."""
        return torch.full_like(super().heard(frame), SILENCE)


@dataclass(frozen=True, eq=False)
class Subject:
    """A clip, as the training and as the renderer sees it."""

    video: VideoClip
    clip: LipClip
    boxes: LipBoxes
    acting: Acting | None = None  # of a drawn person
    known: float = 0.5  # share of the clip, its beginning, that references are chosen from; the rest is painted
    opening_noise: float = 0.0  # frames are painted with mouths opened by a factor of 1 ± this

    @property
    def split(self) -> int:
        """Number of the first frame that may be painted."""
        return int(self.known * len(self.clip.usable))

    @property
    def painted_frames(self) -> list[int]:
        """Of the second part, with all of their sketches."""
        usable, count, reach = self.clip.usable, len(self.clip.usable), window_offsets(self.clip)[-1]
        return [f for f in range(self.split + reach, count - reach, EVERY) if bool(usable[f])]

    @property
    def first_part(self) -> Tensor:
        """(T,) bool: the usable frames that references are chosen from."""
        first = self.clip.usable.clone()
        first[self.split :] = False
        return first

    def references(self, num_faces: int, num_lips: int) -> References:
        """Chosen from the first part."""
        faces = choose(self.video.track, self.face_frames, num_faces, 1).faces
        lips = choose(self.video.track, self.first_part, 1, num_lips).lips
        masks = torch.stack([around_lips(self.clip.points[f], self.side) for f in lips])[:, None]
        return References(
            self.crops(faces),
            self.sketches(faces),
            self.crops(lips) * masks,
            self.sketches(lips) * masks,
            self.clip.points[list(lips)],
        )

    @property
    def face_frames(self) -> Tensor:
        """(T,) bool: frames of the first part that aligned references are chosen from."""
        if self.clip.face_frames is None:
            return self.first_part
        first = self.clip.face_frames.clone()
        first[self.split :] = False
        return first

    @property
    def side(self) -> int:
        """Of the crops."""
        return self.boxes.rule.size

    def crops(self, frames: Sequence[int]) -> Tensor:
        """(F, 3, S, S) in 0..1."""
        return as_pictures(self.clip.crops(frames))

    def sketches(self, frames: Sequence[int]) -> Tensor:
        """(F, 3, S, S)."""
        return draw_sketch(self.clip.points[list(frames)], self.side, self.clip.boxes_px[list(frames)])

    def batch(self, frames: Sequence[int]) -> LipBatch:
        """Frames to paint."""
        around = [frame + offset for frame in frames for offset in window_offsets(self.clip)]
        seen = self.clip.points[around].unflatten(0, (len(frames), -1))
        if self.opening_noise:
            draws = [np.random.default_rng([NOISE_SEED, frame]).uniform(-1, 1) for frame in frames]
            pairs = zip(seen, draws, strict=True)
            seen = torch.stack([scale_mouth_opening(one, 1 + self.opening_noise * float(draw)) for one, draw in pairs])
        sketches = draw_sketch(seen.flatten(0, 1), self.side, self.clip.boxes_px[around]).unflatten(0, seen.shape[:2])
        heard = torch.stack([self.clip.heard(frame) for frame in frames])
        return LipBatch(self.crops(frames), sketches, heard, seen[:, RADIUS])


def drawn_people(rule: LipCropRule, keep: Path, gloved: bool) -> tuple[list[Subject], list[Subject]]:
    """Drawn people to train on, and others to paint.

    Args:
        rule: how faces are framed.
        keep: folder for crops.
        gloved: whether mouths are covered now and then, and aligned references are of these frames alone; else they are
            of any frames, as those of lips are.
    """
    made = []
    for seed, length in enumerate([LENGTH] * PEOPLE + [NEW_LENGTH] * NEW_PEOPLE):
        video, speech, acting = person_clip(seed, length, gloved)
        made.append(clip_subject(video, lambda speech=speech: speech, rule, keep, acting))
    return made[:PEOPLE], made[PEOPLE:]


def prepared_clips(
    folder: Path, num_held_out: int, rule: LipCropRule, keep: Path, to_train: bool, closed: bool = False
) -> tuple[list[Subject], list[Subject]]:
    """Clips of a folder of `tools/prepare_grid.py`, to train on and to paint.

    Args:
        folder: of the clips and their two lists.
        num_held_out: of each group of clips, at most.
        rule: how faces are framed.
        keep: folder for crops.
        to_train: whether those to train on are wanted.
        closed: whether aligned references are of frames with closed mouths alone; those of lips are of any.
    """

    def of(videos: Sequence[VideoClip]) -> list[Subject]:
        made = [clip_subject(video, lambda v=video: kept_speech(folder / v.name), rule, keep) for video in videos]
        return [closed_references(subject) for subject in made] if closed else made

    names = read_list(folder / TRAIN)
    held_out = read_videos(folder, 1, read_list(folder / HELD_OUT)).videos
    parts = [members for _, members in groups(held_out, names)]
    chosen = [clip for part in parts for clip in part[:: max(1, len(part) // num_held_out)][:num_held_out]]
    return of(read_videos(folder, 1, names).videos) if to_train else [], of(chosen)


def in_silence(subject: Subject) -> Subject:
    """The subject with silence in the place of its sound."""
    clip = subject.clip
    return dataclasses.replace(subject, clip=SilentClip(*(getattr(clip, f.name) for f in dataclasses.fields(clip))))


def closed_references(subject: Subject) -> Subject:
    """A subject whose aligned references are the frames of each half with the most closed mouths."""
    clip, opened = subject.clip, mouth_open(subject.video.track)
    faces = torch.zeros_like(clip.usable)
    for half in (slice(None, subject.split), slice(subject.split, None)):
        shown = clip.usable[half]
        if bool(shown.any()):
            faces[half] = shown & (opened[half] <= opened[half][shown].quantile(CLOSED))
    return dataclasses.replace(subject, clip=dataclasses.replace(clip, face_frames=faces))


def clip_subject(
    video: VideoClip,
    speech: Callable[[], Speech],
    rule: LipCropRule,
    keep: Path,
    acting: Acting | None = None,
) -> Subject:
    """A clip whose crops are kept in a folder; of a drawn person, its covered frames are the aligned references."""
    covered = acting is not None and acting.covered is not None and bool(acting.covered.any())
    clip = keep_clip(
        keep, video.name, video.track, rule, lambda numbers: (clip_picture(video, at) for at in numbers), speech,
        mark="benchmark" if acting is None else [DRAWING, covered],
    )  # fmt: skip
    if covered:
        clip = dataclasses.replace(clip, usable=clip.usable & ~acting.covered, face_frames=clip.usable & acting.covered)
    return Subject(video, clip, LipBoxes(video.track, rule), acting)


def film_subject(film: Film, rule: LipCropRule, keep: Path, known: float = 0.5) -> Subject:
    """A film, all of whose pictures are held."""
    pictures = list(film.pictures())
    speech = load_speech(film.path)
    clip = keep_clip(
        keep, film.source, film.track, rule, lambda numbers: (pictures[at] for at in numbers), lambda: speech,
        mark="benchmark",
    )  # fmt: skip
    video = VideoClip(film.source, lambda at: pictures[at].permute(2, 0, 1).float() / 127.5 - 1, film.track)
    return Subject(video, clip, LipBoxes(film.track, rule), known=known)


def kept_speech(folder: Path) -> Speech:
    """Of a prepared clip."""
    return Speech(read_tensors(folder / SPEECH)["waveform"], folder.name)
