"""Identity: cosine similarity (CSIM) and distance of the embeddings of generated faces and the reference.

Shapes: T frames with a face.
Embeddings are ArcFace's 512 numbers or the 128 of dlib's descriptor.
Source: Deng et al. 2019, "ArcFace"; King 2017 for distances of dlib's descriptors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..checks import check_finite
from ..errors import InputError, NoFaceError
from ..face.identity import descriptor
from ..face.identity.embedding import MIN_NORM, FaceEmbedding
from ..face.identity.embedding import WIDTH as ARCFACE_WIDTH
from .meter import Meter, MetricContext

WIDTHS = (ARCFACE_WIDTH, descriptor.WIDTH)
FACES_PER_S = 1  # frames a second whose face is compared


def identity_similarity(generated: Tensor | FaceEmbedding, reference: Tensor | FaceEmbedding) -> Tensor:
    """Cosine of the embeddings of generated faces and of the reference.

    Args:
        generated: (T, D), or an embedding of T pictures; D is 512 of ArcFace, 128 of dlib.
        reference: (D,) or one person of any number of pictures: compared with every frame; or (T, D): frame by frame.

    Returns:
        (T,) −1..1; 1 for the same direction. Symmetric where both have T frames.

    Raises:
        InputError: no embeddings, other numbers of them, or all zeros.
    """
    faces = _unit(generated.face_embeds if isinstance(generated, FaceEmbedding) else generated, "generated faces")
    references = _unit(reference.averaged() if isinstance(reference, FaceEmbedding) else reference, "reference faces")
    if faces.shape[1] != references.shape[1]:
        sizes = f"{faces.shape[1]} and {references.shape[1]}"
        raise InputError(f"embeddings of {sizes} numbers are of two networks; compare those of one.")
    if not len(faces) or len(references) not in (1, len(faces)):
        raise InputError(f"{len(faces)} generated faces cannot be compared with {len(references)} of the reference.")
    return (faces * references).sum(1).clamp(-1, 1)


def _unit(embeds: Tensor, name: str) -> Tensor:
    rows = embeds[None] if isinstance(embeds, Tensor) and embeds.ndim == 1 else embeds
    if not isinstance(rows, Tensor) or rows.ndim != 2 or rows.shape[1] not in WIDTHS:
        received = tuple(embeds.shape) if isinstance(embeds, Tensor) else type(embeds).__name__
        widths = " or ".join(map(str, WIDTHS))
        raise InputError(f"embeddings of the {name} must have shape (T, {widths}), but have {received}.")
    rows = check_finite(rows.detach().double().cpu(), f"embeddings of the {name}")
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if len(rows) and norms.min() < MIN_NORM:
        raise InputError(f"an embedding of the {name} is all zeros; it was not made of a face.")
    return rows / norms


class _SampledIdentity(Meter):
    """Cosines and distances of faces in one frame a second, each held until the next in the curve."""

    name = ""  # of the cosine's metric; the distance's ends with _distance

    def __init__(self, context: MetricContext) -> None:
        self.encode, self.portrait = context.encode_face, context.portrait
        self.every = max(1, round(float(context.fps) / FACES_PER_S))
        self.num_frames = 0
        self.cosines: dict[int, float] = {}  # by the frame's number
        self.distances: list[float] = []

    def update(self, *pictures: Tensor) -> None:
        """Embed the next picture or pair, if it is one of the sampled ones."""
        number, self.num_frames = self.num_frames, self.num_frames + 1
        if number % self.every == 0:
            try:
                embeds = [self.encode(picture) for picture in pictures]
            except NoFaceError:
                return
            pair = embeds if len(embeds) == 2 else (*embeds, self.portrait)
            self.cosines[number] = _cosine(*pair)
            self.distances.append(float(descriptor.distance(*pair)))

    def means(self, source: str) -> dict[str, float]:
        """The means over the detected faces.

        Raises:
            InputError: there were none; `source` is what was looked at.
        """
        if not self.cosines:
            raise InputError(f"the face encoder found no face in any {source} it looked at")
        count = len(self.cosines)
        return {
            self.name: sum(self.cosines.values()) / count,
            f"{self.name}_distance": sum(self.distances) / count,
        }

    def curves(self) -> Mapping[str, Tensor]:
        """(T,) float64 cosines; empty if no face was found."""
        if not self.cosines:
            return {}
        values = torch.full((self.num_frames,), math.nan, dtype=torch.float64)
        for number, value in self.cosines.items():
            values[number : number + self.every] = value
        return {self.name: values}


class PortraitIdentity(_SampledIdentity):
    """Identity of a video's face and the portrait's."""

    name = "identity"

    def result(self) -> Mapping[str, float]:
        """The means over the sampled frames.

        Raises:
            InputError: none of them shows a face.
        """
        return self.means("picture")


class TargetIdentity(_SampledIdentity):
    """Identity of the faces in frames of the same time."""

    name = "identity_to_target"

    def result(self) -> Mapping[str, float]:
        """The means over the sampled pairs.

        Raises:
            InputError: none of them shows a face in both.
        """
        return self.means("pair of pictures")


def _cosine(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    return float(a @ b / (a.norm() * b.norm()).clamp(min=1e-12))
