"""Six people in one photograph, which comes with the package insightface."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from portraittalk_core.face.geometry import face_box_px
from portraittalk_core.face.mesh.backends import open_mesh
from portraittalk_core.face.mesh.search import detect_faces

ROOM = 0.4  # around a face, of its larger side


@cache
def group() -> torch.Tensor:
    """(886, 1280, 3) uint8; a test without the file is skipped."""
    found = find_spec("insightface")
    path = None if found is None else Path(found.origin).parent / "data" / "images" / "t1.jpg"
    if path is None or not path.is_file():
        pytest.skip("insightface's example picture is not here")
    return torch.from_numpy(np.array(Image.open(path).convert("RGB")))


@cache
def faces_px() -> torch.Tensor:
    """(6, 478, 3) landmarks, pixels, the largest face first."""
    height, width = group().shape[:2]
    with open_mesh("torch") as mesh:
        return detect_faces(group(), mesh) * torch.tensor([width, height, width])


def one_of_six(number: int, side: int) -> torch.Tensor:
    """(side, side, 3) uint8: one of them alone, enlarged."""
    x0, y0, x1, y1 = face_box_px(faces_px()[number][None])[0].tolist()
    half = (0.5 + ROOM) * max(x1 - x0, y1 - y0)
    box = [(x0 + x1) / 2 - half, (y0 + y1) / 2 - half, (x0 + x1) / 2 + half, (y0 + y1) / 2 + half]
    picture = Image.fromarray(group().numpy()).resize((side, side), Image.Resampling.BICUBIC, box)
    return torch.from_numpy(np.array(picture))
