"""Who a generated face is: compared with a portrait while the pictures of a video pass by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, NoFaceError
from ..metrics.registry import FACE_ENCODER, PORTRAIT
from .score_row import curve

FACES_PER_S = 1  # pictures a second whose face is compared with the portrait's


@dataclass(frozen=True)
class Likeness:
    """What compares faces with a portrait, or why nothing does."""

    describe: Callable[[Tensor], Tensor] | None = None  # (H, W, 3) uint8 → (512,); raises NoFaceError
    portrait: Tensor | None = None  # (512,)

    @property
    def missing(self) -> str:
        """Why the identity cannot be measured; empty if it can."""
        lacks = [PORTRAIT] * (self.portrait is None) + [FACE_ENCODER] * (self.describe is None)
        return f"not available: needs {' and '.join(lacks)}" if lacks else ""


class IdentityWatch:
    """Compares a face a second with the portrait's while the pictures pass by.

    Args:
        likeness: what compares.
        fps: pictures per second.
    """

    def __init__(self, likeness: Likeness, fps: float) -> None:
        self._likeness, self._every = likeness, max(1, round(fps / FACES_PER_S))
        self._found: dict[int, float] = {}
        self._seen = 0

    def over(self, pictures: Iterable[Tensor]) -> Iterator[Tensor]:
        """The pictures themselves."""
        for number, picture in enumerate(pictures):
            self._seen = number + 1
            if not self._likeness.missing and number % self._every == 0:
                self._compare(number, picture)
            yield picture

    def _compare(self, number: int, picture: Tensor) -> None:
        try:
            found = self._likeness.describe(picture).double()
        except NoFaceError:
            return
        portrait = self._likeness.portrait.double()
        self._found[number] = float(found @ portrait / (found.norm() * portrait.norm()).clamp(min=1e-12))

    def result(self) -> tuple[dict[str, float], dict[str, str]]:
        """The value, or why there is none."""
        if self._likeness.missing:
            return {}, {"identity": self._likeness.missing}
        if not self._found:
            return {}, {"identity": "the face encoder found no face in any picture it looked at"}
        return {"identity": sum(self._found.values()) / len(self._found)}, {}

    def curve(self) -> list[float | None]:
        """One value a frame, each held until the next; empty if nothing was measured."""
        if not self._found:
            return []
        values = torch.full((self._seen,), math.nan, dtype=torch.float64)
        for number, value in self._found.items():
            values[number : number + self._every] = value
        return curve(values)


def open_likeness(encoder: object, portrait: Tensor, name: str) -> Likeness:
    """A likeness to the largest face of a portrait.

    Args:
        encoder: an open `FaceEncoder`.
        portrait: (H, W, 3) uint8.
        name: of the portrait, for messages.

    Raises:
        InputError: it shows no face.
    """

    def describe(picture: Tensor) -> Tensor:
        return encoder.encode([picture], ["a frame"]).embedding.face_embeds[0]

    try:
        return Likeness(describe, encoder.encode([portrait], [name]).embedding.face_embeds[0])
    except NoFaceError as error:
        raise InputError(f"the portrait {name} cannot be compared with: {error}") from error
