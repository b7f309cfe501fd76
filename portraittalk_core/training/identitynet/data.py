"""Data set of people's pictures with ArcFace embeddings, for IdentityNet's fine-tuning.

Shapes: B pictures, N references of each, S side in pixels.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...checks import check_finite, check_shape
from ...errors import InputError, MissingDependency, OutputError
from ...face.identity.background import person_masks
from ...face.identity.embedding import FaceEmbedding
from ...media.files import is_hidden
from ...media.image import SUFFIXES, load_picture
from ...media.records import load_record, save_record
from ...progress import Progress
from ..data.order import example_at
from ..data.squares import fit_square

log = logging.getLogger(__name__)

EMBEDDING_SUFFIX = ".embedding.safetensors"  # behind the picture's name
MAX_REASONS = 3  # reasons in an error text


class Encoder(Protocol):
    """Interface of `face.identity.encoder.FaceEncoder`."""

    def encode(
        self, pictures: Sequence[Tensor], names: Sequence[str], *, masks: Sequence[Tensor] | None = None
    ) -> object:
        """Of pictures (H, W, 3) uint8 and masks (H, W), something whose `embedding` is a FaceEmbedding."""

    def close(self) -> None:
        """Free its networks."""


@dataclass(frozen=True)
class FacePicture:
    """One picture of a person."""

    person: str
    name: str  # for messages and for telling data apart
    read: Callable[[], Tensor]  # (3, H, W) in −1..1, H and W any
    # (512,) of ArcFace, L2-normalised, or (E,) of CLIP; None: learnt from, but never a reference
    face_embed: Tensor | None
    caption: str = ""

    def __post_init__(self) -> None:
        if self.face_embed is not None:
            check_finite(check_shape(self.face_embed, "E", f"the embedding of {self.name}"), self.name)


@dataclass(frozen=True)
class FaceBatch:
    """Batch of pictures, each with a face embedding of its person."""

    indices: tuple[int, ...]  # of the pictures, in the data
    pictures: Tensor  # (B, 3, S, S) in −1..1
    # (B, 512) of another picture of the same person, where there is one; (B, N, 512) of several
    face_embeds: Tensor
    captions: tuple[str, ...]


@dataclass(frozen=True)
class DataReport:
    """Report on a folder that was read."""

    people: int
    pictures: int  # that are used
    dropped: tuple[tuple[str, str], ...]  # name and reason


class FaceData:
    """Data set of people's pictures, from files or from memory.

    Args:
        pictures: all of them.

    Raises:
        InputError: none, or a person without a reference.
    """

    def __init__(self, pictures: Sequence[FacePicture]) -> None:
        if not pictures:
            raise InputError("there is no picture to learn from.")
        self.pictures = tuple(pictures)
        self._of: dict[str, list[int]] = {}
        for index, picture in enumerate(self.pictures):
            self._of.setdefault(picture.person, []).append(index)
        self._references = {
            person: [index for index in indices if self.pictures[index].face_embed is not None]
            for person, indices in self._of.items()
        }
        if nobody := [person for person, indices in self._references.items() if not indices]:
            raise InputError(f"no picture of {nobody[0]} has a face embedding.")

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def people(self) -> tuple[str, ...]:
        """Names, in order of appearance."""
        return tuple(self._of)

    def of(self, person: str) -> Sequence[int]:
        """Indices of a person's pictures."""
        return self._of[person]

    def references_of(self, person: str) -> Sequence[int]:
        """Indices of a person's pictures that have an embedding."""
        return self._references[person]

    def fingerprint(self) -> str:
        """Hash of names, captions and embeddings."""
        digest = hashlib.sha256()
        for picture in self.pictures:
            digest.update(f"{picture.person}/{picture.name}\n{picture.caption}\n".encode())
            if picture.face_embed is not None:
                digest.update(picture.face_embed.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def batch(self, number: int, size: int, seed: int, side_px: int, num_references: int = 1) -> FaceBatch:
        """The batch of a number, a function of its arguments alone.

        Every picture comes once before one comes again.

        Args:
            number: of the batch, from 0.
            size: pictures in it.
            seed: of the order and of which other pictures give the face.
            side_px: S.
            num_references: N, of every picture.
        """
        indices = [example_at(number * size + i, len(self), seed) for i in range(size)]
        draw = np.random.default_rng([seed, 1, number])
        references = [self._others(index, num_references, draw) for index in indices]
        return self.at(indices, side_px, references)

    def at(self, indices: Sequence[int], side_px: int, references: Sequence[Sequence[int]] | None = None) -> FaceBatch:
        """Batch of the pictures at `indices`, with the faces of `references`, N each, or with their own."""
        embeds = torch.stack(
            [
                torch.stack([self.pictures[index].face_embed.float() for index in row])
                for row in references or [[index] for index in indices]
            ]
        )
        return FaceBatch(
            tuple(indices),
            torch.stack([fit_square(self.pictures[index].read(), side_px) for index in indices]),
            embeds[:, 0] if embeds.shape[1] == 1 else embeds,
            tuple(self.pictures[index].caption for index in indices),
        )

    def _others(self, index: int, count: int, draw: np.random.Generator) -> list[int]:
        """References of a picture: other ones, each once where there are enough."""
        references = self._references[self.pictures[index].person]
        candidates = [other for other in references if other != index]
        if not candidates:  # the only one
            return [index] * count
        if count == 1:
            return [int(draw.choice(candidates))]
        return draw.choice(candidates, count, replace=len(candidates) < count).tolist()


def read_people(
    folder: Path,
    make_encoder: Callable[[], Encoder],
    on_progress: Progress | None = None,
    without_background: bool = False,
) -> tuple[FaceData, DataReport]:
    """Read the pictures of a folder with one sub-folder per person.

    A picture's embedding is in the record beside it, such as 1.jpg.embedding.safetensors; where there is none, it is
    computed and kept there. A caption is in the text file of the same name, such as 1.txt.

    Args:
        folder: with sub-folders.
        make_encoder: called when the first embedding has to be computed.
        on_progress: called with pictures done and pictures in all; may raise to stop.
        without_background: whether all but the person turns black before a face is described; such embeddings are in
            records of their own, such as 1.jpg.person.embedding.safetensors.

    Returns:
        What can be used, and what could not.

    Raises:
        InputError: no folder, or nothing in it can be used; the first reasons are told.
        MissingDependency: an embedding has to be computed, and that is not installed.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give one that has a folder of pictures for each person.")
    paths = [p for person in sorted(folder.iterdir()) if person.is_dir() for p in sorted(person.iterdir())]
    paths = [path for path in paths if path.suffix.lower() in SUFFIXES and not is_hidden(path)]
    if not paths:
        raise InputError(f"{folder} has no sub-folder with pictures ({', '.join(SUFFIXES)}); make one per person.")
    pictures, dropped = [], []
    with contextlib.ExitStack() as stack:

        def make() -> Encoder:
            encoder = make_encoder()
            stack.callback(encoder.close)
            return encoder

        faces = _Faces(make, without_background)
        for number, path in enumerate(paths):
            name = f"{path.parent.name}/{path.name}"
            try:
                face, caption = faces.of(path), _caption(path)
                pictures.append(FacePicture(path.parent.name, name, _Reader(path), face, caption))
            except MissingDependency:
                raise
            except InputError as error:
                dropped.append((name, str(error)))
                log.warning("%s is left out: %s", name, error)
            if on_progress:
                on_progress(number + 1, len(paths))
    if not pictures:
        reasons = "; ".join(reason for _, reason in dropped[:MAX_REASONS])
        raise InputError(f"none of the {len(paths)} pictures in {folder} can be used: {reasons}")
    data = FaceData(pictures)
    return data, DataReport(len(data.people), len(data), tuple(dropped))


@dataclass(frozen=True)
class _Reader:
    """Reads a picture on demand."""

    path: Path

    def __call__(self) -> Tensor:
        return load_picture(self.path).permute(2, 0, 1).float() / 127.5 - 1


class _Faces:
    """Face embeddings of pictures, from the records beside them, else computed and saved there."""

    def __init__(self, make_encoder: Callable[[], Encoder], without_background: bool = False) -> None:
        self._make, self._encoder, self._without_background = make_encoder, None, without_background

    def of(self, path: Path) -> Tensor:
        """(512,) of a picture that can be read and has a face."""
        suffix = f".person{EMBEDDING_SUFFIX}" if self._without_background else EMBEDDING_SUFFIX
        picture, record = load_picture(path), path.with_name(path.name + suffix)
        if record.exists():
            return load_record(FaceEmbedding, record).averaged()
        self._encoder = self._encoder or self._make()
        masks = person_masks([picture]) if self._without_background else None
        embedding = self._encoder.encode([picture], [path.name], masks=masks).embedding
        try:
            save_record(embedding, record)
        except OutputError as error:
            log.warning("the embedding of %s is not kept: %s", path.name, error)
        return embedding.averaged()


def _caption(path: Path) -> str:
    text = path.with_suffix(".txt")
    try:
        return text.read_text(encoding="utf-8").strip() if text.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the caption {text.name} cannot be read ({error}); write it as UTF-8 text.") from error
