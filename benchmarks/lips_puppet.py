"""Drawn people for the benchmark of lip renderers: what each part of the network can know stands in no other place.

A person has skin with a pattern of its own, a shirt, lips, teeth and an inside of the mouth of their own colours, and a
mouth that is more or less wide and full. Landmarks tell where the mouth is and how far it is open; only references of
the face tell the pattern and the shirt; only the sound tells whether the teeth show: a high tone bares them and spreads
the lips, a low one does not. In some frames a glove covers the mouth. Where references of the face are of these frames,
only those of the lips tell the mouth's colours and size, and a network that lacks a part has to lose; where both are of
the same frames, lips tell nothing of their own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from toy_puppet import FPS, MOUTH_DROP, UNIT, motion, track_of

from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.training.data.video_clips import VideoClip
from portraittalk_core.types import SPEECH_RATE_HZ, Speech

SIDE = 96  # of the pictures, pixels
LOW_HZ, HIGH_HZ = 300.0, 2400.0  # of the tones
SYLLABLE = 6  # frames of one tone
EDGE = 0.012  # over which a shape fades out, of the side
HALF_WIDTHS, HALF_HEIGHTS = (0.3, 0.5), (0.08, 0.22)  # of closed mouths, in inter-ocular distances
SPREAD = 0.08  # by which bared teeth widen the mouth to each side, in such distances
THIN = 0.05  # half height in such distances, below which nothing is drawn
COVERED = 3  # syllables, of the second of which a glove covers the mouth
GLOVE, GLOVE_RADII = 0.5, (0.7, 0.52)  # its grey level, and how far it reaches to the sides and down, in such distances
REST = 0.2  # of the widest opening: a mouth that is not open so far shows nothing of its inside
INSIDE = 0.9  # half height of what shows, of the opening beyond that
STEP = 0.05  # by which an end is moved to tell a drawing's derivative, in inter-ocular distances


@dataclass(frozen=True)
class Person:
    """How somebody looks; colours are in 0..1."""

    skin: Tensor
    lips: Tensor
    teeth: Tensor
    inside: Tensor  # of the mouth
    shirt: Tensor
    half_size: tuple[float, float]  # across and down, of the closed mouth in inter-ocular distances
    waves: Tensor = field(repr=False)  # (3, 4) of the skin's pattern: two rates, a phase, a strength

    @staticmethod
    def of(seed: int) -> Person:
        """A person of a number."""
        draw = torch.Generator().manual_seed(seed + 500)

        def colour(low: tuple[float, ...], high: tuple[float, ...]) -> Tensor:
            return torch.tensor(low) + (torch.tensor(high) - torch.tensor(low)) * torch.rand(3, generator=draw)

        def share(low: float, high: float) -> float:
            return low + (high - low) * float(torch.rand((), generator=draw))

        waves = torch.rand(3, 4, generator=draw) * torch.tensor([8.0, 8.0, 2 * math.pi, 0.06])
        waves += torch.tensor([3.0, 3.0, 0.0, 0.03])
        return Person(
            colour((0.6, 0.45, 0.35), (0.95, 0.8, 0.7)),
            colour((0.0, 0.0, 0.0), (0.45, 0.6, 0.9)),
            colour((0.75, 0.7, 0.55), (1.0, 1.0, 0.95)),
            colour((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
            colour((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
            (share(*HALF_WIDTHS), share(*HALF_HEIGHTS)),
            waves,
        )


@dataclass(frozen=True)
class Acting:
    """What is drawn of a person."""

    person: Person
    moves: Tensor  # (T, 4) of `toy_puppet.motion`
    bared: Tensor  # (T,) bool: whether the teeth show
    covered: Tensor | None = None  # (T,) bool: whether a glove covers the mouth; None: never


def draw_person(
    person: Person,
    move: Tensor,
    bared: float,
    size: int = SIDE,
    ends: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    covered: bool = False,
    spread: float | None = None,
) -> Tensor:
    """A frame (3, size, size) in 0..1.

    Args:
        person: who.
        move: (4,) of `toy_puppet.motion`.
        bared: 1 where the teeth show, 0 where they do not.
        size: pixels a side.
        ends: how far the mouth's left and right end lie to the right, and its highest and lowest below, of where they
            belong; in inter-ocular distances, along the head's own axes.
        covered: whether a glove covers the mouth.
        spread: 1 where the lips are spread, 0 where they are not; None: as the teeth are bared.
    """
    line = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(line, line, indexing="ij")
    dx, dy = x - 0.5 - move[0], y - 0.45 - move[1]
    u = (move[2].cos() * dx + move[2].sin() * dy) / UNIT
    v = (move[2].cos() * dy - move[2].sin() * dx) / UNIT
    picture = torch.tensor([0.4, 0.5, 0.6])[:, None, None].expand(3, size, size)

    def ellipse(colour: Tensor, across: Tensor, down: Tensor, radii: tuple[float, float]) -> None:
        nonlocal picture
        distance = ((across / radii[0]) ** 2 + (down / radii[1]) ** 2).sqrt()
        cover = ((1 - distance) * min(radii) * UNIT / EDGE + 0.5).clamp(0, 1)
        picture = torch.lerp(picture, colour if colour.ndim == 3 else colour[:, None, None].expand_as(picture), cover)

    rate_u, rate_v, phase, strength = (part[:, None, None] for part in person.waves.unbind(1))
    pattern = strength * (rate_u * u + rate_v * v + phase).sin()
    opening = MOUTH_DROP * float(move[3])
    left, right, top, bottom = ends
    across = u - (left + right) / 2
    down = v - float(canonical_face()[[13, 14], 1].mean()) - (opening + top + bottom) / 2
    half_width, half_height = person.half_size
    half_width += SPREAD * (bared if spread is None else spread)
    wide, tall = half_width + (right - left) / 2, half_height + (opening + bottom - top) / 2
    ellipse(person.shirt, (x - 0.5 - 0.5 * move[0]) / UNIT, (y - 1.05) / UNIT, (0.36 / UNIT, 0.4 / UNIT))
    skin = person.skin[:, None, None] + pattern
    ellipse(skin, u, v - 0.35 - opening / 4, (1.0, 1.3 + opening / 4))
    for side in (-0.5, 0.5):
        ellipse(torch.tensor([0.2, 0.4, 0.85]), u - side, v, (0.2, 0.13))
    ellipse(person.lips, across, down, (wide, tall))
    shown = INSIDE * MOUTH_DROP * (float(move[3]) - REST) * tall / (half_height + opening / 2)
    if shown > THIN:
        ellipse(person.inside, across, down, (0.8 * wide, shown))
        if bared and 0.75 * shown > THIN:
            ellipse(person.teeth, across, down - 0.2 * shown, (0.7 * wide, 0.75 * shown))
    if covered:
        ellipse(torch.full((3,), GLOVE), across, down, GLOVE_RADII)
    return picture.clamp(0, 1)


def person_clip(seed: int, num_frames: int, gloved: bool = False) -> tuple[VideoClip, Speech, Acting]:
    """A clip of a person of their own, what they say, and what was drawn.

    Args:
        seed: of the person, the motion and the sound.
        num_frames: of the clip.
        gloved: whether a glove covers the mouth now and then.
    """
    person, moves = Person.of(seed), motion(num_frames, seed)
    draw = torch.Generator().manual_seed(seed + 900)
    high = (torch.rand(num_frames // SYLLABLE + 1, generator=draw) < 0.5).repeat_interleave(SYLLABLE)[:num_frames]
    covered = (torch.arange(num_frames) // SYLLABLE % COVERED == 1) & gloved
    drawn = zip(moves, high, covered, strict=True)
    frames = torch.stack([draw_person(person, move, float(at), covered=bool(hidden)) for move, at, hidden in drawn])
    samples = SPEECH_RATE_HZ // int(FPS)
    pitch = torch.where(high, HIGH_HZ, LOW_HZ).repeat_interleave(samples)
    loudness = (0.1 + 0.5 * moves[:, 3]).repeat_interleave(samples)
    wave = loudness * torch.sin(2 * math.pi * torch.cumsum(pitch.double() / SPEECH_RATE_HZ, 0)).float()
    video = VideoClip(f"person {seed}", lambda number: frames[number] * 2 - 1, track_of(moves, SIDE))
    return video, Speech(wave, video.name), Acting(person, moves, high, covered)


def mouth_ruler(acting: Acting, frame: int, crop: Callable[[Tensor], Tensor], mask: Tensor) -> Tensor:
    """(4, 3 · S · S) what tells of a crop's difference to the true one how far the mouth's ends are off.

    The answer is in inter-ocular distances, as `draw_person` takes it: the least squares of the true drawing's
    derivatives (one step of Lucas and Kanade's registration). Other colours of lips and teeth shift nothing.

    Args:
        acting: what is drawn.
        frame: of it.
        crop: from a frame (3, SIDE, SIDE) in 0..1 to its face crop (3, S, S).
        mask: (S, S) 1 around the mouth.
    """
    person, move, bared = acting.person, acting.moves[frame], float(acting.bared[frame])

    def drawn(end: int = 0, by: float = 0.0, who: Person = person, teeth: float = bared) -> Tensor:
        ends = [by if at == end else 0.0 for at in range(4)]
        return (crop(draw_person(who, move, teeth, ends=ends, spread=bared)) * mask).flatten()

    shifted = [(drawn(end, STEP) - drawn(end, -STEP)) / (2 * STEP) for end in range(4)]
    pale = dataclasses.replace(person, lips=torch.lerp(person.lips, person.skin, 0.5))
    empty = dataclasses.replace(person, inside=torch.lerp(person.inside, person.lips, 0.5))
    colours = [drawn(who=pale) - drawn(), drawn(teeth=1.0) - drawn(teeth=0.0), drawn(who=empty) - drawn()]
    return torch.linalg.pinv(torch.stack([*shifted, *colours], 1).double())[:4].float()
