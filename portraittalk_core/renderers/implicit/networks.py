"""What the keypoint models of both families are made of: appearance encoder, warping and generator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...errors import InputError
from .appearance import AppearanceEncoder
from .dense_motion import Warping
from .sizes import ImplicitSizes
from .spade import SpadeGenerator

MIN_SIDE = 32  # how much smaller the networks that find keypoints make a crop


class FaceNetworks(nn.Module):
    """From a face crop to a volume, and from volume and keypoints to a picture; families add their keypoints."""

    def __init__(self, sizes: ImplicitSizes, input_size: int, *, spectral_norm: bool = False) -> None:
        """Build the networks with random weights.

        Args:
            sizes: of their layers.
            input_size: side of the crops.
            spectral_norm: of the generator, for training; public weights are loaded without it.

        Raises:
            InputError: crops of this size cannot be halved as often as the networks do.
        """
        super().__init__()
        step = max(4 * 2**sizes.motion.num_blocks, MIN_SIDE)  # the volume is a quarter as large, and halved so often
        if input_size < step or input_size % step:
            raise InputError(f"the side of a keypoint model's crops must be a multiple of {step}, not {input_size}.")
        self.sizes, self.input_size = sizes, input_size
        self.appearance_feature_extractor = AppearanceEncoder(sizes)
        self.warping_module = Warping(sizes)
        self.spade_generator = SpadeGenerator(sizes, spectral_norm=spectral_norm)

    @property
    def output_size(self) -> int:
        """Side of the pictures."""
        return self.input_size * self.sizes.upscale

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        return self.warping_module.fourth.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.warping_module.fourth.weight.dtype

    def features(self, crop: Tensor) -> Tensor:
        """(B, C, D, S/4, S/4) volume of (B, 3, S, S) crops."""
        return self.appearance_feature_extractor(crop.to(self.device, self.dtype))

    def render(self, features: Tensor, source: Tensor, driving: Tensor) -> Tensor:
        """(B, 3, output_size, output_size) float32 0..1; see `contract.KeypointModel.render`."""
        driving = driving.to(self.device)
        source = source.to(self.device).expand_as(driving)
        return self.spade_generator(self.warping_module(features, source, driving)).float()
