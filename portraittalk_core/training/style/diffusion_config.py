"""Settings of SVP's first two fine-tuning stages: single frames, then consecutive frames with motion and sound."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...checks import check_choice, check_range
from ...errors import InputError
from ..loop.config import TrainerConfig, other_default

SINGLE, MULTI = "single", "multi"
GUIDER_POINTS = (3, 8)  # that a guider may see: V-Express's, or SVP's


@dataclass(frozen=True)
class DiffusionTrainer(TrainerConfig):
    """Trainer settings of the diffusion model; V-Express's AdamW, since SVP does not tell its own."""

    steps: int = other_default("steps", 30_000)
    learning_rate: float = other_default("learning_rate", 1e-5)


@dataclass(frozen=True)
class DiffusionTraining:
    """Settings of the stages "single" and "multi"; their files are V-Express's five, which the last stage takes.

    Source: SVP, section 3.4; what it does not tell is V-Express's, see `docs/design/styles.md` 5.
    """

    checkpoint: Path  # any single-file SD1.5: UNet and ReferenceNet begin as its UNet; in "multi" its VAE counts alone
    data: Path  # folder that `portraittalk prepare` has made
    out: Path  # folder for the weight files, checkpoints, samples and the log
    stage: str = SINGLE
    start: tuple[Path, ...] | None = None  # files or their folder to go on from; "multi": those of "single"
    motion: Path | None = None  # "multi": AnimateDiff's motion modules (mm_sd_v15_v2.ckpt); None begins anew
    speech_encoder: Path | None = None  # "multi": weight file of wav2vec 2.0 base, to hear by
    guider_points: int = 8  # "single": points of the head that the guider sees; V-Express's are 3
    frames: int = 8  # "multi": of a clip
    resolution: int = 512  # pixels
    drop: float = 0.1  # share of clips without reference, head and sound
    noise_offset: float = 0.0  # of each frame's noise as a whole; V-Express's 0.05
    snr_limit: float = 5.0  # of the loss's weight; 0 weighs all noise levels alike
    sample_steps: int = 25  # of a sample picture, by Euler's method
    gradient_checkpointing: bool = False  # less memory, about a third slower
    trainer: DiffusionTrainer = field(default_factory=DiffusionTrainer)

    def __post_init__(self) -> None:
        check_choice(self.stage, (SINGLE, MULTI), "stage")
        if self.guider_points not in GUIDER_POINTS:
            raise InputError(f"guider_points must be {' or '.join(map(str, GUIDER_POINTS))}, not {self.guider_points}.")
        check_range(self.frames, 2, 32, "frames")
        check_range(self.resolution, 64, 2048, "resolution")
        check_range(self.sample_steps, 1, 1000, "sample_steps")
        for name, low, high in (("drop", 0, 0.99), ("noise_offset", 0, 1), ("snr_limit", 0, 1e6)):
            check_range(getattr(self, name), low, high, name)
        if self.resolution % 64:
            raise InputError(f"resolution must be a multiple of 64, not {self.resolution}.")
        if self.stage == MULTI:
            self._check_multi()
            return
        for name in ("motion", "speech_encoder"):
            if getattr(self, name) is not None:
                raise InputError(f"{name} is for the stage {MULTI!r}; leave it out of {SINGLE!r}.")

    @property
    def clip_frames(self) -> int:
        """Number of frames of a clip."""
        return 1 if self.stage == SINGLE else self.frames

    def _check_multi(self) -> None:
        if not self.start:
            raise InputError(f"the stage {MULTI!r} needs start, the folder that the stage {SINGLE!r} has written.")
        if self.speech_encoder is None:
            raise InputError(f"the stage {MULTI!r} needs speech_encoder, wav2vec 2.0 base's weight file, to hear by.")
