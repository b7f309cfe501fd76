"""Identity embeddings of a face from one or more pictures, and blends of two people.

Shapes: N pictures of one person.
Source: ArcFace (Deng et al. 2019) for the embedding; PortraitTalk, section 3.1, for several references.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ...checks import check_finite, check_range
from ...errors import InputError, ShapeError
from ...types import Record

WIDTH = 512  # of ArcFace's embedding
KNOWN_WIDTHS = {128: "dlib, FaceNet or OpenFace", 256: "a small ArcFace", 768: "CLIP", 1024: "CLIP", 1280: "CLIP"}
MIN_NORM = 1e-6


@dataclass(frozen=True)
class FaceEmbedding:
    """Identity embedding of one person, from N pictures."""

    kind: ClassVar[str] = "FaceEmbedding"
    face_embeds: Tensor  # (N, 512) float32; each is brought to length 1
    weights: Tensor = field(default_factory=lambda: torch.empty(0))  # (N,) ≥ 0, how much each counts; empty: all alike
    clip_states: Tensor | None = None  # (N, L, D) of CLIP vision, last layer but one, of the aligned faces
    clip_embeds: Tensor | None = None  # (N, E) of CLIP vision, projected

    def __post_init__(self) -> None:
        faces = _checked_faces(self.face_embeds)
        count = len(faces)
        weights = self.weights.float() if self.weights.numel() else torch.ones(count)
        if tuple(weights.shape) != (count,):
            raise ShapeError(f"{count} pictures need {count} weights, not {tuple(weights.shape)}.")
        check_finite(weights, "the weights of the pictures")
        if weights.min() < 0 or weights.sum() <= 0:
            raise InputError(f"the weights of the pictures must be 0 or more, and one above 0, not {weights.tolist()}.")
        for name, axes in (("clip_states", 3), ("clip_embeds", 2)):
            view = getattr(self, name)
            if view is None:
                continue
            if view.ndim != axes or len(view) != count:
                raise ShapeError(f"{name} must have {axes} axes and {count} rows, but has {tuple(view.shape)}.")
            check_finite(view, name)
        object.__setattr__(self, "face_embeds", faces)
        object.__setattr__(self, "weights", weights)

    def __len__(self) -> int:
        return len(self.face_embeds)

    def averaged(self) -> Tensor:
        """(512,) weighted mean of all pictures, normalised to length 1.

        Raises:
            InputError: the faces cancel each other.
        """
        mean = (self.face_embeds * (self.weights / self.weights.sum())[:, None]).sum(0)
        norm = float(mean.norm())
        if norm < MIN_NORM:
            raise InputError("the faces of the pictures cancel each other; are they of one person?")
        return mean / norm

    def to_record(self) -> Record:
        """Tensors and metadata of a face file."""
        tensors = {"face_embeds": self.face_embeds, "weights": self.weights}
        views = {name: getattr(self, name) for name in ("clip_states", "clip_embeds")}
        return tensors | {name: tensor for name, tensor in views.items() if tensor is not None}, {"kind": self.kind}

    @classmethod
    def from_record(cls, tensors: dict[str, Tensor], metadata: dict[str, str]) -> FaceEmbedding:
        """The face of a file's tensors and metadata.

        Raises:
            InputError: another kind of record.
        """
        if metadata.get("kind") != cls.kind:
            raise InputError(f"this file holds a {metadata.get('kind', 'record without a name')}, not a {cls.kind}.")
        names = ("face_embeds", "weights", "clip_states", "clip_embeds")
        return cls(tensors["face_embeds"], **{n: tensors[n] for n in names[1:] if n in tensors})


def _checked_faces(faces: Tensor) -> Tensor:
    if not isinstance(faces, Tensor) or faces.ndim != 2 or not len(faces):
        received = tuple(faces.shape) if isinstance(faces, Tensor) else type(faces).__name__
        raise ShapeError(f"face embeddings must have shape (pictures, {WIDTH}), but have {received}.")
    if faces.shape[1] != WIDTH:
        whose = KNOWN_WIDTHS.get(faces.shape[1], "another model")
        raise InputError(
            f"a face embedding has {WIDTH} numbers (ArcFace of InsightFace's buffalo_l), not {faces.shape[1]}: "
            f"these look like {whose}'s."
        )
    faces = check_finite(faces.detach().float().cpu(), "the face embedding")
    norms = faces.norm(dim=1, keepdim=True)
    if norms.min() < MIN_NORM:
        raise InputError("a face embedding is all zeros; it was not made of a face.")
    return faces / norms


def join_faces(parts: Sequence[FaceEmbedding]) -> FaceEmbedding:
    """Concatenation of several embeddings of one person, which may hold several pictures each.

    CLIP's view is kept only where all parts have it.

    Raises:
        InputError: there are none.
    """
    if not parts:
        raise InputError("there is no face embedding to join.")
    joined = {}
    for name in ("clip_states", "clip_embeds"):
        views = [getattr(part, name) for part in parts]
        if all(view is not None for view in views) and len({view.shape[1:] for view in views}) == 1:
            joined[name] = torch.cat(views)
    faces, weights = (torch.cat([getattr(part, name) for part in parts]) for name in ("face_embeds", "weights"))
    return FaceEmbedding(faces, weights, **joined)


def blend_faces(a: FaceEmbedding, b: FaceEmbedding, amount: float) -> FaceEmbedding:
    """Spherical interpolation between the embeddings of two people.

    Args:
        a: one person.
        b: another.
        amount: 0 is a, 1 is b.

    Returns:
        An embedding of one picture; CLIP's view is mixed where both have it.

    Raises:
        InputError: the two are exact opposites, between which no way leads, or `amount` is outside 0..1.
    """
    check_range(amount, 0, 1, "the amount of the blend")
    face_a, face_b = a.averaged(), b.averaged()
    angle = torch.acos((face_a @ face_b).clamp(-1, 1))
    if angle > torch.pi - 1e-3:
        raise InputError("the two faces are exact opposites; there is nobody in between.")
    if angle < 1e-4:
        face = torch.lerp(face_a, face_b, amount)
    else:
        face = (torch.sin((1 - amount) * angle) * face_a + torch.sin(amount * angle) * face_b) / torch.sin(angle)
    blended = {}
    for name in ("clip_states", "clip_embeds"):
        ends = [_averaged_view(part, name) for part in (a, b)]
        if all(end is not None for end in ends) and ends[0].shape == ends[1].shape:
            blended[name] = torch.lerp(ends[0], ends[1], amount)[None]
    return FaceEmbedding(face[None], **blended)


def _averaged_view(face: FaceEmbedding, name: str) -> Tensor | None:
    view = getattr(face, name)
    share = face.weights / face.weights.sum()
    return None if view is None else torch.einsum("n...,n->...", view.float(), share)
