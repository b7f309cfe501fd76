"""A stand-in landmark back end that sees coloured rectangles, so that searching can be tested to the pixel."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from portraittalk_core.face.canonical import canonical_face

SMALLEST, LARGEST = 0.12, 0.7  # of the larger side of what it is shown: real detectors have such limits too


class PaintedMesh:
    """Finds each person's rectangle, persons 0, 1 and 2 being red, green and blue."""

    name = "painted"

    def __init__(self) -> None:
        self.num_looks = 0
        self.closed = False

    def detect(self, picture: Tensor) -> Tensor:
        assert picture.dtype == torch.uint8
        assert picture.is_contiguous()
        self.num_looks += 1
        height, width = picture.shape[:2]
        faces = []
        for person in range(3):
            rows, columns = (picture[..., person] > 127).nonzero(as_tuple=True)
            if not len(rows):
                continue
            box = (float(columns.min()), float(rows.min()), float(columns.max()) + 1, float(rows.max()) + 1)
            if SMALLEST <= max(box[2] - box[0], box[3] - box[1]) / max(height, width) <= LARGEST:
                faces.append(face_in(box) / torch.tensor([width, height, width]))
        return torch.stack(faces) if faces else torch.zeros(0, 478, 3)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> "PaintedMesh":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def face_in(box: tuple[float, float, float, float]) -> Tensor:
    """(478, 3) the canonical face stretched into a box x0, y0, x1, y1."""
    face = canonical_face()
    low, high = face[:, :2].amin(0), face[:, :2].amax(0)
    size = torch.tensor([box[2] - box[0], box[3] - box[1]])
    return torch.cat([(face[:, :2] - low) / (high - low) * size + torch.tensor(box[:2]), face[:, 2:] * size[0] / 2], 1)


def paint(*boxes: tuple[int, int, int, int] | None, width: int = 400, height: int = 300) -> Tensor:
    """A picture with the n-th person's face in the n-th box; None leaves a person out."""
    picture = torch.zeros(height, width, 3, dtype=torch.uint8)
    for person, box in enumerate(boxes):
        if box is not None:
            x0, y0, x1, y1 = box
            picture[y0:y1, x0:x1] = 0
            picture[y0:y1, x0:x1, person] = 255
    return picture


@pytest.fixture
def painted() -> SimpleNamespace:
    """`painted.mesh`, and what paints pictures for it."""
    return SimpleNamespace(mesh=PaintedMesh(), paint=paint, face_in=face_in)
