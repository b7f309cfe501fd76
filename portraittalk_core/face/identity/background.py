"""Masks that remove the background of reference pictures before their faces are described.

Source: PortraitTalk, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..segmentation.person import person_mask


def person_masks(pictures: Sequence[Tensor], masks: Sequence[Tensor | None] | None = None) -> list[Tensor]:
    """Masks of the people in pictures, to be given to `FaceEncoder.encode`, which turns all else black.

    Args:
        pictures: (H, W, 3) uint8, of any sizes.
        masks: (H, W) 0..1 of pictures whose person is known already; None computes it.

    Returns:
        (H, W) float in 0..1 of every picture.
    """
    all_masks = masks or [None] * len(pictures)
    return [
        person_mask(picture.permute(2, 0, 1)[None].float() / 255)[0] if mask is None else mask
        for picture, mask in zip(pictures, all_masks, strict=True)
    ]
