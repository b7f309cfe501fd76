"""Identity reference: the face encoder, and the portrait's embedding if there is a portrait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..errors import InputError, NoFaceError
from ..media.image import load_picture
from ..metrics.registry import FACE_ENCODER, PORTRAIT


@dataclass(frozen=True)
class IdentityReference:
    """Face encoder and reference embedding of the identity metrics."""

    encode: Callable[[Tensor], Tensor] | None = None  # (H, W, 3) uint8 → (512,); raises NoFaceError; None: no encoder
    portrait: Tensor | Path | None = None  # (512,) embedding; without an encoder what was given, for the reason

    @property
    def available(self) -> frozenset[str]:
        """Which of `registry.NEEDS` are available."""
        sources = {FACE_ENCODER: self.encode, PORTRAIT: self.portrait}
        return frozenset(need for need, what in sources.items() if what is not None)


def encoder_reference(encoder: object) -> IdentityReference:
    """A reference without a portrait, for comparisons with the target's face.

    Args:
        encoder: an open `FaceEncoder`.
    """

    def encode(picture: Tensor) -> Tensor:
        return encoder.encode([picture], ["a frame"]).embedding.face_embeds[0]

    return IdentityReference(encode)


def portrait_reference(encoder: object, portrait: Tensor, name: str) -> IdentityReference:
    """A reference to the largest face of a portrait.

    Args:
        encoder: an open `FaceEncoder`.
        portrait: (H, W, 3) uint8.
        name: of the portrait, for messages.

    Raises:
        InputError: it shows no face.
    """
    try:
        embeds = encoder.encode([portrait], [name]).embedding.face_embeds[0]
    except NoFaceError as error:
        raise InputError(f"the portrait {name} cannot be compared with: {error}") from error
    return replace(encoder_reference(encoder), portrait=embeds)


def file_reference(encoder: object | None, portrait: Path | None) -> IdentityReference:
    """A reference to the largest face of a portrait's file, if there is one.

    Args:
        encoder: an open `FaceEncoder`; None where there is none.
        portrait: the file, or None.

    Raises:
        InputError: the file is no picture, or shows no face.
    """
    if encoder is None:
        return IdentityReference(portrait=portrait)
    if portrait is None:
        return encoder_reference(encoder)
    return portrait_reference(encoder, load_picture(portrait), portrait.name)
