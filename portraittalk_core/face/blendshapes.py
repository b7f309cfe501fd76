"""MediaPipe's 52 blendshapes of a face in a picture, by a face_landmarker.task file that holds their network."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, MissingDependency
from ..types import NUM_LANDMARKS
from .mesh.backends import MAX_FACES
from .mesh.native_logging import native_chatter_muted

NUM_BLENDSHAPES = 52
NETWORK = "face_blendshapes.tflite"  # within the file
FILE = "face_landmarker_v2_with_blendshapes.task"
ADVICE = f"Give Google's {FILE} (Apache-2.0, developers.google.com/mediapipe/solutions/vision/face_landmarker)."


def has_blendshapes(path: Path) -> bool:
    """Whether a file is a task file that holds the blendshapes' network."""
    try:
        with zipfile.ZipFile(path) as file:
            return NETWORK in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


class Blendshapes:
    """Blendshapes by MediaPipe's face landmarker, each picture by itself.

    Args:
        path: a task file with the blendshapes' network.

    Raises:
        InputError: no such file, or one without that network.
        MissingDependency: mediapipe is not installed.
    """

    def __init__(self, path: Path) -> None:
        if not Path(path).is_file():
            raise MissingDependency(f"there is no file {path}. {ADVICE}")
        if not has_blendshapes(path):
            raise InputError(f"{Path(path).name} holds no {NETWORK}: it finds landmarks, but no blendshapes. {ADVICE}")
        try:
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision
        except Exception as error:  # beside a wrong protobuf or numpy it fails in many ways
            raise MissingDependency(f"mediapipe is not installed; pip install mediapipe ({error}).") from error
        self._picture, self._format = mediapipe.Image, mediapipe.ImageFormat.SRGB
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(path)), num_faces=MAX_FACES, output_face_blendshapes=True
        )
        try:
            with native_chatter_muted():
                self._landmarker = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(f"{Path(path).name} is not a usable task file ({error}); download it again.") from error

    def coefficients(self, picture: Tensor, points_px: Tensor) -> Tensor | None:
        """(52,) 0..1 of the face nearest to landmarks (478, 3) px in a picture (H, W, 3) uint8; None without a face."""
        image = self._picture(image_format=self._format, data=np.ascontiguousarray(picture.numpy()))
        with native_chatter_muted():
            result = self._landmarker.detect(image)
        return nearest_blendshapes(result, points_px, picture.shape[1::-1])


def nearest_blendshapes(result: object, points_px: Tensor, size: tuple[int, int]) -> Tensor | None:
    """(52,) blendshapes of the face whose landmarks are nearest to others; None without a face.

    Args:
        result: of MediaPipe's face landmarker: `face_landmarks` and `face_blendshapes` of each face.
        points_px: (478, 3) pixels.
        size: of the picture, width and height.

    Raises:
        InputError: another number of blendshapes.
    """
    if not result.face_blendshapes:
        return None
    faces = [[(point.x, point.y) for point in face[:NUM_LANDMARKS]] for face in result.face_landmarks]
    middles = torch.tensor(faces).mean(1) * torch.tensor(size)
    distances = (middles - points_px[:, :2].mean(0)).norm(dim=1)
    shapes = sorted(result.face_blendshapes[int(distances.argmin())], key=lambda category: category.index)
    if len(shapes) != NUM_BLENDSHAPES:
        raise InputError(f"the task file gives {len(shapes)} blendshapes, not {NUM_BLENDSHAPES}. {ADVICE}")
    return torch.tensor([float(category.score) for category in shapes])
