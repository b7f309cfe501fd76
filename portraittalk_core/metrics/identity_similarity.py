"""Identity similarity (CSIM): cosine similarity of ArcFace embeddings of generated faces and the reference.

Shapes: T frames with a face.
Source: Deng et al. 2019, "ArcFace".
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..checks import check_finite
from ..errors import InputError, NoFaceError
from ..face.identity.embedding import MIN_NORM, WIDTH, FaceEmbedding
from .meter import Meter, MetricContext

FACES_PER_S = 1  # frames a second whose face is compared


def identity_similarity(generated: Tensor | FaceEmbedding, reference: Tensor | FaceEmbedding) -> Tensor:
    """Cosine of the embeddings of generated faces and of the reference.

    Args:
        generated: (T, 512), or an embedding of T pictures.
        reference: (512,) or one person of any number of pictures: compared with every frame; or (T, 512): frame by
            frame.

    Returns:
        (T,) −1..1; 1 for the same direction. Symmetric where both have T frames.

    Raises:
        InputError: no embeddings, other numbers of them, or all zeros.
    """
    faces = _unit(generated.face_embeds if isinstance(generated, FaceEmbedding) else generated, "generated faces")
    references = _unit(reference.averaged() if isinstance(reference, FaceEmbedding) else reference, "reference faces")
    if not len(faces) or len(references) not in (1, len(faces)):
        raise InputError(f"{len(faces)} generated faces cannot be compared with {len(references)} of the reference.")
    return (faces * references).sum(1).clamp(-1, 1)


def _unit(embeds: Tensor, name: str) -> Tensor:
    rows = embeds[None] if isinstance(embeds, Tensor) and embeds.ndim == 1 else embeds
    if not isinstance(rows, Tensor) or rows.ndim != 2 or rows.shape[1] != WIDTH:
        received = tuple(embeds.shape) if isinstance(embeds, Tensor) else type(embeds).__name__
        raise InputError(f"embeddings of the {name} must have shape (T, {WIDTH}), but have {received}.")
    rows = check_finite(rows.detach().double().cpu(), f"embeddings of the {name}")
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if len(rows) and norms.min() < MIN_NORM:
        raise InputError(f"an embedding of the {name} is all zeros; it was not made of a face.")
    return rows / norms


class _SampledIdentity(Meter):
    """Cosines of faces in one frame a second, each held until the next in the curve."""

    def __init__(self, context: MetricContext) -> None:
        self.encode, self.portrait = context.encode_face, context.portrait
        self.every = max(1, round(float(context.fps) / FACES_PER_S))
        self.num_frames = 0
        self.cosines: dict[int, float] = {}  # by the frame's number

    def update(self, *pictures: Tensor) -> None:
        """Embed the next picture or pair, if it is one of the sampled ones."""
        number, self.num_frames = self.num_frames, self.num_frames + 1
        if number % self.every == 0:
            try:
                embeds = [self.encode(picture) for picture in pictures]
            except NoFaceError:
                return
            self.cosines[number] = _cosine(*(embeds if len(embeds) == 2 else (*embeds, self.portrait)))

    def mean(self, source: str) -> float:
        """The mean over the detected faces.

        Raises:
            InputError: there were none; `source` is what was looked at.
        """
        if not self.cosines:
            raise InputError(f"the face encoder found no face in any {source} it looked at")
        return sum(self.cosines.values()) / len(self.cosines)

    def curves(self) -> Tensor | Mapping[str, Tensor]:
        """(T,) float64; empty if no face was found."""
        if not self.cosines:
            return {}
        values = torch.full((self.num_frames,), math.nan, dtype=torch.float64)
        for number, value in self.cosines.items():
            values[number : number + self.every] = value
        return values


class PortraitIdentity(_SampledIdentity):
    """Identity similarity of a video's face and the portrait's."""

    def result(self) -> float:
        """The mean over the sampled frames.

        Raises:
            InputError: none of them shows a face.
        """
        return self.mean("picture")


class TargetIdentity(_SampledIdentity):
    """Identity similarity of the faces in frames of the same time."""

    def result(self) -> float:
        """The mean over the sampled pairs.

        Raises:
            InputError: none of them shows a face in both.
        """
        return self.mean("pair of pictures")


def _cosine(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    return float(a @ b / (a.norm() * b.norm()).clamp(min=1e-12))
