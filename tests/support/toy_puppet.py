"""A rendered toy head that moves and speaks, with exact landmarks, and a face-mesh stub that detects blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.media.image import save_picture
from portraittalk_core.media.records import save_record
from portraittalk_core.training.data.video_clips import FRAMES, MARKER, SPEECH, TRACK, VideoClip
from portraittalk_core.types import LandmarkTrack

FPS = Fraction(25)
PREPARED_FRAMES = 30
UNIT = 0.17  # inter-ocular distance over the picture's side
MOUTH_DROP = 0.35  # of the lower lip when the mouth is wide open, in inter-ocular distances
_LOWER = sorted({i for ring in topo.LOWER_LIP_RINGS for i in ring[1:-1]})
_CHIN = [i for i in topo.FACE_OVAL if float(canonical_face()[i, 1]) > 1.0]
_EDGE = 0.02  # over which a shape fades out


def motion(num_frames: int, seed: int) -> Tensor:
    """(T, 4) of a clip: head's x and y from the middle (of the side), roll (radians), mouth 0..1; smooth."""
    draw = torch.Generator().manual_seed(seed)
    time = torch.arange(num_frames)[:, None] / float(FPS)
    rates = 2 * math.pi * (torch.tensor([0.5, 0.4, 0.3, 2.0]) + torch.rand(4, generator=draw))
    waves = (rates * time + 2 * math.pi * torch.rand(4, generator=draw)).sin()
    reach = torch.tensor([0.13, 0.07, 0.15, 0.5])
    return waves * reach + torch.tensor([0.0, 0.0, 0.0, 0.5])


def landmarks(moves: Tensor) -> Tensor:
    """(T, 478, 3) normalised landmarks of moves (T, 4)."""
    face = canonical_face()[None].repeat(len(moves), 1, 1)
    face[:, _LOWER, 1] += MOUTH_DROP * moves[:, 3:]
    face[:, _CHIN, 1] += 0.5 * MOUTH_DROP * moves[:, 3:]
    sin, cos = moves[:, 2:3].sin(), moves[:, 2:3].cos()
    x = cos * face[..., 0] - sin * face[..., 1]
    y = sin * face[..., 0] + cos * face[..., 1]
    return torch.stack([0.5 + moves[:, :1] + UNIT * x, 0.45 + moves[:, 1:2] + UNIT * y, UNIT * face[..., 2]], 2)


def track_of(moves: Tensor, size: int = 64) -> LandmarkTrack:
    """The landmarks as a track on square pictures."""
    return LandmarkTrack(landmarks(moves), torch.ones(len(moves), dtype=torch.bool), FPS, size, size)


def draw_puppet(move: Tensor, shirt: Tensor, size: int = 64) -> Tensor:
    """A frame (3, size, size) in −1..1 of a move (4,) and a shirt's colour (3,) in −1..1."""
    line = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(line, line, indexing="ij")
    dx, dy = x - 0.5 - move[0], y - 0.45 - move[1]
    u = (move[2].cos() * dx + move[2].sin() * dy) / UNIT
    v = (move[2].cos() * dy - move[2].sin() * dx) / UNIT
    picture = torch.tensor([-0.2, 0.0, 0.2])[:, None, None].expand(3, size, size)

    def paint(colour: Tensor, distance: Tensor, radius: float) -> None:
        nonlocal picture
        cover = ((1 - distance) * radius * UNIT / _EDGE + 0.5).clamp(0, 1)
        picture = torch.lerp(picture, colour[:, None, None].expand_as(picture), cover)

    def ellipse(colour: tuple[float, ...], at: tuple[float, float], radii: tuple[float, float]) -> None:
        distance = (((u - at[0]) / radii[0]) ** 2 + ((v - at[1]) / radii[1]) ** 2).sqrt()
        paint(torch.tensor(colour), distance, min(radii))

    body = (((x - 0.5 - 0.5 * move[0]) / 0.36) ** 2 + ((y - 1.05) / 0.3) ** 2).sqrt()
    paint(shirt, body, 0.3 / UNIT)
    opening = MOUTH_DROP * float(move[3])
    ellipse((-0.8, -0.7, -0.6), (0.0, -0.1), (1.25, 1.45))
    ellipse((0.8, 0.5, 0.3), (0.0, 0.35 + opening / 4), (1.0, 1.3 + opening / 4))
    for side in (-0.5, 0.5):
        ellipse((-0.6, -0.2, 0.7), (side, 0.0), (0.2, 0.13))
    middle = float(canonical_face()[[13, 14], 1].mean())
    ellipse((0.4, -0.8, -0.7), (0.0, middle + opening / 2), (0.4, 0.1 + opening / 2))
    return picture


def puppet_clip(seed: int, num_frames: int = 24, size: int = 64) -> VideoClip:
    """A clip of the puppet in a shirt of a colour of its own."""
    moves = motion(num_frames, seed)
    shirt = torch.rand(3, generator=torch.Generator().manual_seed(seed + 10_000)) * 1.2 - 0.6
    frames = torch.stack([draw_puppet(move, shirt, size) for move in moves])
    calm = int((moves[:, :3].abs().sum(1) + moves[:, 3]).argmin())
    return VideoClip(f"puppet {seed}", lambda number: frames[number], track_of(moves, size), calm)


def write_prepared(folder: Path, names: Sequence[str], waveforms: Mapping[str, Tensor] | None = None) -> Path:
    """A folder of puppets' videos, 30 frames each, as `portraittalk prepare` makes it; gives the folder.

    Args:
        folder: to be made.
        names: of the videos.
        waveforms: (N,) at 16 kHz by name, of those that have sound.
    """
    for seed, name in enumerate(names):
        clip, place = puppet_clip(seed, PREPARED_FRAMES, 128), folder / name
        (place / FRAMES).mkdir(parents=True)
        for number in range(PREPARED_FRAMES):
            picture = ((clip.read(number) + 1) * 127.5).round().byte().permute(1, 2, 0)
            save_picture(picture, place / FRAMES / f"{number:06d}.png")
        save_record(clip.track, place / TRACK)
        (place / MARKER).write_text('{"dropped": "", "reference": 1}')
        if waveforms and name in waveforms:
            save_file({"waveform": waveforms[name]}, place / SPEECH)
    return folder


class BlockMesh:
    """Face-mesh stub that detects a red and a blue block as faces; at module level, so that it can be pickled."""

    name = "blocks"

    def detect(self, picture: Tensor) -> Tensor:
        """(F, 478, 3) of the blocks in a picture (H, W, 3) uint8."""
        height, width = picture.shape[:2]
        faces = []
        for channel in (0, 2):
            other_channels = [c for c in range(3) if c != channel]
            block = (picture[..., channel] > 140) & (picture[..., other_channels] < 100).all(2)
            rows, columns = block.nonzero().unbind(1)
            if len(rows) < 40:
                continue
            low = torch.tensor([float(columns.min()), float(rows.min())])
            extent = torch.tensor([float(columns.max()), float(rows.max())]) + 1 - low
            face = canonical_face()
            face_min, face_max = face[:, :2].amin(0), face[:, :2].amax(0)
            points = (face[:, :2] - face_min) / (face_max - face_min) * extent + low
            faces.append(torch.cat([points, face[:, 2:] * extent[0] / 2], 1) / torch.tensor([width, height, width]))
        return torch.stack(faces) if faces else torch.zeros(0, 478, 3)

    def close(self) -> None:
        """Nothing to free."""

    def __enter__(self) -> BlockMesh:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class DyingMesh(BlockMesh):
    """BlockMesh that ends its process at a picture that is all green."""

    def detect(self, picture: Tensor) -> Tensor:
        """As BlockMesh, if it lives."""
        import os

        if bool((picture[..., 1] > 200).all()):
            os._exit(9)
        return super().detect(picture)
