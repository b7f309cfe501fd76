"""Extraction of keypoints from pictures and films.

Shapes: S side of a crop, B crops of a batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import fields, replace
from fractions import Fraction

import torch
from torch import Tensor

from ...checks import check_choice, check_range
from ...errors import InputError
from ...motion.keypoint_time import FILLS, filled, in_order
from ...progress import Progress
from ...types import KeypointTrack, LandmarkTrack, check_picture
from .contract import CropRule, KeypointModel, Keypoints
from .crop import FaceCrop, FilmCrops, crop_of
from .extract_options import CROPS, MAX_BATCH

BATCH = 8  # crops whose keypoints are found at once
LYING_DEG = 45.0  # a face that is rolled further is turned upright in a fixed crop
ROOM = 0.1  # of the crop's side: how far a face may move in a fixed crop before the crop grows
MAX_GROWTH = 2.0
QUANTILE = 0.01  # share of the frames at both ends that may move further


def keypoints_of_picture(model: KeypointModel, picture: Tensor, points_px: Tensor) -> tuple[Keypoints, FaceCrop]:
    """Keypoints of one face, and the crop in which they lie.

    Args:
        model: of a family.
        picture: (H, W, 3) uint8.
        points_px: (478, 2 or more) landmarks of the face, pixels.

    Raises:
        InputError: a face too small to crop.
    """
    crop = crop_of(points_px, model.crop, model.input_size)
    with torch.no_grad():
        return model.keypoints(crop.take(picture, model.device)), crop


def track_of(faces: Keypoints, layout: str, fps: Fraction, valid: Tensor | None = None) -> KeypointTrack:
    """The motion of T faces, without whose they are.

    Args:
        faces: T of them.
        layout: of their model.
        fps: frames per second.
        valid: (T,) bool; None is all.
    """
    valid = torch.ones(len(faces), dtype=torch.bool) if valid is None else valid
    names = ("expression", "rotation_deg", "translation", "scale")
    return KeypointTrack(*(getattr(faces, name).detach().float().cpu() for name in names), valid, fps, layout)


def keypoint_track_of_film(
    model: KeypointModel,
    pictures: Iterable[Tensor],
    landmarks: LandmarkTrack,
    *,
    crop: str = "fixed",
    on_missing: str = "hold",
    scenes: Tensor | None = None,
    batch: int = BATCH,
    on_progress: Progress | None = None,
) -> KeypointTrack:
    """Keypoints of one face through a film.

    Args:
        model: of a family.
        pictures: (H, W, 3) uint8, T of them; read one at a time, and none is kept.
        landmarks: of the face in them. Frames that are not `valid` are not looked at.
        crop: "fixed" looks at one square for all frames of a scene, in which the head moves; "follow" at each frame's
            own, as a renderer crops a film, which takes most of the head's way, size and tilt away.
        on_missing: what frames without a face get: "hold" the last motion, "interpolate" what lies between.
        scenes: (T,) number of each frame's scene, such as `renderers.contract.Film.scenes`; None: there are no cuts.
        batch: crops whose keypoints are found at once.
        on_progress: called after every picture with frames done and in all; may raise to stop.

    Returns:
        T frames; `valid` as the landmarks'.

    Raises:
        InputError: no frame shows a face, the pictures are fewer or of another size, or a face is too small.
    """
    check_choice(crop, CROPS, "the crop of keypoints")
    check_choice(on_missing, FILLS, "how frames without a face are filled")
    check_range(batch, 1, MAX_BATCH, "the batch of crops")
    if not landmarks.valid.any():
        raise InputError("these landmarks show no face in any frame; choose another video, or track another face.")
    scenes = torch.zeros(len(landmarks), dtype=torch.int64) if scenes is None else scenes
    crops_of = _FixedCrops if crop == "fixed" else FilmCrops
    crops = crops_of(landmarks, model.crop, model.input_size, scenes)
    reader = _Reader(model, int(batch))
    done = 0
    for picture in itertools.islice(pictures, len(landmarks) + 1):
        if done < len(landmarks) and landmarks.valid[done]:
            _check_size(picture, landmarks, done)
            reader.add(crops.of(done).take(picture, model.device))
        done += 1
        if on_progress is not None:
            on_progress(min(done, len(landmarks)), len(landmarks))
    if done != len(landmarks):
        more = "or more " if done > len(landmarks) else ""
        raise InputError(
            f"there are {done} {more}pictures and {len(landmarks)} frames of landmarks; give those of one film."
        )
    extracted = track_of(reader.faces(), model.layout, landmarks.fps)
    every = in_order(extracted, (landmarks.valid.long().cumsum(0) - 1).clamp(min=0))
    return filled(replace(every, valid=landmarks.valid.clone()), on_missing)


class _Reader:
    """Finds keypoints of crops, a batch of them at a time."""

    def __init__(self, model: KeypointModel, batch: int) -> None:
        self._model, self._batch = model, batch
        self._waiting: list[Tensor] = []
        self._found: list[Keypoints] = []

    def add(self, crop: Tensor) -> None:
        """Take the next crop, (1, 3, S, S)."""
        self._waiting.append(crop)
        if len(self._waiting) == self._batch:
            self._read()

    def faces(self) -> Keypoints:
        """Keypoints of all crops, one after another."""
        if self._waiting:
            self._read()
        return Keypoints.cat(self._found)

    def _read(self) -> None:
        with torch.no_grad():
            faces = self._model.keypoints(torch.cat(self._waiting))
        self._waiting = []
        self._found.append(Keypoints(*(getattr(faces, field.name).float().cpu() for field in fields(Keypoints))))


class _FixedCrops:
    """One square for all frames of a scene: that of the mean face, larger where the head moves far."""

    def __init__(self, landmarks: LandmarkTrack, rule: CropRule, size: int, scenes: Tensor) -> None:
        self._landmarks, self._rule, self._size, self._scenes = landmarks, rule, size, scenes
        self._crops: dict[int, FaceCrop] = {}

    def of(self, index: int) -> FaceCrop:
        """The crop of a frame."""
        scene = int(self._scenes[index])
        if scene not in self._crops:
            frames = (self._scenes == scene) & self._landmarks.valid
            size = torch.tensor([self._landmarks.width, self._landmarks.height], dtype=torch.float32)
            points_px = self._landmarks.points[frames, :, :2] * size
            self._crops[scene] = fixed_crop(points_px, self._rule, self._size)
        return self._crops[scene]


def fixed_crop(points_px: Tensor, rule: CropRule, size: int) -> FaceCrop:
    """One square for a face that moves.

    As large as a family's rule says for the mean face, and larger where the head leaves that; it stands upright with
    the picture, so that the head's tilt is seen, unless the face lies on its side.

    Args:
        points_px: (T, 478, 2) landmarks, pixels.
        rule: of the family.
        size: S.
    """
    mean = points_px.mean(0)
    base = crop_of(mean, rule, size)
    around = torch.tensor([(size - 1) / 2] * 2, dtype=torch.float64)
    middle = base.to_picture[:, :2] @ around + base.to_picture[:, 2]
    turn = base.matrix[:, :2] * (base.side_px / size)  # without its scale
    roll = math.degrees(math.atan2(float(turn[1, 0]), float(turn[0, 0])))
    if abs(roll) <= LYING_DEG:
        turn = torch.eye(2, dtype=torch.float64)
    inside = (points_px.double() - 0.5 - middle) @ turn.T / base.side_px
    still = (mean.double() - 0.5 - middle) @ turn.T / base.side_px
    low, high = torch.quantile(inside.amin(1), QUANTILE, 0), torch.quantile(inside.amax(1), 1 - QUANTILE, 0)
    beyond = torch.maximum(still.amin(0) - low, high - still.amax(0)).max()
    growth = min(MAX_GROWTH, 1 + 2 * max(0.0, float(beyond) - ROOM))
    scaled = turn * (size / (growth * base.side_px))
    return FaceCrop(torch.cat([scaled, (around - scaled @ middle)[:, None]], 1), size)


def _check_size(picture: Tensor, landmarks: LandmarkTrack, index: int) -> None:
    height, width = check_picture(picture, f"picture {index}").shape[:2]
    if (width, height) != (landmarks.width, landmarks.height):
        raise InputError(
            f"picture {index} has {width}×{height} pixels, its landmarks were found on {landmarks.width}×"
            f"{landmarks.height}; give the pictures that the landmarks belong to."
        )
