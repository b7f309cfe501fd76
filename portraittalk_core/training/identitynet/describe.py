"""Face descriptions for training: face embeddings of pictures by the user's models, and tokens of several references.

Shapes: B samples, N references of each, T face tokens, E their width.
Source: PortraitTalk, section 3.1.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...errors import InputError
from ...face.identity.embedding import FaceEmbedding
from ...renderers.identitynet.adapter import IdentityAdapter
from ...renderers.identitynet.face_tokens import ProjectionInput
from ..data.references import DescribeFace

NO_MODELS = (
    "no face embedding, which training with an identity needs; name face_models, the folder with InsightFace's "
    "buffalo_l, and it is computed once"
)


def open_describer(
    face_models: Path | None, clip_vision: Path | None, without_background: bool, stack: contextlib.ExitStack
) -> DescribeFace:
    """What describes the face in a picture.

    Args:
        face_models: folder with InsightFace's buffalo_l.
        clip_vision: CLIP-ViT-H's file, for adapters that need its view; None for none.
        without_background: whether all but the person turns black first.
        stack: closes the models.

    Raises:
        InputError: no folder is named.
        MissingDependency: face models or what runs them are absent.
    """
    from ...face.identity.background import person_masks
    from ...face.identity.clip_crop import load_clip_vision, with_clip_view
    from ...face.identity.encoder import CROP_PX, FaceEncoder, find_face_models

    if face_models is None:
        raise InputError(f"{NO_MODELS}.")
    encoder = stack.enter_context(FaceEncoder(find_face_models(face_models)))
    clip = load_clip_vision(clip_vision) if clip_vision else None

    def describe(picture: Tensor, name: str) -> FaceEmbedding:
        masks = person_masks([picture]) if without_background else None
        result = encoder.encode([picture], [name], masks=masks, crop_px=CROP_PX)
        return result.embedding if clip is None else with_clip_view(result.embedding, result.crops, clip)

    return describe


def face_tokens(adapter: IdentityAdapter, faces: ProjectionInput, combine: str = "auto") -> Tensor:
    """(B, T, E) tokens of samples with N references each, through which gradients flow.

    Averaged, N references have as many tokens as one; concatenated, N times as many.

    Args:
        adapter: its projection is used.
        faces: parts (B, N, …) that the projection needs; all zeros is no face.
        combine: as of `IdentityAdapter.tokens`.
    """
    parts = {name: getattr(faces, name) for name in adapter.projection.needs}
    size, count = next(iter(parts.values())).shape[:2]
    if adapter.is_per_reference(combine):
        tokens = adapter.projection(ProjectionInput(**{name: part.flatten(0, 1) for name, part in parts.items()}))
        return tokens.unflatten(0, (size, count)).flatten(1, 2)
    return adapter.projection(ProjectionInput(**{name: _averaged(name, part) for name, part in parts.items()}))


def _averaged(name: str, part: Tensor) -> Tensor:
    """(B, …) means over the references; ArcFace's are brought to length 1 again, as `FaceEmbedding.averaged` does."""
    if part.shape[1] == 1:
        return part[:, 0]
    mean = part.mean(1)
    return normalize(mean, dim=1) if name == "face_embeds" else mean


def stacked(embeddings: list[FaceEmbedding], needs: tuple[str, ...]) -> dict[str, Tensor]:
    """Parts (K, …) of K references' embeddings, each with what a projection needs."""
    return {
        name: torch.stack([e.averaged() if name == "face_embeds" else getattr(e, name).mean(0) for e in embeddings])
        for name in needs
    }
