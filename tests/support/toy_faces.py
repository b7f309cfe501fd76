"""Toy identities: two people with simple rendered faces in random poses, and distinct embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from portraittalk_core.diffusion.schedule import schedule_sigmas
from portraittalk_core.face.identity.embedding import FaceEmbedding
from portraittalk_core.losses.masked_reconstruction import hide, masked_reconstruction_loss, random_patch_mask
from portraittalk_core.media.records import save_record
from portraittalk_core.training.identitynet.data import FaceData, FacePicture


@dataclass(frozen=True)
class Person:
    """Appearance of an identity; colours in −1..1, lengths in half picture sides."""

    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    eyes: tuple[float, float, float]
    width: float
    height: float
    eye_gap: float


ANNA = Person((0.9, 0.65, 0.45), (-0.8, -0.85, -0.9), (-0.7, 0.1, 0.8), 0.52, 0.68, 0.20)
BRUNO = Person((-0.4, -0.65, -0.8), (0.9, 0.75, -0.3), (0.1, 0.6, -0.6), 0.62, 0.60, 0.26)
PEOPLE = (ANNA, BRUNO)
_EDGE = 0.04  # over which a shape fades out


def draw_face(person: Person, generator: torch.Generator, size: int = 64) -> Tensor:
    """A picture (3, size, size) in −1..1: place, tilt, size, expression and background are random."""
    place = torch.rand(2, generator=generator) * 0.12 - 0.06
    roll, scale, mouth = (float(v) for v in torch.rand(3, generator=generator))
    roll, scale = (roll - 0.5) * 0.3, 0.95 + 0.1 * scale
    ground = torch.rand(2, 3, generator=generator) * 0.6 - 0.3
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    picture = torch.lerp(ground[0][:, None, None], ground[1][:, None, None], ((x + 1) / 2).expand(3, -1, -1))
    angle = torch.tensor(roll)
    u = ((x - place[0]) * angle.cos() + (y - place[1]) * angle.sin()) / scale
    v = ((y - place[1]) * angle.cos() - (x - place[0]) * angle.sin()) / scale

    def paint(colour: tuple[float, ...], at: tuple[float, float], radii: tuple[float, float]) -> None:
        nonlocal picture
        distance = (((u - at[0]) / radii[0]) ** 2 + ((v - at[1]) / radii[1]) ** 2).sqrt()
        cover = ((1 - distance) * min(radii) / _EDGE + 0.5).clamp(0, 1)
        picture = torch.lerp(picture, torch.tensor(colour)[:, None, None].expand_as(picture), cover)

    paint(person.hair, (0.0, -0.12), (person.width + 0.14, person.height + 0.1))
    paint(person.skin, (0.0, 0.08), (person.width, person.height))
    for side in (-1, 1):
        paint((0.9, 0.9, 0.9), (side * person.eye_gap, 0.0), (0.11, 0.07))
        paint(person.eyes, (side * person.eye_gap, 0.0), (0.06, 0.06))
    paint((0.5, -0.5, -0.4), (0.0, 0.38), (0.16, 0.03 + 0.07 * mouth))
    return picture


def draw_embedding(person: Person, generator: torch.Generator) -> Tensor:
    """(512,) of length 1: the person's own direction and a little noise, about 0.96 alike between two pictures."""
    direction = torch.randn(512, generator=torch.Generator().manual_seed(PEOPLE.index(person) + 1))
    noisy = direction / direction.norm() + 0.2 * torch.randn(512, generator=generator) / 512**0.5
    return noisy / noisy.norm()


class PatchCodec:
    """Latents (B, 4, h, w) of pictures (B, 3, 8h, 8w) by a fixed linear map of every 8×8 patch.

    Three latent channels are the patch's mean colour, the fourth its brightness above minus below; all about unit size.
    """

    def __init__(self) -> None:
        patch = torch.zeros(4, 3, 8, 8)
        for channel in range(3):
            patch[channel, channel] = 1 / 64
        patch[3, :, :4], patch[3, :, 4:] = 1 / 192, -1 / 192
        self._patch, self._scale = patch, torch.tensor([2.2, 2.4, 2.2, 5.0]).view(1, 4, 1, 1)

    def to(self, device: torch.device, dtype: torch.dtype) -> PatchCodec:
        """Nothing to move: it works in float32 wherever the pictures are."""
        return self

    def encode(self, pictures: Tensor) -> Tensor:
        """Latents of pictures in −1..1."""
        return torch.nn.functional.conv2d(pictures.float(), self._patch, stride=8) * self._scale

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents, as well as four numbers a patch can tell."""
        shapes = torch.cat([64 * self._patch[:3], 192 * self._patch[3:]])
        return torch.nn.functional.conv_transpose2d(latents / self._scale, shapes, stride=8)


class FixedTexts:
    """Four text tokens, the same for every caption."""

    def __init__(self) -> None:
        self._tokens = torch.randn(1, 4, 48, generator=torch.Generator().manual_seed(3))

    def to(self, device: torch.device, dtype: torch.dtype) -> FixedTexts:
        """Nothing to move."""
        return self

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """(B, 4, 48) of any captions."""
        return self._tokens.expand(len(captions), -1, -1)


def toy_data(seed: int, count: int, people: Sequence[Person] = PEOPLE) -> FaceData:
    """`count` pictures of each person, with embeddings; another seed shares neither pictures nor noise."""
    draw = torch.Generator().manual_seed(seed)
    pictures = []
    for person in people:
        for number in range(count):
            picture = draw_face(person, draw)
            name = ("anna", "bruno")[PEOPLE.index(person)]
            pictures.append(
                FacePicture(name, f"{seed}-{number}", lambda drawing=picture: drawing, draw_embedding(person, draw))
            )
    return FaceData(pictures)


def pretrain(unet: torch.nn.Module, steps: int, mask_ratio: tuple[float, float], rate: float = 2e-3) -> None:
    """Train a UNet to restore both people's masked pictures without identity conditioning."""
    data, codec, text = toy_data(1, 128), PatchCodec(), FixedTexts()
    pictures = torch.stack([sample.read() for sample in data.pictures])
    alpha_bars, (low, high) = (1 / (1 + schedule_sigmas() ** 2)).float(), mask_ratio
    draw = torch.Generator().manual_seed(2)
    unet.requires_grad_(True)
    optimizer = torch.optim.AdamW(unet.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    for _ in range(steps):
        batch = pictures[torch.randint(len(pictures), (8,), generator=draw)]
        ratios = (low + (high - low) * torch.rand(8, generator=draw)).tolist()
        masked = codec.encode(hide(batch, torch.stack([random_patch_mask(64, 64, 16, r, draw) for r in ratios])))
        noise, timesteps = torch.randn(masked.shape, generator=draw), torch.randint(1000, (8,), generator=draw)
        loss = masked_reconstruction_loss(
            lambda x, t=timesteps: unet(x, t, text.tokens([""] * 8)).sample,
            codec.encode(batch),
            masked,
            noise,
            alpha_bars[timesteps],
            snr_limit=5.0,
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    unet.eval().requires_grad_(False)


def write_people(folder: Path, records: bool = True, captions: bool = False) -> Path:
    """A folder of two people with two pictures each, as identity training wants it."""
    draw = torch.Generator().manual_seed(4)
    for name, person in zip(("anna", "bruno"), PEOPLE, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            picture = ((draw_face(person, draw, 128) + 1) * 127.5).byte().permute(1, 2, 0).numpy()
            path = folder / name / f"{number}.png"
            Image.fromarray(picture).save(path)
            if captions:
                path.with_suffix(".txt").write_text(f"a photo of {name}\n")
            if records:
                record = FaceEmbedding(draw_embedding(person, draw)[None])
                save_record(record, folder / name / f"{number}.png.embedding.safetensors")
    return folder
