"""Identity similarity (CSIM): whether the generated face is still the same person, by ArcFace's embeddings.

Shapes: T frames with a face.
Source: Deng et al. 2019, "ArcFace".
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import check_finite
from ..errors import InputError
from ..face.identity.embedding import LEAST_NORM, WIDTH, FaceEmbedding


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
    own = _unit(reference.averaged() if isinstance(reference, FaceEmbedding) else reference, "reference faces")
    if not len(faces) or len(own) not in (1, len(faces)):
        raise InputError(f"{len(faces)} generated faces cannot be compared with {len(own)} of the reference.")
    return (faces * own).sum(1).clamp(-1, 1)


def _unit(embeds: Tensor, name: str) -> Tensor:
    rows = embeds[None] if isinstance(embeds, Tensor) and embeds.ndim == 1 else embeds
    if not isinstance(rows, Tensor) or rows.ndim != 2 or rows.shape[1] != WIDTH:
        found = tuple(embeds.shape) if isinstance(embeds, Tensor) else type(embeds).__name__
        raise InputError(f"embeddings of the {name} must have shape (T, {WIDTH}), but have {found}.")
    rows = check_finite(rows.detach().double().cpu(), f"embeddings of the {name}")
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if len(rows) and norms.min() < LEAST_NORM:
        raise InputError(f"an embedding of the {name} is all zeros; it was not made of a face.")
    return rows / norms
