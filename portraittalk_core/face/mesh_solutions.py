"""Landmark back end: the `solutions` API of mediapipe up to 0.10.21, whose package carries its models."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import MissingDependency
from ..types import NUM_LANDMARKS

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
        except ImportError as error:
            raise MissingDependency(f"{HOW} ({error}).") from error
        try:
            self._mesh = FaceMesh(
                static_image_mode=True, max_num_faces=max_faces, refine_landmarks=True, min_detection_confidence=0.5
            )
        except (FileNotFoundError, RuntimeError, ValueError) as error:
            raise MissingDependency(f"{HOW} ({error}).") from error

    def detect(self, picture: Tensor) -> Tensor:
        """(F, 478, 3) normalised landmarks of the faces in a (H, W, 3) uint8 picture."""
        found = self._mesh.process(np.ascontiguousarray(picture.numpy())).multi_face_landmarks or []
        points = [[(p.x, p.y, p.z) for p in face.landmark] for face in found]
        return torch.tensor(points, dtype=torch.float32).reshape(-1, NUM_LANDMARKS, 3)

    def close(self) -> None:
        """Free the models."""
        self._mesh.close()

    def __enter__(self) -> SolutionsMesh:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
