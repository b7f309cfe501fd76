"""Networks and options of a renderer with implicit keypoints, and faces rendered by them.

Shapes: B faces, K keypoints, R side of the pictures in pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .contract import KeypointModel, Keypoints, Retargeting
from .options import KeypointRenderOptions

if TYPE_CHECKING:
    from .audio2exp.alpha import Alpha
    from .audio2exp.driver import Audio2ExpDriver


class FaceRenderer:
    """Renders crops of faces with a keypoint model.

    Args:
        model: the networks of a family.
        retargeting: its small networks beside; None where the family or the folder has none.
        options: how it renders; None are the defaults.
        driver: an Audio2Exp driver, which edits the keypoints by the speech; None: the motion says all.
        alpha: instead of the options': a number, one a frame, or points (seconds, alpha), see `audio2exp.alpha`.
    """

    def __init__(
        self,
        model: KeypointModel,
        retargeting: Retargeting | None = None,
        options: KeypointRenderOptions | None = None,
        driver: Audio2ExpDriver | None = None,
        alpha: Alpha | None = None,
    ) -> None:
        self.model, self.retargeting = model, retargeting
        self.options = options or KeypointRenderOptions()
        self.driver = driver
        self.alpha = self.options.strength(driver is not None) if alpha is None else alpha

    @property
    def keypoint_layout(self) -> str:
        """Layout of the keypoint tracks that can be rendered, besides landmark tracks."""
        return self.model.layout

    def place(self, source: Tensor, faces: Keypoints) -> Tensor:
        """(B, K, 3) placed keypoints of the pictures to make, stitched to those of the source if that is wanted."""
        placed = self.model.place(faces)
        if self.retargeting is None or not self.options.stitching:
            return placed
        return self.retargeting.stitch(source.expand(len(placed), -1, -1), placed)

    def pictures(self, features: Tensor, source: Tensor, driven: Tensor) -> Tensor:
        """(B, 3, R, R) rendered pictures of `KeypointModel.render`.

        Compiled networks are compiled anew for every number of frames, so a smaller batch is filled up with its last.
        """
        count = len(driven)
        if not getattr(self.options, "compile", False) or count >= self.options.batch_size:
            return self.model.render(features, source, driven)
        more = self.options.batch_size - count

        def filled(part: Tensor) -> Tensor:
            is_shared = len(part) == 1 and part is not driven
            return part if is_shared else torch.cat([part, part[-1:].expand(more, *part.shape[1:])])

        return self.model.render(filled(features), filled(source), filled(driven))[:count]
