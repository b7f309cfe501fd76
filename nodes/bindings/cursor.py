"""Position of the sampler in a video: written by the painter, read by per-frame conditioning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ...portraittalk_core.errors import InputError


@dataclass
class Cursor:
    """Number of the video frame that the batch being denoised begins with, and the last finished frame before it."""

    first: int = 0
    last: Tensor | None = None  # (1, 4, h, w) latents as the UNet sees them; None where nothing looks back

    def frames(self, count: int, transformer_options: dict, listed: Sequence[int] | None = None) -> list[int]:
        """Frame numbers of a chunk of the samples that the UNet works on.

        Args:
            count: how many they are.
            transformer_options: names them under context windows of ComfyUI, of ours or of AnimateDiff-Evolved.
            listed: the frames where those name none; the first ones if None.

        Raises:
            InputError: a window names another number of frames.
        """
        named = window_frames(transformer_options) or listed or range(count)
        if len(named) != count:
            raise InputError(f"the window names {len(named)} frames, but {count} are being denoised.")
        return [self.first + int(index) for index in named]


def window_frames(transformer_options: dict) -> list[int]:
    """Frame numbers that a context window names for the samples in it, in their order; none without a window.

    ComfyUI since 0.21 puts the frame before a window, its causal anchor, in front of those that the window lists.
    """
    window = transformer_options.get("context_window")
    listed = getattr(window, "index_list", None)
    if not listed:
        return list((transformer_options.get("ad_params") or {}).get("sub_idxs") or ())
    anchor = getattr(window, "causal_anchor_index", None)
    return list(listed) if anchor is None or anchor < 0 else [anchor, *listed]
