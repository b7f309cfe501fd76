"""Settings of the lip renderer's training, and their TOML reader."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from ...checks import check_choice, check_range
from ...errors import InputError
from ...renderers.lip.sizes import ABLATIONS, DECODERS, IPLAP_DECODER, NOSE_TO_CHIN, LipConfig
from ..identitynet.config import read_settings, read_toml
from ..loop.config import TrainerConfig, other_default

MAX_WEIGHT = 1e6
VGG_RANGES = ("unit", "iplap")
NETWORKS: dict[str, dict[str, object]] = {  # fields of LipConfig
    "public": {},  # the paper's
    "small": {"narrow": 16, "wide": 64, "hidden": 48, "audio": (16, 32, 64, 64, 128), "attention": 64},
    "tiny": {"narrow": 8, "wide": 32, "hidden": 16, "audio": (4, 8, 16, 16, 32), "attention": 16, "blocks": 1},
    "quick": {
        "narrow": 8,
        "wide": 32,
        "hidden": 16,
        "audio": (8, 16, 24, 32, 48),
        "attention": 32,
        "blocks": 1,
        "half_flow": True,
        "framing": NOSE_TO_CHIN,
        "usual_references": 12,
        "usual_lips": 1,
        "nearest": 3,
    },
    "mini": {"narrow": 10, "wide": 48, "hidden": 16, "audio": (4, 8, 16, 16, 32), "attention": 32, "blocks": 1},
}
LATER = ("decoder", "nearest_lips", "lip_guide", "lip_warp")  # settings of networks that came after the first runs
# settings that a file to go on from has of its own
OF_START = ("networks", "size", "keep_references", "ablate", "crop_pad", *LATER)
USUAL_LIPS_OF_NEAREST = 12  # lip references of a film, where each frame has the nearest of them


@dataclass(frozen=True)
class LipWeights:
    """Weights of the losses; the paper's, which are those in IP-LAP's public code. 0 leaves a loss out."""

    warp: float = 2.5  # λ_w: VGG-19's features of the aligned references; from the first step
    render: float = 4.0  # λ_r: of the painted picture
    style: float = 1000.0  # λ_s: Gram matrices of those features
    gan: float = 0.25  # λ_g: least squares
    feature_matching: float = 2.5  # λ_f: of each of the discriminator's layers
    lips: float = 0.0  # ours: absolute difference of colours in a box around the lips
    lips_squared: float = 0.0  # ours: squared difference there, for which large errors, as of teeth, count more

    def __post_init__(self) -> None:
        for name in (f.name for f in dataclasses.fields(self)):
            check_range(getattr(self, name), 0, MAX_WEIGHT, f"weights.{name}")


@dataclass(frozen=True)
class LipTrainer(TrainerConfig):
    """Trainer settings: the paper's Adam and batch. The discriminator has the same, with betas of 0.5 and 0.999."""

    optimizer: str = other_default("optimizer", "adam")
    weight_decay: float = other_default("weight_decay", 0.0)
    clip_norm: float = other_default("clip_norm", 0.0)
    learning_rate: float = other_default("learning_rate", 1e-4)
    steps: int = other_default("steps", 200_000)
    batch_size: int = other_default("batch_size", 96)
    gradient_accumulation: int = other_default("gradient_accumulation", 1)


@dataclass(frozen=True)
class LipTraining:
    """Settings of the lip renderer's training."""

    data: Path  # folder that `portraittalk prepare` has made
    out: Path  # folder for the weight file, checkpoints, samples, the log, and the clips' face crops
    clips: Path | None = None  # text file with the names of the clips to learn from; None takes all
    held_out: Path | None = None  # text file with the names of the clips to score on; None scores on those learnt from
    start: Path | None = None  # a file of this training to go on from; None begins with random weights
    alignment: Path | None = None  # IP-LAP's renderer_checkpoint.pth, whose alignment is begun with; research use
    vgg19: Path | None = None  # torchvision's vgg19-dcbb9e9d.pth
    pixels: bool = False  # colours at sizes that halve, in the place of VGG-19's features; there is no style then
    scales: int = 2  # sizes at which pictures are compared, each half the one before
    vgg_range: str = "unit"  # "iplap" feeds VGG-19 as IP-LAP does: colours of 0..1 as if they were of −1..1
    networks: str = "public"  # widths of the layers: the paper's; "small" to "tiny" are for a CPU; `start` has its own
    size: int = 128  # side of the face crops, pixels
    keep_references: bool = False  # ours: what is painted is added to the aligned references, and begins as 0
    decoder: str = IPLAP_DECODER  # SPADE blocks of the rendering; "spade": SPADE's own, which learn from lips sooner
    nearest_lips: int = 0  # ours: lip references of each frame, whose mouths are drawn most like its own; 0: all
    lip_guide: bool = False  # ours: lip references guide the rendering's last block as well, at full size
    lip_warp: bool = False  # ours: warped to the frame's landmarks before they guide; what is painted is added to them
    ablate: str = "none"  # align, align-mean, lips, audio: what is left out
    crop_pad: float = 0.1  # room around the face, of the longer side of its landmarks' box; kept in the file
    references: int = 3  # other frames that are aligned
    lip_references: int = 5
    varied: bool = False  # ours: every batch has 1 to `references` of them, and 1 to `lip_references`
    warmup_epochs: int = 26  # passes through the clips, one window of each, in which alignment alone is judged, …
    warmup_steps: int = 2000  # … and at least so many steps; with `start` there are none
    freeze_alignment: bool = False  # ours: the alignment of `start` stays as it is, and rendering alone learns
    augment: bool = False  # colours, and mirrored faces: for data of few people
    opening_noise: float = 0.0  # ours: a window's mouths are drawn open by a factor of 1 ± this, as engines guess them
    discriminator_width: int = 64  # channels of its first layer
    discriminator_scales: int = 2
    weights: LipWeights = field(default_factory=LipWeights)
    trainer: LipTrainer = field(default_factory=LipTrainer)

    def __post_init__(self) -> None:
        check_choice(self.networks, tuple(NETWORKS), "networks")
        check_choice(self.ablate, ABLATIONS, "ablate")
        check_choice(self.decoder, DECODERS, "decoder")
        check_choice(self.vgg_range, VGG_RANGES, "vgg_range")
        check_range(self.crop_pad, 0, 2, "crop_pad")
        for name, most in (("references", 100), ("lip_references", 100), ("scales", 8), ("discriminator_scales", 8)):
            check_range(getattr(self, name), 1, most, name)
        check_range(self.nearest_lips, 0, self.lip_references, "nearest_lips")
        check_range(self.discriminator_width, 1, 512, "discriminator_width")
        check_range(self.opening_noise, 0, 1, "opening_noise")
        check_range(self.warmup_epochs, 0, 10**6, "warmup_epochs")
        check_range(self.warmup_steps, 0, 10**9, "warmup_steps")
        self._check_losses()
        if self.start is not None and self.alignment is not None:
            raise InputError("start has an alignment of its own; leave alignment out.")
        if self.start is None:
            _ = self.model  # its sizes are checked
            return
        standard = {f.name: f.default for f in dataclasses.fields(self)}
        given = [name for name in OF_START if getattr(self, name) != standard[name]]
        if given:
            raise InputError(f"the file of start has its own {', '.join(OF_START)}; leave {', '.join(given)} out.")

    def _check_losses(self) -> None:
        weights = self.weights
        if not self.pixels and self.vgg19 is None and (weights.warp or weights.render or weights.style):
            raise InputError(
                "the losses need vgg19, torchvision's vgg19-dcbb9e9d.pth; without it set pixels = true, which compares "
                "colours (softer pictures)."
            )
        if self.pixels and self.vgg19 is not None:
            raise InputError("pixels = true takes the place of vgg19; leave one of them out.")
        if not weights.render and not weights.lips and not weights.lips_squared:
            raise InputError(
                "weights.render, lips and lips_squared are all 0: nothing says what a mouth should look like."
            )
        if self.freeze_alignment and self.start is None and self.alignment is None:
            raise InputError("freeze_alignment keeps what start or alignment has learnt; give one of them.")
        if weights.feature_matching and not weights.gan:
            raise InputError("weights.feature_matching needs a discriminator, which weights.gan = 0 leaves out.")

    @property
    def model(self) -> LipConfig:
        """Sizes of networks that begin with random weights."""
        pads = {"crop_pad_px": 0.0, "crop_pad_share": float(self.crop_pad)}
        own = {"size": self.size, "ablate": self.ablate, "keep_references": self.keep_references}
        own |= {name: getattr(self, name) for name in LATER}
        sizes = {**NETWORKS[self.networks], **({"usual_lips": USUAL_LIPS_OF_NEAREST} if self.nearest_lips else {})}
        return LipConfig(**own, **pads, **sizes)


def load_lip_config(path: Path) -> LipTraining:
    """Read the settings from a TOML file; relative paths in it start at its own folder.

    Raises:
        InputError: not there, no TOML, an unknown or absent name, or a value of another type or out of range.
        MissingDependency: Python 3.10 without tomli.
    """
    return read_settings(LipTraining, read_toml(path), Path(path))
