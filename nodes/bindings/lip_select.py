"""References of a film for a lip renderer: which of its frames, and what they look like."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from ...portraittalk_core.errors import InputError
from ...portraittalk_core.face.lip_points import LIP_POINTS
from ...portraittalk_core.face.mesh.landmarks import track_faces
from ...portraittalk_core.face.scenes import SceneFinder
from ...portraittalk_core.face.sharpness import mouth_sharpness
from ...portraittalk_core.media.video_read import probe_video
from ...portraittalk_core.pipelines.dub import read_film
from ...portraittalk_core.pipelines.same_person import DlibPerson
from ...portraittalk_core.renderers.contract import Film
from ...portraittalk_core.renderers.lip.contract import LipCropRule
from ...portraittalk_core.renderers.lip.crop import LipBoxes
from ...portraittalk_core.renderers.lip.footage import Footage
from ...portraittalk_core.renderers.lip.iplap import CROP_PAD_PX
from ...portraittalk_core.renderers.lip.options import LipPaintOptions
from ...portraittalk_core.renderers.lip.policy import paint_weights
from ...portraittalk_core.renderers.lip.reading import chosen_frames, reference_sheet
from ...portraittalk_core.renderers.lip.references import ReferenceFrames, contact_sheet
from ...portraittalk_core.types import LandmarkTrack
from . import convert, convert_video
from .face_place import choice_at
from .progress import Progress, counted, face_mesh

RULE = LipCropRule(LIP_POINTS, CROP_PAD_PX, square=False, size=128)  # how a sheet shows faces, whichever renderer
FRAMES = "the film"  # in messages, where it has no name
UNKNOWN_FPS = Fraction(25)  # of pictures, which nothing is made of that has one


@dataclass(frozen=True)
class ChosenReferences:
    """What PORTRAITTALK_LIP_REFERENCES sockets carry: frames of one film, and what is known of it."""

    frames: ReferenceFrames
    film: Film | None  # as it was tracked, without its file; None where only its pictures were there
    num_frames: int
    size: tuple[int, int]  # width and height

    @property
    def indices(self) -> str:
        """Numbers of the frames for the face, as a text."""
        return ", ".join(map(str, self.frames.faces))

    def check_film(self, num_frames: int | None, size: tuple[int, int]) -> None:
        """Check that they are of a film with so many frames (None: not known) of a width and height.

        Raises:
            InputError: they are not.
        """
        if size != self.size or num_frames not in (None, self.num_frames):
            count = "" if num_frames is None else f"{num_frames} frames of "
            raise InputError(
                f"the references are of a film of {self.num_frames} frames of {self.size[0]}×{self.size[1]}, but this "
                f"one has {count}{size[0]}×{size[1]}; connect the same film to Select References."
            )


def read_video(path: Path, landmarks: LandmarkTrack | None, face: tuple, scenes: str = "same") -> Film:
    """The film of a file, with its face tracked.

    Args:
        path: the file.
        landmarks: of its face, where they are known; None tracks it.
        face: face_index, and the MASK or box that goes before it.
        scenes: see `DubOptions`.

    Raises:
        InputError: landmarks of pictures of another size, or of more frames.
        NoFaceError: there is no face.
    """
    shown = probe_video(path)
    if landmarks is not None:
        check_landmarks(landmarks, (shown.width, shown.height))
        most = shown.max_frames
        if most is not None and len(landmarks) > most:
            raise InputError(
                f"film_landmarks have {len(landmarks)} frames, the film {most}; connect the landmarks of this film."
            )
        return Film(path, landmarks)
    which = choice_at(*face, (shown.height, shown.width))
    with face_mesh() as mesh:
        people = DlibPerson()
        return read_film(path, mesh=mesh, face_index=which, on_progress=Progress(), scenes=scenes, people=people)


def check_landmarks(landmarks: LandmarkTrack, size: tuple[int, int]) -> None:
    """Check that landmarks are of pictures of a width and height.

    Raises:
        InputError: they are not.
    """
    if (landmarks.width, landmarks.height) != size:
        raise InputError(
            f"film_landmarks belong to pictures of {landmarks.width}×{landmarks.height}, the film has {size[0]}×"
            f"{size[1]}; connect the landmarks of this film."
        )


def selected(
    film: object, landmarks: LandmarkTrack | None, face: tuple, options: LipPaintOptions
) -> tuple[ChosenReferences, Tensor]:
    """The references of a film, and their contact sheet (H, W, 3) uint8.

    Args:
        film: VIDEO or IMAGE.
        landmarks: of its face, where they are known.
        face: face_index, and the MASK or box that goes before it.
        options: how many, or which.

    Raises:
        InputError: neither a VIDEO nor an IMAGE, a frame that it does not have, or landmarks of another film.
        NoFaceError: there is no face.
    """
    with ExitStack() as files:
        if convert.as_tensor(film) is None:
            path = files.enter_context(convert_video.video_file(film))
            read = read_video(path, landmarks, face)
            frames, sheet = reference_sheet(*_prepared(read, options), options)
            return ChosenReferences(frames, read, len(read.track), (read.track.width, read.track.height)), sheet
    pictures = convert.to_pictures(film)
    read = _read_pictures(pictures, landmarks, face)
    footage, boxes, weights = _prepared(read, options)
    frames = chosen_frames(footage, weights, options)
    numbers = sorted({*frames.faces, *frames.lips})
    sheet = contact_sheet([boxes[at].take(pictures[at], RULE.size) for at in numbers], frames, numbers)
    return ChosenReferences(frames, None, len(read.track), (read.track.width, read.track.height)), sheet


def _prepared(film: Film, options: LipPaintOptions) -> tuple[Footage, LipBoxes, Tensor]:
    """A film as a renderer sees it: its boxes, and (T,) how much of each frame it would paint."""
    scenes = torch.zeros(len(film.track), dtype=torch.int64) if film.scenes is None else film.scenes
    boxes = LipBoxes(film.track, RULE, None, scenes)
    weights = paint_weights(film.track, scenes, boxes.usable, options.max_yaw, film.source)
    return Footage(film, film.track, film.track, scenes, film.pictures), boxes, weights


def _read_pictures(pictures: convert.Pictures, landmarks: LandmarkTrack | None, face: tuple) -> Film:
    """Pictures as a film without a file."""
    height, width = pictures.size
    if landmarks is not None:
        check_landmarks(landmarks, (width, height))
        if len(landmarks) > len(pictures):
            raise InputError(
                f"film_landmarks have {len(landmarks)} frames, the film {len(pictures)}; connect the landmarks of this "
                "film."
            )
        return Film(Path(FRAMES), landmarks)
    finder, sharpness = SceneFinder(), []

    def on_face(picture: Tensor, points: Tensor | None) -> None:
        finder.see(picture, points)
        sharpness.append(0.0 if points is None else mouth_sharpness(picture, points))

    which = choice_at(*face, (height, width))
    with face_mesh() as mesh:
        frames_read = counted(pictures, len(pictures), Progress())
        more = {"on_missing": "interpolate", "source": FRAMES, "on_face": on_face}
        track = track_faces(frames_read, UNKNOWN_FPS, mesh, which, **more)
    return Film(Path(FRAMES), track, scenes=finder.scenes(), sharpness=torch.tensor(sharpness))
