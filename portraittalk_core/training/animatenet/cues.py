"""Conditions of the frames of a training batch: hint pictures, landmarks, head placements, last finished frames.

Shapes: B clips, F frames of a clip, R = B · F frames, S side of the pictures in pixels, h = S / 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...renderers.animatenet.head_placement import place
from ...renderers.animatenet.landmark_control import draw_condition
from ...renderers.animatenet.previous_frame import previous_placements
from ..data.video_clips import ClipBatch
from .config import AnimateTraining


@dataclass
class Cues:
    """Conditions of the frames of a batch."""

    hints: Tensor  # (R, 3, S, S)
    points_px: Tensor  # (R, 478, 2)
    placements: Tensor  # (R, 6)


def cues_of(batch: ClipBatch, config: AnimateTraining, device: torch.device) -> Cues:
    """Hints, landmarks and placements of a batch's frames, as the configuration has them."""
    side, placed, tracks = config.resolution, batch.placements, batch.tracks
    if not config.head_placement or config.centred_hint:  # all that drawings know: where the reference's head stands
        tracks = [place(track, still[None]) for track, still in zip(tracks, batch.reference_placements, strict=True)]
    if not config.head_placement:
        placed = batch.reference_placements[:, None].expand(-1, placed.shape[1], -1)
    images = [draw_condition(track, i, side, side, config.style) for track in tracks for i in range(len(track))]
    hints = torch.stack(images).permute(0, 3, 1, 2).float() / 255
    points = torch.cat([track.points[..., :2] for track in tracks]) * side
    if config.previous and config.head_placement:
        starts = zip(batch.previous_placements, placed, strict=True)
        placed = torch.stack([previous_placements(start, row) for start, row in starts])
    return Cues(hints.to(device), points.to(device), placed.flatten(0, 1).to(device))


def last_finished(clean: Tensor, before: Tensor, given_mask: Tensor) -> Tensor:
    """(R, 4, h, h) latents of each clip's last finished frame: its last given one, else the frame before it.

    Args:
        clean: (R, 4, h, h) latents of the clips.
        before: (B, 4, h, h) latents of the frames before them.
        given_mask: (R,) bool: the first frames of clips, which are given.
    """
    size, length = len(before), len(clean) // len(before)
    counts = given_mask.view(size, length).sum(1)
    rows = torch.arange(size, device=clean.device) * length + (counts - 1).clamp(min=0)
    previous = torch.where((counts > 0).view(-1, 1, 1, 1), clean[rows], before)
    return previous.repeat_interleave(length, 0)
