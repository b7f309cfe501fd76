"""Which of several faces is meant, by where it is: in a box, or under a mask."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import abbreviated, check_finite, check_shape
from ..errors import InputError
from . import topology as topo
from .geometry import face_box_px

LEAST_OVERLAP = 0.1  # of a face's box, that lies in the box
LEAST_COVER = 0.3  # of a face's landmarks, that lie under the mask
LARGEST_INDEX = 1000
FORMS = "a number from 0, a box x0,y0,x1,y1 in pixels, or the file of a mask"


class FaceChoice(Protocol):
    """Chooses one of several faces."""

    def index(self, faces_px: Tensor, width: int, height: int) -> int | None:
        """Which of (F, 478, 3) faces in pixels of a picture is meant; None where none is."""


@dataclass(frozen=True)
class BoxChoice:
    """The face that a box holds most of; of several, the one whose box is the most alike."""

    box: tuple[float, float, float, float]  # left, top, right, bottom, pixels

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box
        if not (left < right and top < bottom):
            raise InputError(
                f"a box around a face is left,top,right,bottom in pixels, not {','.join(f'{v:g}' for v in self.box)}."
            )

    def index(self, faces_px: Tensor, width: int, height: int) -> int | None:  # noqa: ARG002 - see `FaceChoice`
        """See `FaceChoice`."""
        if not len(faces_px):
            return None
        boxes, box = face_box_px(faces_px), torch.tensor(self.box)
        shared = (torch.minimum(boxes[:, 2:], box[2:]) - torch.maximum(boxes[:, :2], box[:2])).clamp(min=0).prod(1)
        area, box_area = (boxes[:, 2:] - boxes[:, :2]).prod(1), (box[2:] - box[:2]).prod()
        alike = shared / (area + box_area - shared)
        alike[shared / area.clamp(min=1e-6) < LEAST_OVERLAP] = -1.0
        best = int(alike.argmax())
        return best if float(alike[best]) > 0 else None

    def __str__(self) -> str:
        return f"in the box {','.join(f'{value:g}' for value in self.box)}"


@dataclass(frozen=True)
class MaskChoice:
    """The face of which a mask covers most."""

    mask: Tensor = field(repr=False)  # (h, w) 0..1, of the picture at any size
    name: str = "the mask"

    def __post_init__(self) -> None:
        check_finite(check_shape(self.mask, "h w", self.name), self.name)

    def index(self, faces_px: Tensor, width: int, height: int) -> int | None:
        """See `FaceChoice`."""
        if not len(faces_px):
            return None
        outline = faces_px[:, list(topo.FACE_OVAL + topo.RIGID), :2] / torch.tensor([width, height])
        grid = (2 * outline - 1)[None].float()
        covered = F.grid_sample(self.mask[None, None].float(), grid, align_corners=False)[0, 0].mean(1)
        best = int(covered.argmax())
        return best if float(covered[best]) >= LEAST_COVER else None

    def __str__(self) -> str:
        return f"under {self.name}"


def face_choice(text: str) -> int | FaceChoice:
    """Which face a text means: a number, a box, or the file of a mask.

    Raises:
        InputError: something else, a box that is none, or a mask that cannot be read.
    """
    words = text.split(",")
    if len(words) == 1 and text.strip().isdecimal() and text.isascii():
        if int(text) > LARGEST_INDEX:
            raise InputError(f"a face's number must lie between 0 and {LARGEST_INDEX}, but is {abbreviated(text)}.")
        return int(text)
    if len(words) == 4:
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        if values and bool(torch.tensor(values).isfinite().all()):
            return BoxChoice(tuple(values))
    path = Path(text)
    if not path.suffix:
        raise InputError(f"a face is given as {FORMS}, not {abbreviated(text)}.")
    from ..media.image import load_picture

    return MaskChoice(load_picture(path).float().mean(2) / 255, path.name)
