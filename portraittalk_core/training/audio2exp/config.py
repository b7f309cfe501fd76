"""Settings of Audio2Exp's training, and their TOML reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...checks import check_choice, check_range
from ...losses.sync import KINDS
from ..identitynet.config import read_settings, read_toml
from ..loop.config import AdamTrainer, other_default

SILENT_TARGETS = ("expression", "sync", "none")


@dataclass(frozen=True)
class Audio2ExpTrainer(AdamTrainer):
    """Trainer settings of Audio2Exp; ControlTalk's learning rate."""

    clip_norm: float = other_default("clip_norm", 0.0)  # the silent pass's gradient would hide that of lip sync
    learning_rate: float = other_default("learning_rate", 1e-5)
    steps: int = other_default("steps", 50_000)
    batch_size: int = other_default("batch_size", 4)


@dataclass(frozen=True)
class Audio2ExpTraining:
    """Settings of Audio2Exp's training."""

    data: Path  # folder that `portraittalk prepare` has made
    renderer: Path  # keypoint renderer, a file or the folder of its files; frozen
    sync: Path  # sync.safetensors of `train sync`; its sound encoder becomes Audio2Exp's
    out: Path  # folder for the weight file, checkpoints, samples, the log and kept keypoints
    clips: Path | None = None  # text file with the names of the clips to learn from; None takes all
    hubert: Path | None = None  # weight file that the lip-sync network was trained with; None: log-mel rows
    vgg19: Path | None = None  # torchvision's vgg19-dcbb9e9d.pth; None compares pixels
    perceptual: float = 1.0  # λ_p of equation 6, outside the mouth
    sync_weight: float = 0.3  # λ_sync of equation 6; 1 overfits the mouth
    sync_loss: str = "log"  # −log cos; "printed": the cosine, as equation 5 has it, which drives the mouth out of sync
    ramp: float = 0.5  # share of the steps in which alpha rises from 0 to 1
    silence: float = 0.5  # share of windows that are shut by the silent pass first
    silent_target: str = "expression"  # of that pass: the face as it is with shut lips; "sync": with silence; "none"
    silent_weight: float = 1.0  # of that loss, which is 1 in the mean where the pass does nothing
    range_weight: float = 1.0  # of expressions beyond the clips' own, which lip sync asks for; 0: as in the paper
    other_audio: float = 0.5  # share of windows that hear another time of their clip
    train_audio_encoder: bool = False  # True fine-tunes the sound encoder too
    trainer: Audio2ExpTrainer = field(default_factory=Audio2ExpTrainer)

    def __post_init__(self) -> None:
        check_choice(self.sync_loss, KINDS, "sync_loss")
        check_choice(self.silent_target, SILENT_TARGETS, "silent_target")
        for name in ("ramp", "silence", "other_audio"):
            check_range(getattr(self, name), 0, 1, name)
        for name in ("perceptual", "sync_weight", "silent_weight", "range_weight"):
            check_range(getattr(self, name), 0, 1e4, name)

    def alpha_at(self, step: int, steps: int) -> float:
        """Alpha of a step, from 1: rises linearly over the first part of the training, then stays 1."""
        rising = self.ramp * steps
        return min(1.0, step / rising) if rising else 1.0


def load_audio2exp_config(path: Path) -> Audio2ExpTraining:
    """Read the settings from a TOML file; relative paths in it start at its own folder.

    Raises:
        InputError: not there, no TOML, an unknown or absent name, or a value of another type or out of range.
        MissingDependency: Python 3.10 without tomli.
    """
    return read_settings(Audio2ExpTraining, read_toml(path), Path(path))
