"""Only the face of pictures of any size is painted: cut out, painted at SD1.5's own size, and pasted back."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from torch import Tensor

from ..face.crop import FaceCrop
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
    """Pictures whose face is painted anew; all else in them stays as it is, to the last bit.

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
    to_cut, behind = itertools.tee(pictures)
    crops = (plan.crop(picture, index) for index, picture in enumerate(to_cut))
    painted = repainted(crops, len(plan), painter, callbacks or Callbacks())
    yield from paste_frames(behind, painted, plan, paste)
