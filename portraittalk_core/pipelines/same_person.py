"""The person of a film's first scene in its other scenes, known again by a descriptor of the face.

Shapes: T frames, D channels of a descriptor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from ..errors import NoFaceError
from ..face.choice import BoxChoice
from ..face.geometry import eye_axis, face_box_px, turned_aside
from ..face.identity import descriptor
from ..face.identity.encoder import FaceEncoder, find_face_models
from ..face.mesh.landmarks import MeshBackend, detect_faces, track_faces
from ..face.scenes import SceneFinder
from ..media.video_read import read_pictures
from ..memory_map import gathered
from ..types import LandmarkTrack

OnFace = Callable[[int, Tensor, "Tensor | None"], None]  # number of a frame, its picture, landmarks or None

ARCFACE_LIKE = 0.3  # cosine of ArcFace's embeddings of one person; of two people it stays below 0.2 or so
BLOCK = 256  # frames whose landmarks are looked at at once
MIN_STRETCH = 3  # frames between what may be cuts, in which a face is described
TRIED = 5  # frames of the first scene that are tried until one can be described
ROOM = 0.6  # around a face's box, of its larger side, in the picture that is described


class PersonDescriptor(Protocol):
    """Tells people apart."""

    def describe(self, picture: Tensor, face_px: Tensor) -> Tensor | None:
        """(D,) descriptor of a face of a picture (H, W, 3) uint8 by its landmarks (478, 3) px; None if it has none."""

    def likeness(self, one: Tensor, other: Tensor) -> float:
        """How alike two descriptors are; 0 or more is one person, and the more, the surer."""


class DlibPerson:
    """People by dlib's descriptor, which comes with this package."""

    def describe(self, picture: Tensor, face_px: Tensor) -> Tensor | None:
        """(128,) descriptor of any face that has landmarks."""
        return descriptor.describe(picture, face_px[None])[0]

    def likeness(self, one: Tensor, other: Tensor) -> float:
        """By how much the distance is below dlib's bound."""
        return descriptor.SAME_PERSON - float(descriptor.distance(one, other))


class ArcFacePerson:
    """People by InsightFace's networks; its own detector has to see the face, too.

    Args:
        encoder: open.
    """

    def __init__(self, encoder: FaceEncoder) -> None:
        self._encoder = encoder

    def describe(self, picture: Tensor, face_px: Tensor) -> Tensor | None:
        """(512,) embedding."""
        x0, y0, x1, y1 = face_box_px(face_px[None])[0].tolist()
        room, (height, width) = ROOM * max(x1 - x0, y1 - y0), picture.shape[:2]
        left, top = max(0, int(x0 - room)), max(0, int(y0 - room))
        part = picture[top : min(height, int(y1 + room) + 1), left : min(width, int(x1 + room) + 1)]
        if min(part.shape[:2]) < 2:
            return None
        try:
            return self._encoder.encode([part.contiguous()], ["a face of the film"]).embedding.averaged()
        except NoFaceError:
            return None

    def likeness(self, one: Tensor, other: Tensor) -> float:
        """By how much the cosine is above that of one person's faces."""
        return float(one @ other) - ARCFACE_LIKE


@contextmanager
def described_by(folder: Path | None) -> Iterator[PersonDescriptor]:
    """Descriptors by InsightFace's networks in a folder, which are open meanwhile; without a folder, dlib's.

    Raises:
        MissingDependency: the networks, or onnxruntime, are not there.
    """
    if folder is None:
        yield DlibPerson()
        return
    with FaceEncoder(find_face_models([folder])) as encoder:
        yield ArcFacePerson(encoder)


class FacesSeen:
    """Descriptors of a film's faces, taken while its pictures pass by: one of each stretch that may be a scene.

    A stretch without cuts asks for none, and one shorter than `MIN_STRETCH` is left out: a film that moves fast has
    many, and its scenes can be read again.

    Args:
        people: describes faces.
    """

    def __init__(self, people: PersonDescriptor) -> None:
        self.found: dict[int, Tensor] = {}  # (D,) by the number of the frame
        self._people, self._begun = people, 0
        self._best: tuple[float, int, Tensor, Tensor] | None = None  # how far turned, number, picture, landmarks

    def see(self, index: int, picture: Tensor, face_px: Tensor | None, may_cut: bool) -> None:
        """Take the next frame: its picture, (478, 3) landmarks in pixels or None, and whether a scene may begin."""
        if may_cut:
            self._describe(index)
            self._begun, self._best = index, None
        if face_px is None:
            return
        turned = float(turned_aside(eye_axis(face_px[None]))[0])
        if self._best is None or turned < self._best[0]:
            self._best = turned, index, picture, face_px.clone()

    def end(self, num_frames: int) -> dict[int, Tensor]:
        """The descriptors by their frames' numbers, with the last stretch's, if there are several."""
        if self._begun:
            self._describe(num_frames)
        return self.found

    def _describe(self, stop: int) -> None:
        if self._best is not None and stop - self._begun >= MIN_STRETCH:
            _, index, picture, face_px = self._best
            descriptor = self._people.describe(picture, face_px)
            if descriptor is not None:
                self.found[index] = descriptor


class ScenesSeen:
    """Cuts of a film, and who is shown between them, taken while its pictures pass by.

    Args:
        people: describes faces; None: nobody is told apart.
    """

    def __init__(self, people: PersonDescriptor | None) -> None:
        self._people, self._finder, self._count = people, SceneFinder(), 0
        self._faces = None if people is None else FacesSeen(people)

    def see(self, picture: Tensor, face_px: Tensor | None) -> None:
        """Take the next frame: its picture (H, W, 3) uint8, and (478, 3) landmarks in pixels or None."""
        self._finder.see(picture, face_px)
        if self._faces is not None:
            self._faces.see(self._count, picture, face_px, self._finder.may_cut)
        self._count += 1

    def scenes(self) -> Tensor:
        """(T,) int64 number of each frame's scene, from 0."""
        return self._finder.scenes()

    def faces(self) -> dict[int, Tensor]:
        """(D,) descriptors by frames' numbers; none where all is one scene."""
        cut = self._count and int(self.scenes()[-1])
        return self._faces.end(self._count) if cut and self._faces is not None else {}

    def other_people(self) -> Tensor:
        """(T,) bool: scenes that show somebody else than the first one with a described face."""
        scenes, first = self.scenes(), None
        other = torch.zeros(len(scenes), dtype=torch.bool)
        descriptors = self.faces()
        for scene in sorted({int(scenes[index]) for index in descriptors}):
            descriptor = next(face for index, face in descriptors.items() if int(scenes[index]) == scene)
            if first is None:
                first = descriptor
            elif self._people.likeness(descriptor, first) < 0:
                other |= scenes == scene
        return other


def follow_person(  # noqa: PLR0913 - what a film is, and what tells people apart
    video: Path,
    track: LandmarkTrack,
    scenes: Tensor,
    people: PersonDescriptor,
    mesh: MeshBackend,
    on_face: OnFace,
    seen: Mapping[int, Tensor] = MappingProxyType({}),
) -> tuple[LandmarkTrack, Tensor]:
    """Follow the person of the first scene through the cuts.

    In a scene whose face is somebody else's, the other faces are looked at, and the person's is followed from there.

    Args:
        video: the film.
        track: of the face that was followed, T frames.
        scenes: (T,) number of each frame's scene.
        people: tells faces apart.
        mesh: what finds landmarks.
        on_face: called with the frames of scenes that are tracked anew.
        seen: (D,) descriptors of the followed face by frames' numbers; scenes without one are read again.

    Returns:
        The track, and (T,) bool: scenes that show somebody else.
    """
    points, valid = gathered(track.points, torch.arange(len(track))), track.valid.clone()
    other, reference = torch.zeros(len(track), dtype=torch.bool), None
    for scene in scenes.unique().tolist():
        frames = torch.nonzero(scenes == scene).flatten()
        descriptor = next((found for index, found in seen.items() if int(scenes[index]) == scene), None)
        if reference is None:
            reference = _first_known(video, track, frames, people) if descriptor is None else descriptor
            continue
        if descriptor is not None and people.likeness(descriptor, reference) >= 0:
            continue
        index = _most_frontal(track, frames) if bool(valid[frames].any()) else int(frames[len(frames) // 2])
        picture = _picture(video, track, index)
        if descriptor is None and bool(valid[index]):
            descriptor = people.describe(picture, track.px_of(index))
            if descriptor is not None and people.likeness(descriptor, reference) >= 0:
                continue
        place = _place_of(picture, reference, people, mesh)
        if place is None:
            other[frames] = descriptor is not None  # who cannot be described is taken as before
            continue
        again = _tracked_again(video, track, frames, place, mesh, on_face)
        if again is not None:
            points[frames], valid[frames] = again.points, again.valid
    return replace(track, points=points, valid=valid), other & valid


def _first_known(video: Path, track: LandmarkTrack, frames: Tensor, people: PersonDescriptor) -> Tensor | None:
    """(D,) descriptor of a scene's face, the most frontal of some frames; None where it cannot be described."""
    face_frames = frames[track.valid[frames]]
    tried = face_frames[:: max(1, len(face_frames) // TRIED)][:TRIED]
    for index in tried[_turned_in(track, tried).argsort(stable=True)].tolist():
        face_descriptor = people.describe(_picture(video, track, index), track.px_of(index))
        if face_descriptor is not None:
            return face_descriptor
    return None


def _most_frontal(track: LandmarkTrack, frames: Tensor) -> int:
    face_frames = frames[track.valid[frames]]
    return int(face_frames[int(_turned_in(track, face_frames).argmin())])


def _turned_in(track: LandmarkTrack, frames: Tensor) -> Tensor:
    """(N,) how far the head is turned aside in frames, 0 is from the front."""
    return turned_aside(torch.cat([eye_axis(track.px_of(some)) for some in frames.split(BLOCK)]))


def _picture(video: Path, track: LandmarkTrack, index: int) -> Tensor:
    return next(_pictures(video, track, index, 1))


def _pictures(video: Path, track: LandmarkTrack, first: int, count: int) -> Iterator[Tensor]:
    return islice(read_pictures(video, track.fps, first=first), count)


def _place_of(picture: Tensor, known: Tensor, people: PersonDescriptor, mesh: MeshBackend) -> BoxChoice | None:
    """Where a picture shows a known face; None where it does not."""
    height, width = picture.shape[:2]
    faces = detect_faces(picture, mesh) * torch.tensor([width, height, width], dtype=torch.float32)
    described = [(people.describe(picture, face), face) for face in faces]
    likenesses = [(people.likeness(shown, known), face) for shown, face in described if shown is not None]
    best = max(likenesses, key=lambda pair: pair[0], default=(-1.0, None))
    return BoxChoice(tuple(face_box_px(best[1][None])[0].tolist())) if best[0] >= 0 else None


def _tracked_again(  # noqa: PLR0913 - what `follow_person` is given
    video: Path, track: LandmarkTrack, frames: Tensor, place: BoxChoice, mesh: MeshBackend, on_face: OnFace
) -> LandmarkTrack | None:
    first = int(frames[0])
    numbers = iter(range(first, first + len(frames)))
    pictures = _pictures(video, track, first, len(frames))
    try:
        return track_faces(
            pictures, track.fps, mesh, place, on_missing="interpolate", source=Path(video).name,
            on_face=lambda picture, face: on_face(next(numbers), picture, face),
        )  # fmt: skip
    except NoFaceError:
        return None
