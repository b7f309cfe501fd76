"""Who a generated face is: compared with a portrait, or the target's face, while the pictures pass by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError, NoFaceError
from ..media.image import load_picture
from ..metrics.registry import FACE_ENCODER, METRICS, PORTRAIT, TARGET
from .result import curve

FACES_PER_S = 1  # pictures a second whose face is compared
Measured = tuple[dict[str, float], dict[str, str]]


@dataclass(frozen=True)
class Likeness:
    """What compares faces with a portrait, or why nothing does."""

    describe: Callable[[Tensor], Tensor] | None = None  # (H, W, 3) uint8 → (512,); raises NoFaceError
    portrait: Tensor | None = None  # (512,)

    @property
    def missing(self) -> str:
        """Why the likeness to the portrait cannot be measured; empty if it can."""
        return METRICS["identity"].missing(self._there | ({PORTRAIT} if self.portrait is not None else set()))

    @property
    def missing_to_target(self) -> str:
        """Why the likeness to the target cannot be measured; empty if it can."""
        return METRICS["identity_to_target"].missing(self._there | {TARGET})

    @property
    def _there(self) -> set[str]:
        return {FACE_ENCODER} if self.describe is not None else set()


class _Faces:
    """Cosines of some frames of a video, by the frames' numbers.

    Args:
        fps: pictures per second.
    """

    def __init__(self, fps: float) -> None:
        self.every = max(1, round(fps / FACES_PER_S))
        self.found: dict[int, float] = {}

    def result(self, name: str, unseen: str) -> Measured:
        """The mean, or why there is none."""
        if not self.found:
            return {}, {name: f"the face encoder found no face in any {unseen} it looked at"}
        return {name: sum(self.found.values()) / len(self.found)}, {}

    def curve(self, count: int) -> list[float | None]:
        """One value a frame, each held until the next; empty if nothing was measured."""
        if not self.found:
            return []
        values = torch.full((count,), math.nan, dtype=torch.float64)
        for number, value in self.found.items():
            values[number : number + self.every] = value
        return curve(values)


class IdentityWatch:
    """Compares a face a second with the portrait's while the pictures pass by.

    Args:
        likeness: what compares.
        fps: pictures per second.
    """

    def __init__(self, likeness: Likeness, fps: float) -> None:
        self._likeness, self._faces, self._seen = likeness, _Faces(fps), 0

    def over(self, pictures: Iterable[Tensor]) -> Iterator[Tensor]:
        """The pictures themselves."""
        for number, picture in enumerate(pictures):
            self._seen = number + 1
            if not self._likeness.missing and number % self._faces.every == 0:
                self._compare(number, picture)
            yield picture

    def _compare(self, number: int, picture: Tensor) -> None:
        try:
            found = self._likeness.describe(picture)
        except NoFaceError:
            return
        self._faces.found[number] = _cosine(found, self._likeness.portrait)

    def result(self) -> Measured:
        """The value, or why there is none."""
        if self._likeness.missing:
            return {}, {"identity": self._likeness.missing}
        return self._faces.result("identity", "picture")

    def curve(self) -> list[float | None]:
        """One value a frame, each held until the next; empty if nothing was measured."""
        return self._faces.curve(self._seen)


class TargetWatch:
    """Compares a face a second with the one in the target's frame of the same time.

    Args:
        likeness: what compares.
        fps: pairs per second.
    """

    def __init__(self, likeness: Likeness, fps: float) -> None:
        self._likeness, self._faces, self._seen = likeness, _Faces(fps), 0

    def update(self, generated: Tensor, target: Tensor) -> None:
        """Look at the next pair of pictures, each (H, W, 3) uint8, if it is its turn."""
        number, self._seen = self._seen, self._seen + 1
        if self._likeness.missing_to_target or number % self._faces.every:
            return
        try:
            made, true = (self._likeness.describe(picture) for picture in (generated, target))
        except NoFaceError:
            return
        self._faces.found[number] = _cosine(made, true)

    def result(self) -> Measured:
        """The value, or why there is none."""
        if self._likeness.missing_to_target:
            return {}, {"identity_to_target": self._likeness.missing_to_target}
        return self._faces.result("identity_to_target", "pair of pictures")

    def curve(self) -> list[float | None]:
        """One value a frame, each held until the next; empty if nothing was measured."""
        return self._faces.curve(self._seen)


def _cosine(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    return float(a @ b / (a.norm() * b.norm()).clamp(min=1e-12))


def likeness_without_portrait(encoder: object) -> Likeness:
    """A likeness that compares with targets only.

    Args:
        encoder: an open `FaceEncoder`.
    """

    def describe(picture: Tensor) -> Tensor:
        return encoder.encode([picture], ["a frame"]).embedding.face_embeds[0]

    return Likeness(describe)


def open_likeness(encoder: object, portrait: Tensor, name: str) -> Likeness:
    """A likeness to the largest face of a portrait.

    Args:
        encoder: an open `FaceEncoder`.
        portrait: (H, W, 3) uint8.
        name: of the portrait, for messages.

    Raises:
        InputError: it shows no face.
    """
    try:
        owner = encoder.encode([portrait], [name]).embedding.face_embeds[0]
    except NoFaceError as error:
        raise InputError(f"the portrait {name} cannot be compared with: {error}") from error
    return replace(likeness_without_portrait(encoder), portrait=owner)


def likeness_to(encoder: object, portrait: Path | None) -> Likeness:
    """A likeness to the largest face of a portrait's file, if there is one.

    Raises:
        InputError: the file is no picture, or shows no face.
    """
    if portrait is None:
        return likeness_without_portrait(encoder)
    return open_likeness(encoder, load_picture(portrait), portrait.name)
