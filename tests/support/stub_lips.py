"""Stand-ins for lip models, whose pictures are known, and puppets' films to paint on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import toy_puppet
from torch import Tensor

from portraittalk_core.face.lip_points import LIP_POINTS
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.renderers.contract import Film
from portraittalk_core.renderers.lip.contract import MEL, LipBatch, LipCropRule, References
from portraittalk_core.types import LandmarkTrack

SHIRT = torch.tensor([0.2, -0.3, 0.1])
SIDE = 144


@dataclass
class StubLips:
    """A lip model that paints what `painting` makes of a batch, and keeps what it was given."""

    painting: Callable[[LipBatch], Tensor] = lambda batch: batch.pictures
    name: str = "lips"
    crop: LipCropRule = LipCropRule(LIP_POINTS, 6, False, 48)
    sound: str = MEL
    needs_sketches: bool = True
    needs_references: bool = True
    usual: tuple[int, int] = (25, 5)
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32
    batches: list[LipBatch] = field(default_factory=list)
    references: list[References] = field(default_factory=list)

    def encode(self, references: References) -> str:
        self.references.append(references)
        return "features"

    def with_share(self, features: str, share: float) -> None:  # noqa: ARG002 - as the contract has it
        return None

    def paint(self, features: str, batch: LipBatch) -> Tensor:
        assert features == ("features" if self.needs_references else None)
        self.batches.append(batch)
        return self.painting(batch)


def flat(colour: tuple[float, float, float]) -> Callable[[LipBatch], Tensor]:
    """A painting of one colour 0..1."""
    return lambda batch: torch.tensor(colour)[:, None, None].expand(len(batch.pictures), 3, *batch.pictures.shape[2:])


def puppet_moves(num_frames: int, seed: int = 3) -> Tensor:
    """(T, 4) moves of a calm puppet."""
    return toy_puppet.motion(num_frames, seed) * torch.tensor([0.3, 0.3, 0.3, 1.0])


def puppet_film(path: Path, moves: Tensor, size: int = SIDE, **more: object) -> Film:
    """A film of a puppet with exact landmarks, nearly without loss.

    Args:
        path: to be written.
        moves: (T, 4).
        size: side of its pictures.
        more: of `Film`; `valid` is the track's.
    """
    track = toy_puppet.track_of(moves, size)
    valid = more.pop("valid", None)
    with VideoWriter(path, size, size, track.fps, crf=1) as writer:
        for move in moves:
            writer.write(puppet_picture(move, size))
    return Film(path, track if valid is None else replace(track, valid=valid), **more)


def puppet_picture(move: Tensor, size: int = SIDE) -> Tensor:
    """(H, W, 3) uint8."""
    return ((toy_puppet.draw_puppet(move, SHIRT, size) + 1) * 127.5).round().byte().permute(1, 2, 0)


def spoken(film: Film, opening: float = 0.8) -> LandmarkTrack:
    """The film's landmarks with another mouth, of the same head."""
    points = film.track.points.clone()
    lower = toy_puppet._LOWER  # noqa: SLF001 - the puppet's own lip
    points[:, lower, 1] += opening * toy_puppet.UNIT * toy_puppet.MOUTH_DROP * 0.5
    return replace(film.track, points=points)
