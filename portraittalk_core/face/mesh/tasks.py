"""Landmark back end: mediapipe's Tasks API with a face_landmarker.task file, for releases that carry no models."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError, MissingDependency, MissingFileError
from ...types import NUM_LANDMARKS
from .native_logging import native_chatter_muted

FILE = "face_landmarker.task"
FOLDERS_VARIABLE = "PORTRAITTALK_MODELS"
ADDRESS = "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/" + FILE


def find_model() -> Path | None:
    """The face_landmarker.task file in $PORTRAITTALK_MODELS (folders, searched within) or ~/.cache/portraittalk."""
    folders = [Path(f) for f in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if f]
    for folder in (*folders, Path.home() / ".cache" / "portraittalk"):
        files = sorted(folder.rglob(FILE)) if folder.is_dir() else []
        if files:
            return files[0]
    return None


class TasksMesh:
    """MediaPipe's face landmarker, each picture by itself."""

    name = "tasks"

    def __init__(self, model_path: Path | None, max_faces: int) -> None:
        path = Path(model_path) if model_path else find_model()
        if path is None:
            raise MissingDependency(
                f"no {FILE} was found; get it from {ADDRESS} (3.6 MB, Apache-2.0), put it into ~/.cache/portraittalk "
                f"or a folder named by {FOLDERS_VARIABLE}."
            )
        if not path.is_file():
            raise MissingFileError(f"{path} does not exist; give the path of a {FILE} file.", path)
        try:
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision
        except Exception as error:  # beside a wrong protobuf or numpy it fails in many ways
            raise MissingDependency(f"mediapipe is not installed; pip install mediapipe ({error}).") from error
        self._picture = mediapipe.Image
        self._format = mediapipe.ImageFormat.SRGB
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(path)), num_faces=max_faces
        )
        self._muted: Callable[[], AbstractContextManager[None]] = native_chatter_muted
        try:
            with self._muted():
                self._landmarker = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"{path} is not a usable {FILE} file ({error}); download it again.") from error

    def detect(self, picture: Tensor) -> Tensor:
        """(F, 478, 3) normalised landmarks of the faces in a (H, W, 3) uint8 picture."""
        image = self._picture(image_format=self._format, data=np.ascontiguousarray(picture.numpy()))
        with self._muted():
            faces = self._landmarker.detect(image).face_landmarks
        if faces:  # each network has now run once and said what it had to say
            self._muted = nullcontext
        points = [[(p.x, p.y, p.z) for p in face] for face in faces]
        return torch.tensor(points, dtype=torch.float32).reshape(-1, NUM_LANDMARKS, 3)

    def close(self) -> None:
        """Free the model."""
        self._landmarker.close()

    def __enter__(self) -> TasksMesh:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
