"""Networks of keypoint training: sizes, new ones with spectral norm, and files in the public layout.

Source of the sizes "public": ControlTalk's checkpoint; the others are ours, for a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ...errors import InputError
from ...media.tensor_file import save_tensors
from ...renderers.implicit.facevid2vid.head_estimator import EstimatorSizes
from ...renderers.implicit.facevid2vid.keypoint_detector import DetectorSizes
from ...renderers.implicit.facevid2vid.model import HALF_TURN, INPUT_SIZE, PUBLIC_SIZES, FaceVid2Vid
from ...renderers.implicit.file_layouts import detector_sizes, estimator_sizes
from ...renderers.implicit.head_angles import axis_rotations
from ...renderers.implicit.random_files import public_tensors
from ...renderers.implicit.sizes import DenseMotionSizes, ImplicitSizes
from ...weights.crop_size import INPUT_SIZE as SIZE_NAME
from ...weights.load import load_strict

NUM_KEYPOINTS = 15
SMALL = 0.1  # of the first weights of expression and translation
SETTLE = 15  # steps of power iteration for new weights


@dataclass(frozen=True)
class RendererSizes:
    """Sizes of all networks of a renderer."""

    picture: ImplicitSizes
    detector: DetectorSizes
    estimator: EstimatorSizes


SIZES = {
    "public": RendererSizes(PUBLIC_SIZES, DetectorSizes(), EstimatorSizes()),
    # about 0.25 s a picture, forward and backward, at 128 pixels on one core
    "small": RendererSizes(
        ImplicitSizes(
            NUM_KEYPOINTS, width=16, volume_channels=8, volume_depth=4, num_resblocks=2, spade_hidden=16, num_middle=2,
            motion=DenseMotionSizes(width=8, max_width=64, num_blocks=3, compress=4, kernel=3),
        ),
        DetectorSizes(NUM_KEYPOINTS, width=8, max_width=64, num_blocks=3, depth=4),
        EstimatorSizes(NUM_KEYPOINTS, width=8, depths=(1, 1, 2, 1)),
    ),
    "tiny": RendererSizes(
        ImplicitSizes(
            NUM_KEYPOINTS, width=8, volume_channels=4, volume_depth=4, num_resblocks=1, spade_hidden=16, num_middle=2,
            motion=DenseMotionSizes(width=8, max_width=32, num_blocks=2, compress=2, kernel=3),
        ),
        DetectorSizes(NUM_KEYPOINTS, width=4, max_width=32, num_blocks=3, depth=4, shrink=2),
        EstimatorSizes(NUM_KEYPOINTS, width=4, depths=(1, 1, 1, 1)),
    ),
}  # fmt: skip


def new_renderer(size: str, resolution: int = INPUT_SIZE, seed: int = 0) -> FaceVid2Vid:
    """A renderer with random weights, for training: its generator has spectral norm.

    Args:
        size: of SIZES.
        resolution: side of the crops.
        seed: of the weights.

    Raises:
        InputError: crops too small for the networks.
    """
    sizes = SIZES[size]
    halvings = sizes.picture.motion.num_blocks + 2
    if resolution % 2**halvings or resolution < 64:
        raise InputError(
            f"resolution must be a multiple of {2**halvings} from 64 for {size} networks, not {resolution}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FaceVid2Vid(
            sizes.picture, sizes.detector, sizes.estimator, input_size=resolution, spectral_norm=True
        ).float()
    with torch.no_grad():
        for head in (model.he_estimator.fc_exp, model.he_estimator.fc_t):
            head.weight *= SMALL  # faces begin without expression, in the middle
    return model


def rotations(angles_deg: Tensor) -> Tensor:
    """(B, 3, 3) rotations of the family's (B, 3) pitch, yaw and roll, with gradients."""
    about_x, about_y, about_z = axis_rotations(angles_deg, HALF_TURN)
    return about_x @ about_y @ about_z


@torch.no_grad()
def plain_renderer(model: FaceVid2Vid) -> FaceVid2Vid:
    """A copy without spectral norm, whose weights are divided by it; for inference.

    A copy of the modules themselves would share their classes, from which the norm cannot be taken for one alone.
    """
    tensors = {n: t for n, t in model.state_dict().items() if "parametrizations" not in n}
    was_training = model.training
    model.eval()  # the norm's vectors stay as they are
    for name, module in model.named_modules():
        if is_parametrized(module, "weight"):
            tensors[f"{name}.weight"] = module.weight.detach().clone()
    model.train(was_training)
    detector, estimator = (
        detector_sizes(model.kp_detector.state_dict(), ""),
        estimator_sizes(model.he_estimator.state_dict(), ""),
    )
    plain = FaceVid2Vid(model.sizes, detector, estimator, input_size=model.input_size)
    return load_strict(plain, tensors, "the trained renderer")


def save_renderer(model: FaceVid2Vid, path: Path, metadata: Mapping[str, str]) -> Path:
    """Write a renderer in the public layout of face-vid2vid, as one safetensors file.

    Args:
        model: with or without spectral norm.
        path: of the file.
        metadata: texts beside it.

    Raises:
        OutputError: the file cannot be written.
    """
    parts = public_tensors(plain_renderer(model))
    flat = {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    return save_tensors(flat | {SIZE_NAME: torch.tensor(model.input_size)}, path, metadata)


@torch.no_grad()
def start_from(model: FaceVid2Vid, network: nn.Module, source: str) -> FaceVid2Vid:
    """Put the weights of an opened renderer into one with spectral norm.

    Raises:
        InputError: they are of other sizes.
    """
    weights = network.state_dict()
    tensors = model.state_dict()
    original = "parametrizations.weight.original"
    for name, tensor in tensors.items():
        plain = name.replace(original, "weight")
        if plain not in weights:
            continue  # vectors of the norm, which follow
        if weights[plain].shape != tensor.shape:
            raise InputError(
                f"{source} does not fit: {plain} is {tuple(weights[plain].shape)} instead of {tuple(tensor.shape)}; "
                "choose the size that it was trained with."
            )
        tensor.copy_(weights[plain])
    missing = [n for n in tensors if n.replace(original, "weight") not in weights and "parametrizations" not in n]
    if missing:
        raise InputError(f"{source} lacks {', '.join(missing[:4])}; give a renderer that `train keypoints` wrote.")
    _settle_spectral_norm(model)
    return model


def _settle_spectral_norm(model: nn.Module) -> None:
    """Let the vectors of spectral norm find the new weights: in training, each look is a step of power iteration."""
    for module in model.modules():
        if is_parametrized(module, "weight"):
            module.train()
            for _ in range(SETTLE):
                _ = module.weight
