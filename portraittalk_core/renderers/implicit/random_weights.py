"""Keypoint models with random weights, for tests and measurements, and their files in the public layouts.

They show no face, but have keypoints that differ, a scale about 1, and pictures that change with the keypoints.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...checks import check_choice
from .facevid2vid.head_estimator import EstimatorSizes
from .facevid2vid.keypoint_detector import DetectorSizes
from .facevid2vid.model import FaceVid2Vid
from .liveportrait.model import LivePortrait
from .liveportrait.motion_extractor import ExtractorSizes
from .liveportrait.retargeting import LivePortraitRetargeting, RetargetingSizes
from .sizes import DenseMotionSizes, ImplicitSizes
from .spectral import NORMED, spectral_vectors

SIZES = ("tiny", "public")
TINY_INPUT = 64
TINY_MOTION = DenseMotionSizes(width=4, max_width=16, num_blocks=2, compress=2, kernel=3)
TINY = {"width": 8, "volume_channels": 4, "volume_depth": 4, "num_resblocks": 1, "motion": TINY_MOTION}
TINY |= {"spade_hidden": 8, "num_middle": 2}
RESIDUAL = re.compile(r"(3dr\d+\.conv2|b\d_\d\.norm3|block\d\.norm3|pwconv2)\.weight$")  # last layers beside a shortcut
BRANCH = 0.3  # what such layers are multiplied with, so that the sum does not grow from block to block
EXPRESSION, POSE, POINTS = 0.05, 0.2, 0.3  # of weights of heads; spread of canonical keypoints, in units of the crop


@dataclass(frozen=True)
class Family:
    """How the networks of one layout are built."""

    model: Callable[[str], LivePortrait | FaceVid2Vid]  # of "tiny" or "public"
    retargeting: Callable[[], LivePortraitRetargeting] | None


def _liveportrait(size: str) -> LivePortrait:
    if size == "public":
        return LivePortrait()
    extractor = ExtractorSizes(21, (1, 1, 2, 1), (8, 16, 16, 32))
    return LivePortrait(ImplicitSizes(21, **TINY, upscale=2), extractor, input_size=TINY_INPUT)


def _facevid2vid(size: str) -> FaceVid2Vid:
    if size == "public":
        return FaceVid2Vid()
    detector = DetectorSizes(15, width=4, max_width=16, num_blocks=2, depth=4)
    estimator = EstimatorSizes(15, width=4, depths=(1, 1, 1, 1))
    return FaceVid2Vid(ImplicitSizes(15, **TINY), detector, estimator, input_size=TINY_INPUT)


FAMILIES = {
    "liveportrait-21": Family(_liveportrait, lambda: LivePortraitRetargeting(RetargetingSizes())),
    "face-vid2vid-15": Family(_facevid2vid, None),
}


def random_model(
    layout: str, size: str = "tiny", seed: int = 0
) -> tuple[LivePortrait | FaceVid2Vid, LivePortraitRetargeting | None]:
    """A keypoint model with random weights and running statistics, and retargeting where the family has it.

    Args:
        layout: "liveportrait-21" or "face-vid2vid-15".
        size: "tiny": crops of 64 pixels, milliseconds a picture; "public": of the public files.
        seed: of the weights.

    Raises:
        InputError: another layout or size.
    """
    check_choice(layout, tuple(FAMILIES), "the layout of a keypoint model")
    check_choice(size, SIZES, "the size of a random keypoint model")
    family = FAMILIES[layout]
    model = randomised(family.model(size), seed)
    retargeting = family.retargeting and randomised(family.retargeting(), seed + 1)
    return model, retargeting


@torch.no_grad()
def randomised(network: nn.Module, seed: int) -> nn.Module:
    """The network with random weights, also in layers that start at zero, ready for inference."""
    draw = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=draw)

    for name, weight in network.named_parameters():
        fan_in = weight[0].numel() if weight.ndim > 1 else 25
        weight.copy_(noise(weight) / fan_in**0.5)
        if NORMED.search(name):
            left, right = spectral_vectors(weight)
            weight.div_(left @ (weight.flatten(1) @ right))
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.copy_(noise(module.running_mean) * 0.1)
            module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=draw))
        if isinstance(module, _BatchNorm | nn.LayerNorm) and module.weight is not None:
            module.weight += 1
    for name, weight in network.named_parameters():
        if RESIDUAL.search(name):
            weight.mul_(BRANCH)
    for name, module in network.named_modules():
        _tame(name.rpartition(".")[2], module, noise)
    return network.eval().requires_grad_(False)


def _tame(name: str, module: nn.Module, noise: Callable[[Tensor], Tensor]) -> None:
    """Bring the outputs of heads into the range that trained ones have."""
    if name in ("fc_exp", "fc_t"):
        module.weight *= EXPRESSION
        module.bias *= EXPRESSION
    elif name == "fc_kp":
        module.weight *= EXPRESSION
        module.bias.copy_(noise(module.bias) * POINTS)
    elif name == "fc_scale":
        module.weight *= EXPRESSION
        module.bias.fill_(1)
    elif name in ("fc_pitch", "fc_yaw", "fc_roll"):
        module.weight *= POSE
        module.bias.zero_()
    elif name.startswith("retarget_"):
        module.mlp[-1].weight *= EXPRESSION
        module.mlp[-1].bias *= EXPRESSION
