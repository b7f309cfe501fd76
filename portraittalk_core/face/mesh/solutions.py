"""Landmark back end: the `solutions` API of mediapipe up to 0.10.21, whose package carries its models."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from ...errors import MissingDependency
from ...types import NUM_LANDMARKS
from .native_logging import native_chatter_muted

HOW = (
    'this Python has no mediapipe with its own face-mesh models; pip install "mediapipe==0.10.21" in an environment of '
    "its own brings them (newer releases do not)"
)


class SolutionsMesh:
    """MediaPipe's face mesh with refined irises, each picture by itself."""

    name = "solutions"

    def __init__(self, max_faces: int) -> None:
        try:
            from mediapipe.python.solutions.face_mesh import FaceMesh
        except Exception as error:  # beside a wrong protobuf or numpy it fails in many ways
            raise MissingDependency(f"{HOW} ({error}).") from error
        self._muted: Callable[[], AbstractContextManager[None]] = native_chatter_muted
        try:
            with self._muted():
                self._mesh = FaceMesh(static_image_mode=True, max_num_faces=max_faces, refine_landmarks=True)
                self._mesh.process(np.zeros((8, 8, 3), np.uint8))  # its threads start at the first picture
        except (FileNotFoundError, RuntimeError, ValueError) as error:
            raise MissingDependency(f"{HOW} ({error}).") from error

    def detect(self, picture: Tensor) -> Tensor:
        """(F, 478, 3) normalised landmarks of the faces in a (H, W, 3) uint8 picture."""
        with self._muted():
            faces = self._mesh.process(np.ascontiguousarray(picture.numpy())).multi_face_landmarks or []
        if faces:  # each network has now run once and said what it had to say
            self._muted = nullcontext
        points = [[(p.x, p.y, p.z) for p in face.landmark] for face in faces]
        return torch.tensor(points, dtype=torch.float32).reshape(-1, NUM_LANDMARKS, 3)

    def close(self) -> None:
        """Free the models."""
        self._mesh.close()

    def __enter__(self) -> SolutionsMesh:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
