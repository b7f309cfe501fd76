"""Settings of AnimateNet's two training stages, and their TOML reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...checks import check_choice, check_range
from ...diffusion.motion_module_files import VERSIONS
from ...diffusion.motion_modules import BETAS
from ...errors import InputError
from ...renderers.animatenet.landmark_control import STYLES
from ...renderers.identitynet.options import COMBINATIONS
from ..data.options import POOL
from ..identitynet.config import ATTENTIONS, read_settings, read_toml
from ..loop.config import TrainerConfig

STAGES = ("spatial", "joint")  # without temporal attention; then with it, everything together
GIVEN_KINDS = ("clean", "noised")
DROPS = ("drop_image", "drop_text", "drop_both")
# these act only with an identity
OF_IDENTITY = (
    "identity", "face_models", "clip_vision", "references", "combine", "remove_background", "train_identity",
    "attention", *DROPS,
)  # fmt: skip
BATCH_UNITS = ("clips", "frames")


@dataclass(frozen=True)
class AnimateTraining:
    """Settings of AnimateNet's training."""

    checkpoint: Path  # any single-file SD1.5
    data: Path  # folder that `portraittalk prepare` has made; a caption.txt beside a video's frames is its text
    out: Path  # folder for the weight files, checkpoints, samples and the log
    stage: str = "spatial"  # or "joint", which starts from the files of "spatial"
    controlnet: Path | None = None  # to start from; None is a copy of the checkpoint's UNet ("spatial" only)
    animate_net: Path | None = None  # to start from; None is one that adds nothing yet
    motion: Path | None = None  # joint: motion modules to start from; None are new ones
    # a face adapter for SD1.5, as IdentityNet's training writes it or any other: the UNet sees each clip's own face in
    # it, as Eq. 2 has it; None trains with the plain UNet
    identity: Path | None = None
    face_models: Path | None = None  # with identity: folder with InsightFace's buffalo_l, for videos without embedding
    clip_vision: Path | None = None  # with an identity of FaceID plus or IP-Adapter: CLIP-ViT-H's file
    drop_image: float = 0.05  # with identity: share of clips without the face condition,
    drop_text: float = 0.05  # … without the caption,
    drop_both: float = 0.05  # … without either
    references: int = 1  # with identity: pictures of the person that every clip sees; 1 is its reference frame
    combine: str = "auto"  # how: "average", "concat"; "auto" is what the adapter's layout is made for
    remove_background: bool = False  # before a face is described
    attention: str = "decoupled"  # as the adapter was trained, see IdentityTraining
    train_identity: bool = False  # the adapter, with its LoRA, learns too and is written beside the other files
    train_unet: bool = False  # all of the UNet's own weights too; writes a whole checkpoint besides
    # AnimateNet's features are looked at by the UNet's cross-attentions too (painting: --features 1)
    features: bool = False
    # the last finished frame and its head placement condition the next, as when painting one after another
    previous: bool = False
    # what batch_size counts: "frames" as the paper's, so that an epoch shows as many frames as there are
    batch_unit: str = "clips"
    motion_version: str = "v3"  # of new ones
    # noise levels of new ones: as AnimateDiff's, so that every pack can use them; "scaled_linear": as the checkpoint's
    betas: str = "linear"
    train_controlnet: bool = True  # False trains only AnimateNet's own branches, and the motion modules
    head_placement: bool = True  # False: landmarks stay where the reference's head stands, without placement tokens
    # landmarks stay where the reference's head stands, so that placement tokens alone tell where it goes
    centred_hint: bool = False
    frames: int = 16  # of a clip of the joint stage
    overlap: int = 4  # joint: so many first frames of a clip, at most, are given as if made already
    given_share: float = 0.75  # joint: share of clips that are given frames; the others begin a video
    given: str = "noised"  # as noisy as the rest, as the "chunked" sampler has them; "clean": as they are
    resolution: int = 512  # pixels
    style: str = "mediapipe_face"  # of the drawing
    snr_limit: float = 5.0  # of the loss's weight; 0 weighs all noise levels alike, as Eq. 2 does
    tokenizer: Path | None = None  # folder with CLIP's, for captions; None looks where diffusion.text does
    gradient_checkpointing: bool = False  # less memory, about a third slower
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        check_choice(self.stage, STAGES, "stage")
        check_choice(self.motion_version, VERSIONS, "motion_version")
        check_choice(self.betas, BETAS, "betas")
        check_choice(self.given, GIVEN_KINDS, "given")
        check_choice(self.style, STYLES, "style")
        check_range(self.frames, 2, 64, "frames")
        if not 0 <= self.overlap < self.frames:
            raise InputError(f"an overlap of {self.overlap} does not fit clips of {self.frames} frames; take less.")
        check_range(self.given_share, 0, 1, "given_share")
        check_choice(self.batch_unit, BATCH_UNITS, "batch_unit")
        if self.batch_unit == "frames" and self.trainer.batch_size % self.clip_frames:
            raise InputError(
                f"batch_size counts frames here: {self.trainer.batch_size} is no multiple of a clip's "
                f"{self.clip_frames} frames; take {self.clip_frames} and set gradient_accumulation to match."
            )
        check_range(self.references, 1, POOL, "references")
        check_choice(self.combine, COMBINATIONS, "combine")
        check_choice(self.attention, ATTENTIONS, "attention")
        if self.train_identity and self.identity is None:
            raise InputError("train_identity needs identity, the face adapter that is to learn on.")
        check_range(self.snr_limit, 0, 1e6, "snr_limit")
        for name in DROPS:
            check_range(getattr(self, name), 0, 1, name)
        if sum(getattr(self, name) for name in DROPS) > 1:
            raise InputError(f"{', '.join(DROPS)} are more than 1 together; lower them.")
        check_range(self.resolution, 64, 2048, "resolution")
        if self.resolution % 64:
            raise InputError(f"resolution must be a multiple of 64, not {self.resolution}.")

    @property
    def clip_frames(self) -> int:
        """Frames of a clip in this stage."""
        return self.frames if self.stage == "joint" else 1

    @property
    def batch_clips(self) -> int:
        """Clips that are in memory at a time."""
        size = self.trainer.batch_size
        return size // self.clip_frames if self.batch_unit == "frames" else size


def load_animate_config(path: Path) -> AnimateTraining:
    """Read the settings from a TOML file; relative paths in it start at its own folder.

    Raises:
        InputError: not there, no TOML, an unknown or absent name, or a value of another type or out of range.
        MissingDependency: Python 3.10 without tomli.
    """
    return read_settings(AnimateTraining, read_toml(path), Path(path))
