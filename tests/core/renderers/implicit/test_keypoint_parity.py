"""Networks of keypoint models at tiny sizes, against what the public code gave for the same weights and pictures.

Weights and pictures are sines, so that both sides can make them. Recorded with KlingAIResearch/LivePortrait 1986663 and
zhanglonghao1992/One-Shot_Free-View_Neural_Talking_Head_Synthesis 9511d25; true sizes: benchmarks/parity_implicit.py.
"""

import pytest
import torch
from torch import Tensor, nn

from portraittalk_core.renderers.implicit.appearance import AppearanceEncoder
from portraittalk_core.renderers.implicit.dense_motion import Warping
from portraittalk_core.renderers.implicit.facevid2vid.keypoint_detector import DetectorSizes, KeypointDetector
from portraittalk_core.renderers.implicit.liveportrait.motion_extractor import ExtractorSizes, MotionExtractor
from portraittalk_core.renderers.implicit.sizes import DenseMotionSizes, ImplicitSizes
from portraittalk_core.renderers.implicit.spade import SpadeGenerator
from portraittalk_core.renderers.implicit.spectral import NORMED, spectral_vectors

SIZES = ImplicitSizes(21, 4, 4, 4, 2, DenseMotionSizes(4, 8, 2, 2), upscale=2)
EXTRACTOR = ExtractorSizes(21, (1, 1, 2, 1), (4, 8, 8, 8))
DETECTOR = DetectorSizes(15, 4, 16, 2, 4)
HEADS = ("pitch", "yaw", "roll", "t", "exp")


def sines(*shape: int, seed: float) -> Tensor:
    """Numbers of -1..1 that only repeat after very many."""
    count = int(torch.tensor(shape).prod())
    return torch.sin(torch.arange(count, dtype=torch.float64) * 1.7 + seed).float().reshape(shape)


def filled(network: nn.Module) -> nn.Module:
    """The network with sines for weights and running statistics, in evaluation mode."""
    state = network.state_dict()
    for i, (name, tensor) in enumerate(sorted(state.items())):
        values = sines(*tensor.shape, seed=i) if tensor.ndim else tensor
        if name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
            state[name] = 1 + values / 2
        elif tensor.ndim > 1:
            state[name] = values * (2 / max(tensor[0].numel(), 1)) ** 0.5
        elif tensor.ndim:
            state[name] = values / 4
        if NORMED.search(name):
            left, right = spectral_vectors(state[name])
            state[name] = state[name] / (left @ (state[name].flatten(1) @ right))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def picture() -> Tensor:
    return (sines(1, 3, 32, 32, seed=0.5) + 1) / 2


def points(seed: float) -> Tensor:
    return sines(1, 21, 3, seed=seed) / 2


def some(values: Tensor) -> list[float]:
    """Eight of the numbers, spread over all, and their mean."""
    flat = values.flatten()
    return [*flat[:: max(len(flat) // 7, 1)][:8].tolist(), float(flat.mean())]


RECORDED = {
    "appearance": [
        -0.2736621,
        -0.7225598,
        1.162906,
        -0.4843565,
        0.7650781,
        -0.2638233,
        1.742403,
        -1.350548,
        -0.0726436,
    ],
    "warping": [
        0.006280992,
        -0.3220529,
        0.4254453,
        -0.2308439,
        -0.3166426,
        -0.02187008,
        0.1995709,
        -0.1748319,
        -0.003324459,
    ],
    "picture": [0.566618, 0.4973234, 0.5843542, 0.4694368, 0.463452, 0.5293877, 0.5740566, 0.5491621, 0.5036969],
    "motion extractor": [
        -1.559419,
        1.672391,
        -1.258928,
        -1.065755,
        1.384102,
        -0.8692681,
        1.308787,
        -1.494991,
        -0.008383635,
    ],
    "keypoint detector": [
        0.9346622,
        -0.139348,
        0.7131929,
        0.4092781,
        0.693533,
        0.2597231,
        0.6894229,
        0.1928349,
        0.2323422,
    ],
}


def check(name: str, values: Tensor, tolerance: float = 1e-5) -> None:
    assert some(values) == pytest.approx(RECORDED[name], rel=1e-4, abs=tolerance)


def test_the_appearance_encoder():
    check("appearance", filled(AppearanceEncoder(SIZES))(picture()))


def test_the_warping():
    volume = sines(1, 4, 4, 8, 8, seed=2)
    check("warping", filled(Warping(SIZES))(volume, points(3), points(4)))


def test_the_generator():
    check("picture", filled(SpadeGenerator(SIZES))(sines(1, 16, 8, 8, seed=5)))


def test_live_portraits_motion_extractor():
    heads = filled(MotionExtractor(EXTRACTOR))(picture())
    check("motion extractor", torch.cat([heads[name] for name in ("kp", "scale", *HEADS)], 1))


def test_face_vid2vids_keypoint_detector():
    check("keypoint detector", filled(KeypointDetector(DETECTOR))(picture()))
