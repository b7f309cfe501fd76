"""Faces that are drawn in polygons along landmarks, so that their edges are known to a part of a pixel."""

from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image, ImageDraw

FINE = 4  # pixels of the drawing for each one of the picture
Shape = tuple[torch.Tensor, tuple[int, int, int]]  # outline (N, 2) in pixels, and its colour


def drawn_face(side: int, background: tuple[int, int, int], shapes: Iterable[Shape]) -> torch.Tensor:
    """(side, side, 3) uint8 of shapes, later ones over earlier ones."""
    picture = Image.new("RGB", (side * FINE, side * FINE), background)
    pen = ImageDraw.Draw(picture)
    for outline, colour in shapes:
        pen.polygon([tuple(point) for point in (outline * FINE).tolist()], fill=colour)
    return torch.from_numpy(np.array(picture.reduce(FINE)))
