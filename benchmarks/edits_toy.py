"""A drawn person with captioned attributes, for `benchmarks edits`: pictures, captions, clips, and their text tokens.

Who it is, are the colours of skin and shirt, which no caption tells; how wide the mouth is open, the landmarks tell.
Style, age, expression and background are words of the caption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from toy_faces import PatchCodec
from toy_puppet import UNIT, motion, track_of

from portraittalk_core.diffusion.latents import LATENT_SCALE
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.identity.embedding import FaceEmbedding
from portraittalk_core.training.data.options import POOL
from portraittalk_core.training.data.video_clips import VideoClip

SIDE = 64  # pixels
WORDS = {  # of a caption, one of each: what is there, and what an edit makes of it
    "style": ("photo", "painting"),
    "age": ("young", "old"),
    "expression": ("serious", "smiling"),
    "background": ("studio", "beach"),
}
TOKEN_WIDTH, FACE_WIDTH = 48, 512
FACE_NOISE = 0.5  # of each description of a face; its signal is of unit size a colour
HAIR = {"young": (-0.3, -0.7, -0.9), "old": (0.6, 0.6, 0.65)}
ROSY = (0.1, -0.7, -0.4)  # added to the skin where a smile raises the cheeks
STUDIO, SKY, SAND = (-0.2, 0.0, 0.2), (0.0, 0.4, 0.95), (0.85, 0.7, 0.2)
MOUTH = (0.55, 0.08, 0.6)  # half its width, half its height when shut, and how far it opens; a large one
STROKE = 0.45  # of a painting: brighter above, darker below, every eight pixels
_EDGE = 0.02  # over which a shape fades out


@dataclass(frozen=True)
class Colours:
    """Who a person is: colours (3,) in −1..1."""

    skin: Tensor
    shirt: Tensor


def new_person(seed: int) -> Colours:
    """A person of a seed."""
    draw = torch.Generator().manual_seed(seed + 20_000)
    skin = torch.tensor([0.5, 0.2, 0.0]) + 0.4 * (torch.rand(3, generator=draw) - 0.5)
    return Colours(skin, torch.rand(3, generator=draw) * 1.2 - 0.6)


def caption_of(words: Mapping[str, str]) -> str:
    """A caption, such as "photo of a young serious person, studio"."""
    return "{style} of a {age} {expression} person, {background}".format(**words)


def draw_person(move: Tensor, person: Colours, words: Mapping[str, str]) -> tuple[Tensor, Tensor]:
    """A picture (3, SIDE, SIDE) in −1..1 of a move (4,) of `toy_puppet.motion`, and the person's mask (SIDE, SIDE)."""
    line = (torch.arange(SIDE) + 0.5) / SIDE
    y, x = torch.meshgrid(line, line, indexing="ij")
    dx, dy = x - 0.5 - move[0], y - 0.45 - move[1]
    u = (move[2].cos() * dx + move[2].sin() * dy) / UNIT
    v = (move[2].cos() * dy - move[2].sin() * dx) / UNIT
    if words["background"] == "beach":
        picture = torch.lerp(*(torch.tensor(c)[:, None, None] for c in (SKY, SAND)), ((y - 0.45) * 8).sigmoid()[None])
    else:
        picture = torch.tensor(STUDIO)[:, None, None].expand(3, SIDE, SIDE)
    mask = torch.zeros(SIDE, SIDE)

    def paint(colour: Tensor, distance: Tensor, radius: float) -> None:
        nonlocal picture, mask
        cover = ((1 - distance) * radius * UNIT / _EDGE + 0.5).clamp(0, 1)
        picture, mask = torch.lerp(picture, colour[:, None, None].expand_as(picture), cover), torch.maximum(mask, cover)

    def ellipse(colour: Tensor, at: tuple[float, float], radii: tuple[float, float]) -> None:
        paint(colour, (((u - at[0]) / radii[0]) ** 2 + ((v - at[1]) / radii[1]) ** 2).sqrt(), min(radii))

    paint(person.shirt, (((x - 0.5 - 0.5 * move[0]) / 0.36) ** 2 + ((y - 1.05) / 0.3) ** 2).sqrt(), 0.3 / UNIT)
    opening = MOUTH[2] * float(move[3])
    ellipse(torch.tensor(HAIR[words["age"]]), (0.0, -0.2), (1.5, 1.7))
    ellipse(person.skin, (0.0, 0.35 + opening / 4), (1.0, 1.3 + opening / 4))
    for side in (-0.5, 0.5):
        ellipse(torch.tensor([-0.6, -0.2, 0.7]), (side, 0.0), (0.2, 0.13))
    if words["expression"] == "smiling":
        for side in (-0.65, 0.65):
            ellipse((person.skin + torch.tensor(ROSY)).clamp(-1, 1), (side, 0.5), (0.34, 0.34))
    middle = float(canonical_face()[[13, 14], 1].mean())
    ellipse(torch.tensor([0.4, -0.8, -0.7]), (0.0, middle + opening / 2), (MOUTH[0], MOUTH[1] + opening / 2))
    if words["style"] == "painting":
        above = (torch.arange(SIDE) % 8 < 4)[:, None].float() * 2 - 1
        picture = picture + STROKE * above
    return picture.clamp(-1, 1), mask


def random_words(draw: torch.Generator) -> dict[str, str]:
    """One word of each."""
    return {name: pair[int(torch.randint(2, (1,), generator=draw))] for name, pair in WORDS.items()}


def descriptions(person: Colours, seed: int, count: int) -> list[FaceEmbedding]:
    """Noisy descriptions of who it is, as a face encoder gives of several pictures: all of skin and shirt, no words."""
    axes = torch.randn(7, FACE_WIDTH, generator=torch.Generator().manual_seed(77))
    draw = torch.Generator().manual_seed(seed)
    signal = torch.cat([4 * (person.skin - torch.tensor([0.5, 0.2, 0.0])), 2 * person.shirt, torch.ones(1)]) @ axes
    return [FaceEmbedding((signal + FACE_NOISE * torch.randn(FACE_WIDTH, generator=draw))[None]) for _ in range(count)]


def captioned_clip(seed: int, num_frames: int, caption_share: float = 0.9) -> VideoClip:
    """A clip of one person, with its caption, which some lack, and the person's faces by frame."""
    draw = torch.Generator().manual_seed(seed + 30_000)
    person, words, moves = new_person(seed), random_words(draw), motion(num_frames, seed)
    frames = torch.stack([draw_person(move, person, words)[0] for move in moves])
    caption = caption_of(words) if float(torch.rand(1, generator=draw)) < caption_share else ""
    faces = dict(enumerate(descriptions(person, seed, min(POOL, num_frames))))
    return VideoClip(f"person {seed}", lambda n: frames[n], track_of(moves, SIDE), 0, caption, references=faces)


class WordTexts:
    """Text tokens of captions: four, one for each attribute; of an empty caption, four that say nothing."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(5)
        self._nothing = torch.randn(len(WORDS), TOKEN_WIDTH, generator=draw)
        self._words = {word: torch.randn(TOKEN_WIDTH, generator=draw) for pair in WORDS.values() for word in pair}

    def to(self, device: torch.device, dtype: torch.dtype) -> WordTexts:
        """Nothing to move."""
        return self

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """(B, 4, 48) of captions."""
        rows = []
        for caption in captions:
            known = [self._words[word] for word in caption.replace(",", "").split() if word in self._words]
            rows.append(torch.stack(known) if len(known) == len(WORDS) else self._nothing)
        return torch.stack(rows)


class ToyVae(nn.Module):
    """The toy's codec in the form of SD1.5's VAE, so that the command line's painter can use it."""

    def __init__(self) -> None:
        super().__init__()
        self.codec, self.like = PatchCodec(), nn.Parameter(torch.zeros(1), requires_grad=False)

    def encode(self, pictures: Tensor) -> ToyVae:
        """Of pictures (B, 3, H, W) in −1..1; `latent_dist.mean` of what is returned."""
        self.mean = self.codec.encode(pictures) / LATENT_SCALE
        return self

    @property
    def latent_dist(self) -> ToyVae:
        """What holds the mean."""
        return self

    def decode(self, latents: Tensor) -> ToyVae:
        """Of latents (B, 4, h, w); `sample` of what is returned."""
        self.sample = self.codec.decode(latents * LATENT_SCALE)
        return self
