"""The paper's own lip model: aligned references, lips of several frames, and sound through cross-attention.

Shapes: B frames, N references, M lip references, S side of a crop.
Source: J. Wu et al., "Talking Face Generation with Lip and Identity Priors", section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import repeat
from typing import ClassVar

import torch
from torch import Tensor

from ...errors import InputError
from ...face.lip_points import CONTENT, LIP_POINTS, NOSE
from .alignment import Aligned, Alignment, ReferenceFeatures, no_references, unwarped_mean
from .contract import MEL, NO_SOUND, LipBatch, LipCropRule, References
from .iplap import encoded
from .lip_warp import lips_mask, warped_lips
from .model_base import LipNetworks, distinct, masked_half
from .nearest import mouth_lines, nearest_lips, nearest_places
from .rendering import Rendering
from .sizes import NOSE_TO_CHIN, SKETCHES, LipConfig

NOSE_BASE = 2  # of the mesh: between the nostrils
BELOW_NOSE = 0.75  # more below the nose than on its sides, of its length: a wide open mouth lies inside


def _crop_rule(config: LipConfig) -> LipCropRule:
    """How faces are framed: around all landmarks, or around the nose, which speech does not move, and what is below."""
    pads = {"pad_px": config.crop_pad_px, "pad_share": config.crop_pad_share}
    if config.framing == NOSE_TO_CHIN:
        pads |= {"middle": NOSE_BASE, "below_share": BELOW_NOSE}
        return LipCropRule(NOSE, square=False, size=config.size, **pads)
    return LipCropRule(LIP_POINTS, square=False, size=config.size, **pads)


@dataclass(frozen=True)
class LipReferences:
    """What is computed of lip references once; (1, M, …) where all frames share them, (B, M, …) in training."""

    wide: Tensor  # (1|B, M, w, S/2, S/2) their share of the fusion
    pictures: Tensor | None = None  # (1|B, M, 3, S, S), where they guide the last block
    drawn: Tensor | None = None  # (1|B, M, P) of `nearest.mouth_lines`, where each frame has its own nearest lips
    points: Tensor | None = None  # (1|B, M, 131, 2) landmarks, where the pictures are warped to each frame's

    def of_frames(self, places: Tensor) -> LipReferences:
        """For each of B frames its own R (B, R)."""
        kept = self.wide, self.pictures, self.points
        wide, pictures, points = (x if x is None else _taken(x, places) for x in kept)
        return LipReferences(wide, pictures, points=points)

    def guide(self, targets: Tensor | None) -> Tensor | None:
        """(1|B, 3, S, S) float32 mean of the pictures, warped to landmarks (B, 131, 2); None where none guide."""
        if self.pictures is None:
            return None
        pictures = self.pictures.float()
        if self.points is not None:
            count = len(targets)
            pictures, points = (x.expand(count, *x.shape[1:]) for x in (pictures, self.points))
            pictures = warped_lips(pictures, points[:, :, CONTENT], targets[:, CONTENT])
        return pictures.mean(1)


@dataclass(frozen=True)
class LipFeatures:
    """What is computed of references once."""

    references: ReferenceFeatures | None  # None where the alignment is ablated
    lips: LipReferences | None  # None where the lip module is ablated
    share: float = 1.0  # of what is painted, where that is added to references
    drawn: Tensor | None = None  # (K, P) of `nearest.mouth_lines`, where each frame has its own nearest references


@dataclass(frozen=True)
class Painted:
    """What training compares."""

    picture: Tensor  # (B, 3, S, S) 0..1
    aligned: Tensor  # (B, 3, S, S) 0..1, the aligned references alone


class LipPriors(LipNetworks):
    """The paper's networks as a lip model; see `contract.LipModel`."""

    name: ClassVar[str] = "lips"
    needs_sketches: ClassVar[bool] = True
    needs_references: ClassVar[bool] = True

    def __init__(self, config: LipConfig | None = None) -> None:
        super().__init__()
        self.config = config or LipConfig()
        self.size = self.config.size
        self.usual = self.config.usual_references, self.config.usual_lips
        self.crop = _crop_rule(self.config)
        self.sound = MEL if self.config.has_sound else NO_SOUND
        self.alignment = Alignment(self.config)
        self.rendering = Rendering(self.config)

    def references(self, pictures: Tensor, sketches: Tensor) -> ReferenceFeatures | None:
        """Features of references (1|B, N, 3, S, S), with gradients."""
        return None if self.config.ablate == "align" else self.alignment.encode_references(pictures, sketches)

    def lips(
        self, lips: Tensor, sketches: Tensor, points: Tensor | None = None, at_once: int = 0
    ) -> LipReferences | None:
        """Features of lip references (1|B, M, 3, S, S), with gradients; `at_once` of M go together, or all (0).

        `points` (1|B, M, 131, 2) are their landmarks, which `lip_warp` needs.
        """
        if self.rendering.lips is None:
            return None
        step = at_once or lips.shape[1]
        pairs = zip(lips.split(step, 1), sketches.split(step, 1), strict=True)
        wide = torch.cat([self.rendering.lips.encode(*pair) for pair in pairs], 1)
        drawn = mouth_lines(sketches) if self.config.nearest_lips else None
        pictures = lips if self.config.lip_guide else None
        return LipReferences(wide, pictures, drawn, points if self.config.lip_warp else None)

    def forward(  # noqa: PLR0913 - one parameter a kind of input
        self,
        pictures: Tensor,
        sketches: Tensor,
        features: LipFeatures,
        mel: Tensor | None,
        points: Tensor | None = None,
        at_once: int = 0,
    ) -> Painted:
        """Paint the hidden halves, with gradients.

        Args:
            pictures: (B, 3, S, S) whole crops; their lower halves are hidden here.
            sketches: (B, 15, S, S) of five frames around each.
            features: of the references, for all frames or for each its own.
            mel: (B, 80, 16); None where sound is ablated.
            points: (B, 131, 2) landmarks of the frames, where lip references are warped.
            at_once: references that go together, which bounds the memory; 0: all.
        """
        masked = masked_half(pictures)
        narrow, wide = self.alignment.masked.encode(masked)
        aligned = self._aligned(features, sketches, (narrow, wide), at_once)
        lips = self._lips(features, sketches)
        pictures, base = [masked.float(), aligned.picture], aligned.picture
        shown = None if lips is None else lips.guide(points)
        if shown is not None:
            pictures.append(shown.expand_as(base))
            if self.config.lip_warp:
                base = torch.lerp(base, shown, lips_mask(points, self.size))
        guide = Aligned(
            torch.cat(pictures, 1),
            torch.cat([narrow.float(), aligned.narrow], 1),
            torch.cat([wide.float(), aligned.wide], 1),
        )
        fused = None if lips is None else lips.wide
        picture = self.rendering(masked, sketches, guide, fused, mel, at_once, features.share, base)
        return Painted(picture, aligned.picture)

    def _aligned(self, features: LipFeatures, sketches: Tensor, own: tuple[Tensor, Tensor], at_once: int) -> Aligned:
        references = features.references
        if references is None:
            return no_references(*own)
        if self.config.ablate == "align-mean":
            return unwarped_mean(references, len(sketches))
        if features.drawn is not None:
            references = references.of_frames(nearest_places(features.drawn, _drawn(sketches), self.config.nearest))
        return self.alignment(references, sketches, own[1], at_once)

    def _lips(self, features: LipFeatures, sketches: Tensor) -> LipReferences | None:
        """The lip references that each frame is painted from: all, or its nearest."""
        lips = features.lips
        if lips is None or not 0 < self.config.nearest_lips < lips.wide.shape[1]:
            return lips
        return lips.of_frames(nearest_lips(lips.drawn, _drawn(sketches), self.config.nearest_lips))

    @torch.no_grad()
    def encode(self, references: References) -> LipFeatures:
        """Features of the references and of the lips, a few at a time.

        Raises:
            InputError: there are none, or of another size.
        """
        pictures, sketches = self.check_references(references)
        features = drawn = None
        if self.config.ablate != "align":
            features = encoded(self.alignment, pictures, sketches, self.at_once(1))
            if 0 < self.config.nearest < features.pictures.shape[1]:
                drawn = mouth_lines(sketches[distinct(pictures, sketches)[0]])
        return LipFeatures(features, self._encoded_lips(references), drawn=drawn)

    def with_share(self, features: LipFeatures, share: float) -> LipFeatures | None:
        """The features of which a share of the painting is added; None where nothing is added."""
        return replace(features, share=share) if self.config.keep_references else None

    def _encoded_lips(self, references: References) -> LipReferences | None:
        if self.rendering.lips is None:
            return None
        if not len(references.lips):
            raise InputError("this lip renderer needs at least one lip reference; none was given.")
        lips = self.check_crops(references.lips, "lip references")
        sketches = self.check_crops(references.lip_sketches, "sketches of lip references", f"{len(lips)} 3")
        points = None
        if self.config.lip_warp:
            points = self.check_points(references.lip_points, len(lips), "`References.lip_points`")[None]
        return self.lips(lips[None], sketches[None], points, self.at_once(1))

    @torch.no_grad()
    def paint(self, features: LipFeatures, batch: LipBatch) -> Tensor:
        """(B, 3, S, S) RGB float32 0..1.

        Raises:
            InputError: sound is missing, or something has another shape.
        """
        pictures, sketches = self.check_crops(batch.pictures, "face crops"), self.check_sketches(batch)
        mel = None if self.rendering.sound is None else self.check_mel(batch)
        points = None
        if self.config.lip_warp and self.config.has_lips:
            points = self.check_points(batch.points, len(pictures), "`LipBatch.points`")
        step = self.frames_at_once
        frames = zip(pictures.split(step), sketches.split(step), strict=True)
        heard, placed = (repeat(None) if x is None else iter(x.split(step)) for x in (mel, points))
        parts = [
            self(crops, drawn, features, next(heard), next(placed), self.at_once(len(crops))).picture
            for crops, drawn in frames
        ]
        return torch.cat(parts).float()


def _taken(x: Tensor, places: Tensor) -> Tensor:
    """(B, R, …) the lip references of each frame, by their places (B, R), of (1|B, M, …)."""
    if len(x) == 1:
        return x[0][places]
    return x[torch.arange(len(x), device=x.device)[:, None], places]


def _drawn(sketches: Tensor) -> Tensor:
    """(B, P) `mouth_lines` of the frames to be painted, of sketches (B, 15, S, S) around each."""
    return mouth_lines(sketches.unflatten(1, (SKETCHES, 3))[:, SKETCHES // 2])
