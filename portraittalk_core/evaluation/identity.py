"""Identity reference: what describes faces, and the portrait's embedding if there is a portrait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..errors import InputError, NoFaceError
from ..face.identity import descriptor
from ..face.mesh.backends import MeshBackend
from ..face.mesh.search import detect_faces
from ..media.image import load_picture
from ..metrics.registry import FACE_ENCODER, PORTRAIT

ARCFACE = "ArcFace (InsightFace's buffalo_l)"


@dataclass(frozen=True)
class IdentityReference:
    """Face encoder and reference embedding of the identity metrics."""

    encode: Callable[[Tensor], Tensor] | None = None  # (H, W, 3) uint8 → (D,); raises NoFaceError; None: no encoder
    portrait: Tensor | None = None  # (D,) embedding
    network: str = ""  # whose embeddings they are, for reports: numbers of two networks are not comparable
    note: str = ""  # what to know of the portrait, for reports
    strict: bool = False  # whether a portrait without a face is an error, as the network was asked for

    @property
    def available(self) -> frozenset[str]:
        """Which of `registry.NEEDS` are available."""
        sources = {FACE_ENCODER: self.encode, PORTRAIT: self.portrait}
        return frozenset(need for need, what in sources.items() if what is not None)


def encoder_reference(encoder: object | None, mesh: MeshBackend) -> IdentityReference:
    """A reference without a portrait, for comparisons with the target's face.

    Args:
        encoder: an open `FaceEncoder`; None takes dlib's descriptor, which comes with this package.
        mesh: finds the faces that the descriptor describes.
    """

    def by_arcface(picture: Tensor) -> Tensor:
        return encoder.encode([picture], ["a frame"]).embedding.face_embeds[0]

    def by_descriptor(picture: Tensor) -> Tensor:
        faces = detect_faces(picture, mesh)
        if not len(faces):
            raise NoFaceError("no face was found. Take a picture that shows the whole face from the front.")
        height, width = picture.shape[:2]
        return descriptor.describe(picture, faces[:1] * faces.new_tensor([width, height, width]))[0]

    if encoder is None:
        return IdentityReference(by_descriptor, network=descriptor.NAME)
    return IdentityReference(by_arcface, network=ARCFACE, strict=True)


def portrait_reference(reference: IdentityReference, portrait: Tensor, name: str) -> IdentityReference:
    """A reference to the largest face of a portrait.

    Args:
        reference: of `encoder_reference`.
        portrait: (H, W, 3) uint8.
        name: of the portrait, for messages.

    Raises:
        InputError: it shows no face, and the user gave the network; by the package's own, that is noted.
    """
    try:
        embeds = reference.encode(portrait)
    except NoFaceError as error:
        if reference.strict:
            raise InputError(f"the portrait {name} cannot be compared with: {error}") from error
        return replace(reference, note=f"the portrait {name} shows no face: no likeness to it was measured")
    return replace(reference, portrait=embeds)


def file_reference(encoder: object | None, portrait: Path | None, mesh: MeshBackend) -> IdentityReference:
    """A reference to the largest face of a portrait's file, if there is one.

    Args:
        encoder: an open `FaceEncoder`; None takes dlib's descriptor.
        portrait: the file, or None.
        mesh: finds the faces that the descriptor describes.

    Raises:
        InputError: as `portrait_reference`.
        MediaError: the file is no picture.
    """
    reference = encoder_reference(encoder, mesh)
    return reference if portrait is None else portrait_reference(reference, load_picture(portrait), portrait.name)
