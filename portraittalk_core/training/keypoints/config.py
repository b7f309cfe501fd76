"""Settings of keypoint training, and their TOML reader."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from ...checks import check_choice, check_range
from ...errors import InputError
from ..identitynet.config import read_settings, read_toml
from ..loop.config import AdamTrainer, other_default
from .networks import SIZES
from .variation import Variation

MAX_WEIGHT = 1e4
LEARN = ("all", "keypoints", "pictures")


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses; defaults of face-vid2vid. 0 leaves a loss out."""

    perceptual: float = 10.0  # of each of VGG-19's five layers at each scale; needs vgg19
    pixels: float = 0.0  # of the absolute difference of colours at each scale; stands for perceptual without VGG-19
    landmarks: float = 0.0  # of the difference of the face mesh that our own network finds in both pictures
    guide: float = 0.0  # Wing loss between the first keypoints and landmarks of lips, eyes and chin (LivePortrait)
    flow: float = 0.0  # of where the dense motion leads landmarks, in pixels of 256; teaches it before pictures can
    lips: float = 0.0  # of colours, or of VGG-19's layers, in a box around the lips alone (LivePortrait)
    eyes: float = 0.0  # the same of both eyes
    gan: float = 1.0  # hinge
    feature_matching: float = 10.0  # of each of the discriminator's layers
    lower_face: float = 0.0  # share of adversarial losses and pixels that counts the lower middle; ControlTalk: 0.667
    keypoint_prior: float = 10.0
    head_pose: float = 20.0  # against our own measure
    expression: float = 5.0  # size of the expression
    equivariance: float = 10.0

    def __post_init__(self) -> None:
        for name in (f.name for f in dataclasses.fields(self)):
            check_range(getattr(self, name), 0, 1 if name == "lower_face" else MAX_WEIGHT, f"weights.{name}")


@dataclass(frozen=True)
class KeypointTrainer(AdamTrainer):
    """Trainer settings of both optimisers; face-vid2vid's Adam."""

    betas: tuple[float, float] = other_default("betas", (0.5, 0.999))
    clip_norm: float = other_default("clip_norm", 0.0)
    learning_rate: float = other_default("learning_rate", 2e-4)
    steps: int = other_default("steps", 100_000)
    batch_size: int = other_default("batch_size", 16)


@dataclass(frozen=True)
class KeypointTraining:
    """Settings of keypoint training."""

    data: Path  # folder that `portraittalk prepare` has made
    out: Path  # folder for the weight file, checkpoints, samples and the log
    clips: Path | None = None  # text file with the names of the clips to learn from; None takes all
    start: Path | None = None  # a renderer's file or folder to go on from; None begins with random weights
    vgg19: Path | None = None  # torchvision's vgg19-dcbb9e9d.pth; needed where weights.perceptual is above 0
    size: str = "public"  # of the networks; "small" and "tiny" are for a CPU
    resolution: int = 256  # pixels
    scales: int = 4  # sizes at which pictures are compared, each half the one before
    learn: str = "all"  # "keypoints" alone, without pictures, in a fifth of the time; "pictures": keypoints stay
    freeze_norm: int = 0  # step after which batch norm keeps its statistics, for few pairs a step; 0: never
    augment: bool = False  # colours, and mirrored faces: for data of few people
    discriminator_width: int = 64  # channels of its first layer
    discriminator_scales: int = 2
    variation: Variation = field(default_factory=Variation)  # of places, shapes and light
    weights: LossWeights = field(default_factory=LossWeights)
    trainer: KeypointTrainer = field(default_factory=KeypointTrainer)

    def __post_init__(self) -> None:
        check_choice(self.size, tuple(SIZES), "size")
        check_range(self.resolution, 64, 1024, "resolution")
        check_range(self.scales, 1, 8, "scales")
        check_choice(self.learn, LEARN, "learn")
        check_range(self.freeze_norm, 0, 10**9, "freeze_norm")
        check_range(self.discriminator_width, 1, 512, "discriminator_width")
        check_range(self.discriminator_scales, 1, 8, "discriminator_scales")
        weights = self.weights
        if weights.perceptual and self.vgg19 is None:
            raise InputError(
                "weights.perceptual needs vgg19, torchvision's vgg19-dcbb9e9d.pth; without it set perceptual = 0 and "
                "pixels = 10 (softer pictures)."
            )
        if not weights.perceptual and not weights.pixels:
            raise InputError(
                "weights.perceptual and weights.pixels are both 0: nothing says what a picture should show."
            )
        if self.learn == "keypoints" and not weights.guide:
            raise InputError("learn = keypoints needs weights.guide: without pictures nothing says where they lie.")
        if self.learn == "pictures" and self.start is None:
            raise InputError("learn = pictures needs start, a renderer whose keypoints have learnt already.")
        if weights.feature_matching and not weights.gan:
            raise InputError("weights.feature_matching needs a discriminator, which weights.gan = 0 leaves out.")


def load_keypoint_config(path: Path) -> KeypointTraining:
    """Read the settings from a TOML file; relative paths in it start at its own folder.

    Raises:
        InputError: not there, no TOML, an unknown or absent name, or a value of another type or out of range.
        MissingDependency: Python 3.10 without tomli.
    """
    return read_settings(KeypointTraining, read_toml(path), Path(path))
