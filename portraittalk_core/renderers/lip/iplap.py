"""The lip model of IP-LAP's public renderer: alignment by flow, rendering by one vector of sound a frame.

Source: W. Zhong et al., "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors" (CVPR 2023),
section 3.2, and its public renderer_checkpoint.pth, whose pictures are BGR.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from ...face.lip_points import LIP_POINTS
from .alignment import DenseFlow, ReferenceFeatures
from .contract import MEL, LipBatch, LipCropRule, References
from .model_base import LipNetworks, distinct, masked_half
from .rendering import Translation
from .sizes import LipSizes

CROP_PAD_PX = 25.0  # as in the public inference; the training had 5


class IpLap(LipNetworks):
    """IP-LAP's networks as a lip model; see `contract.LipModel`."""

    name: ClassVar[str] = "iplap"
    sound: ClassVar[str] = MEL
    needs_sketches: ClassVar[bool] = True
    needs_references: ClassVar[bool] = True

    def __init__(self, sizes: LipSizes | None = None) -> None:
        super().__init__()
        self.sizes = sizes or LipSizes()
        self.size = self.sizes.size
        self.crop = LipCropRule(LIP_POINTS, CROP_PAD_PX, square=False, size=self.size)
        self.flow_module = DenseFlow(self.sizes)
        self.translation = Translation(self.sizes)

    @torch.no_grad()
    def encode(self, references: References) -> ReferenceFeatures:
        """Features of the references; lips are not looked at.

        Raises:
            InputError: there are none, or of another size.
        """
        pictures, sketches = self.check_references(references)
        return encoded(self.flow_module, pictures.flip(1), sketches.flip(1), self.at_once(1))

    @torch.no_grad()
    def paint(self, features: ReferenceFeatures, batch: LipBatch) -> Tensor:
        """(B, 3, S, S) RGB float32 0..1.

        Raises:
            InputError: sound is missing, or something has another shape.
        """
        masked = masked_half(self.check_crops(batch.pictures, "face crops").flip(1))
        sketches, mel = self.check_sketches(batch), self.check_mel(batch)
        step = self.frames_at_once
        parts = zip(masked.split(step), sketches.split(step), mel.split(step), strict=True)
        return torch.cat([self._painted(features, *part) for part in parts]).float().flip(1)

    def _painted(self, features: ReferenceFeatures, masked: Tensor, sketches: Tensor, mel: Tensor) -> Tensor:
        aligned = self.flow_module(features, sketches, at_once=self.at_once(len(masked)))
        return self.translation(masked, sketches, aligned, mel)


def encoded(network: DenseFlow, pictures: Tensor, sketches: Tensor, at_once: int) -> ReferenceFeatures:
    """Features (1, K, …) of the K references (N, 3, S, S) that differ, a few at a time."""
    firsts, counts = distinct(pictures, sketches)
    pictures, sketches = pictures[firsts], sketches[firsts]
    pairs = zip(pictures.split(at_once), sketches.split(at_once), strict=True)
    parts = [network.encode_references(picture[None], sketch[None]) for picture, sketch in pairs]
    has_own_entry = parts[0].entry.data_ptr() != parts[0].wide.data_ptr()
    names = ("pictures", "narrow", "wide", *(["entry"] if has_own_entry else []))
    joined = {name: torch.cat([getattr(part, name) for part in parts], 1) for name in names}
    joined.setdefault("entry", joined["wide"])  # held once
    return replace(parts[0], **joined, counts=counts.to(pictures.device))
