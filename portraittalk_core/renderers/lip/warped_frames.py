"""Film frames warped to new landmarks, into which the inside of a painted mouth is pasted.

With `blend` mouth the warp moves lips, jaw and cheeks in the film's own pixels, and of a painted crop the inside of the
mouth alone is taken, which no warp can know. A portrait's pictures are the warp's already.

Shapes: H and W of the pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...threads import one_torch_thread
from ..contract import Film
from ..warp.build import drawn_face
from .footage import Footage


class WarpedFrames:
    """The frames of a film with the face bent to new landmarks, in turn.

    Args:
        footage: of the film.
    """

    def __init__(self, footage: Footage) -> None:
        self._footage, self._scene = footage, None
        track = footage.track
        self._size = torch.tensor([track.width, track.height, track.width], dtype=torch.float32)

    def picture(self, index: int, picture: Tensor, shape: Tensor) -> Tensor:
        """(H, W, 3) uint8 of a frame (H, W, 3) uint8 and of the (478, 3) landmarks that it is to have."""
        film = self._footage.source
        if not isinstance(film, Film):
            return picture
        if (scene := film.scene(index)) != self._scene:
            self._scene = scene
            self._face = drawn_face(film, scene)
        with one_torch_thread():
            return self._face.draw(picture, film.track.points[index] * self._size, shape * self._size, index)
