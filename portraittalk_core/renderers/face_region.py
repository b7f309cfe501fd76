"""Repainting of the face region alone: crop, paint at SD1.5's size, paste back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from ..face.crop import FaceCrop
from ..media.tee import tee
from .contract import Callbacks
from .paste import PasteOptions, paste_frames
from .repaint import Painter, repainted


def painted_faces(
    pictures: Iterable[Tensor],
    plan: FaceCrop,
    painter: Painter,
    paste: PasteOptions | None = None,
    callbacks: Callbacks | None = None,
) -> Iterator[Tensor]:
    """Pictures with a repainted face; all other pixels are unchanged.

    Of the pictures no more are in memory than the painter paints at once.

    Args:
        pictures: (H, W, 3) uint8, one for every frame of the plan.
        plan: where the face is; its crop's size is the painter's.
        painter: SD1.5 with the face's identity.
        paste: how the painted face is blended in.
        callbacks: called meanwhile; not with pictures.

    Yields:
        (H, W, 3) uint8, as many.

    Raises:
        InputError: fewer pictures than the plan has frames, or another size.
    """
    to_crop, backgrounds = tee(pictures)
    crops = (plan.crop(picture, index) for index, picture in enumerate(to_crop))
    painted = repainted(crops, len(plan), painter, callbacks or Callbacks())
    yield from paste_frames(backgrounds, painted, plan, paste)
