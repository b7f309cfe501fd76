"""Clips of people who speak, as the benchmark of the mouth's inside sees them: one frame at rest, and open mouths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.face import topology as topo
from portraittalk_core.media.video_read import read_pictures

from .lipsync_clips import FPS, tracked_video

OPEN = 0.06  # gap over the resting mouth's width from which a mouth counts as open
FILMS = (".mp4", ".mpg", ".mov", ".avi")


@dataclass(frozen=True, eq=False)
class MouthClip:
    """One clip."""

    name: str
    portrait: Tensor  # (H, W, 3) uint8, the frame whose lips are nearest to each other
    rest: Tensor  # (478, 3) its landmarks, pixels
    pictures: Tensor  # (F, H, W, 3) uint8 frames with open mouths
    targets: Tensor  # (F, 478, 3) their landmarks, pixels


def films_of(folder: Path, without: list[str]) -> list[Path]:
    """Videos of a folder, but those named."""
    return [film for film in sorted(folder.iterdir()) if film.suffix in FILMS and film.stem not in without]


def read_clip(film: Path, tracks: Path | None, most: int) -> MouthClip | None:
    """A clip's portrait and at most `most` of its open mouths, evenly over time; None if no mouth opens."""
    track = tracked_video(film, FPS, tracks)
    points = track.points_px
    gap = (points[:, topo.INNER_LIP_BOTTOM, :2] - points[:, topo.INNER_LIP_TOP, :2]).norm(dim=1)
    rest = int(torch.where(track.valid, gap, torch.inf).argmin())
    width = (points[rest, topo.INNER_MOUTH_CORNERS[1], :2] - points[rest, topo.INNER_MOUTH_CORNERS[0], :2]).norm()
    shows = torch.nonzero(track.valid & (gap > OPEN * width)).flatten()
    if not len(shows):
        return None
    chosen = shows[torch.linspace(0, len(shows) - 1, min(most, len(shows))).long()].tolist()
    kept = {
        number: picture for number, picture in enumerate(read_pictures(film, FPS)) if number == rest or number in chosen
    }
    chosen = [number for number in chosen if number in kept]
    pictures = torch.stack([kept[number] for number in chosen])
    return MouthClip(film.stem, kept[rest], points[rest], pictures, points[chosen])
