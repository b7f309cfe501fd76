"""Settings of style training's stages, and their TOML reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...checks import check_choice, check_range
from ...errors import InputError
from ...renderers.animatenet.landmark_control import STYLES as DRAWINGS
from ...style.extractor_files import BUILT_IN, ExtractorSizes
from ...style.features import AUDIO_WIDTHS, EXPRESSION_WIDTHS, WHISPER
from ..identitynet.config import read_settings, read_toml
from ..loop.config import TrainerConfig, other_default
from .diffusion_config import MULTI, SINGLE, DiffusionTraining
from .discriminant_config import DISCRIMINANT, DiscriminantTraining

STAGES = ("extractor", "attention", SINGLE, MULTI, DISCRIMINANT)  # style extractor; style attention; its UNet; LDA
LABELS = ("video", "folder")
CONDITIONERS = ("controlnet", "animate_net", "motion", "identity")  # conditioners of SD1.5's UNet


@dataclass(frozen=True)
class SyntheticStyles:
    """Settings of synthetic styles, for training without videos: weak style on strong content.

    Source: `docs/design/styles.md` 6.
    """

    expression_styles: int = 64  # ways to move the face; with
    vocal_styles: int = 16  # … ways to sound, every pair of the two is a style
    mark: float = 0.25  # how far a style moves each feature, where content moves it by about 1
    tempo: float = 0.1  # how far a style changes the size of movements, as a logarithm
    nuisance: float = 0.1  # how far each clip is moved for no reason

    def __post_init__(self) -> None:
        check_range(self.expression_styles, 1, 100_000, "synthetic.expression_styles")
        check_range(self.vocal_styles, 1, 100_000, "synthetic.vocal_styles")
        for name in ("mark", "tempo", "nuisance"):
            check_range(getattr(self, name), 0, 10, f"synthetic.{name}")
        if self.expression_styles * self.vocal_styles < 2:
            raise InputError("there must be two synthetic styles at least; raise expression_styles or vocal_styles.")


@dataclass(frozen=True)
class StyleTrainer(TrainerConfig):
    """Trainer settings of the extractor: SVP's Adam, which is AdamW without weight decay."""

    steps: int = other_default("steps", 2000)
    batch_size: int = other_default("batch_size", 16)  # styles that are in a batch
    gradient_accumulation: int = other_default("gradient_accumulation", 1)  # the loss compares within a batch only
    learning_rate: float = other_default("learning_rate", 1e-4)
    weight_decay: float = other_default("weight_decay", 0.0)
    ema_decay: float = other_default("ema_decay", 0.99)
    sample_every: int = other_default("sample_every", 0)


@dataclass(frozen=True)
class StyleTraining:
    """Settings of the style extractor's training."""

    out: Path  # folder for the weight file, checkpoints and the log
    stage: str = "extractor"
    data: Path | None = None  # folder that `portraittalk prepare` has made; None makes styles up
    label: str = "video"  # clips of one video are of one style; "folder": those of videos in one folder
    audio: str = "log-mel"  # or "whisper-tiny"
    audio_encoder: Path | None = None  # weight file of Whisper tiny
    expression: str = "landmarks"  # or "3dmm", "blendshapes", measured by `prepare --face-recon`
    start: Path | None = None  # an extractor, or a StyleTalk checkpoint for the expression branch; None begins anew
    frames: int = 64  # of a clip, at 25 a second
    clips: int = 4  # of each style in a batch
    width: int = 256  # of the style, and of the network
    num_layers: int = 3
    num_heads: int = 8
    feed_forward: int = 1024
    dropout: float = 0.1
    drop_audio: float = 0.2  # share of clips that are shown without sound,
    drop_expression: float = 0.2  # … without expression
    constant: float = 1.0  # C of the loss
    temperature: float = 0.1  # τ of the loss
    deterministic: bool = False  # a clip's style is its mean, not a sample: what the paper's Fig. 4 argues against
    synthetic: SyntheticStyles = field(default_factory=SyntheticStyles)
    trainer: StyleTrainer = field(default_factory=StyleTrainer)

    def __post_init__(self) -> None:
        check_choice(self.stage, STAGES, "stage")
        check_choice(self.label, LABELS, "label")
        check_choice(self.audio, tuple(AUDIO_WIDTHS), "audio")
        check_choice(self.expression, tuple(EXPRESSION_WIDTHS), "expression")
        check_range(self.frames, 8, 256, "frames")
        check_range(self.clips, 2, 256, "clips")
        check_range(self.trainer.batch_size, 2, 4096, "trainer.batch_size")
        for name in ("drop_audio", "drop_expression"):
            check_range(getattr(self, name), 0, 1, name)
        if self.drop_audio + self.drop_expression > 1:
            raise InputError("drop_audio and drop_expression are more than 1 together; lower them.")
        check_range(self.constant, 1e-6, 1e6, "constant")
        check_range(self.temperature, 1e-6, 1e6, "temperature")
        if self.data is not None and self.audio == WHISPER and self.audio_encoder is None:
            raise InputError("audio = 'whisper-tiny' needs audio_encoder, the weight file of openai/whisper-tiny.")
        _ = self.sizes

    @property
    def sizes(self) -> ExtractorSizes:
        """Sizes of the trained extractor."""
        widths = AUDIO_WIDTHS[self.audio], EXPRESSION_WIDTHS[self.expression]
        inside = self.width, self.num_layers, self.num_heads, self.feed_forward, self.dropout
        return ExtractorSizes(self.audio, self.expression, *widths, *inside)


@dataclass(frozen=True)
class StyleAttentionTrainer(TrainerConfig):
    """Trainer settings of the style attention."""

    steps: int = other_default("steps", 10_000)
    learning_rate: float = other_default("learning_rate", 1e-5)


@dataclass(frozen=True)
class StyleAttentionTraining:
    """Settings of style attention's training; all other networks stay frozen."""

    checkpoint: Path  # any single-file SD1.5; with vexpress only its VAE counts, whose own file will do
    data: Path  # folder that `portraittalk prepare` has made; a caption.txt beside a video's frames is its text
    out: Path  # folder for the weight file, checkpoints and the log
    stage: str = "attention"
    vexpress: tuple[Path, ...] | None = None  # V-Express's files, or their folder: the base, in the checkpoint's place
    speech_encoder: Path | None = None  # with vexpress: weight file of wav2vec 2.0 base
    extractor: Path | None = None  # makes the videos' styles, or "built-in"; None: motion statistics alone
    audio_encoder: Path | None = None  # weight file of Whisper tiny, for an extractor that hears by it
    start: Path | None = None  # a style attention to go on from; None is one that adds nothing yet
    num_tokens: int = 4  # of a style, of a new one
    noise: float = 0.1  # the least deviation that styles are drawn with, in spreads
    deterministic: bool = False  # styles are their means, not samples, in training and use: the paper's Fig. 4
    drop: float = 0.1  # share of clips without style, text and face; with vexpress: style, sound, head and reference
    controlnet: Path | None = None  # with animate_net: the two files of AnimateNet, frozen
    animate_net: Path | None = None
    motion: Path | None = None  # motion modules, frozen; with them or vexpress clips have `frames` frames, else one
    identity: Path | None = None  # a face adapter, frozen, which sees another frame of the person
    face_models: Path | None = None  # folder of insightface's models, for identity
    other_video: float = 0.5  # share of faces and references from another video of the person, where there is one
    frames: int = 8
    resolution: int = 512  # pixels
    drawing: str = "mediapipe_face"  # of AnimateNet's landmarks
    snr_limit: float = 5.0  # of the loss's weight; 0 weighs all noise levels alike
    tokenizer: Path | None = None  # folder with CLIP's, for captions; None looks where diffusion.text does
    gradient_checkpointing: bool = False  # less memory, about a third slower
    trainer: StyleAttentionTrainer = field(default_factory=StyleAttentionTrainer)

    def __post_init__(self) -> None:
        check_choice(self.stage, STAGES[1:2], "stage")
        if self.extractor is not None and self.extractor.name == "built-in" and not self.extractor.exists():
            object.__setattr__(self, "extractor", BUILT_IN)
        check_choice(self.drawing, DRAWINGS, "drawing")
        for name, low, high in (("noise", 0, 2), ("drop", 0, 0.99), ("other_video", 0, 1), ("snr_limit", 0, 1e6)):
            check_range(getattr(self, name), low, high, name)
        check_range(self.num_tokens, 1, 64, "num_tokens")
        check_range(self.frames, 2, 64, "frames")
        check_range(self.resolution, 64, 2048, "resolution")
        if self.resolution % 64:
            raise InputError(f"resolution must be a multiple of 64, not {self.resolution}.")
        self._check_vexpress()
        if (self.controlnet is None) != (self.animate_net is None):
            raise InputError("controlnet and animate_net belong together: give both of AnimateNet's files, or none.")
        if self.identity is not None and self.face_models is None:
            raise InputError("identity needs face_models, the folder of insightface's models, to look at faces with.")

    @property
    def clip_frames(self) -> int:
        """Number of frames of a clip."""
        return 1 if self.motion is None and self.vexpress is None else self.frames

    def _check_vexpress(self) -> None:
        if self.vexpress is None:
            if self.speech_encoder is not None:
                raise InputError("speech_encoder is for V-Express alone; give vexpress too, or leave it out.")
            return
        if self.speech_encoder is None:
            raise InputError("vexpress needs speech_encoder, the weight file of wav2vec 2.0 base, to hear by.")
        if not self.vexpress:
            raise InputError("vexpress lists no files; give the folder with V-Express's five, or each of them.")
        networks = [name for name in CONDITIONERS if getattr(self, name) is not None]
        if networks:
            raise InputError(
                f"{', '.join(networks)} cannot be used with vexpress, which has its own reference, head control and "
                "motion modules; leave one or the other out."
            )


StageTraining = StyleTraining | StyleAttentionTraining | DiffusionTraining | DiscriminantTraining


def load_style_config(path: Path) -> StageTraining:
    """Read the settings of a stage from a TOML file; relative paths in it start at its own folder.

    Raises:
        InputError: not there, no TOML, an unknown or absent name, or a value of another type or out of range.
        MissingDependency: Python 3.10 without tomli.
    """
    content = read_toml(path)
    kinds = {"attention": StyleAttentionTraining, SINGLE: DiffusionTraining, MULTI: DiffusionTraining}
    kinds |= {DISCRIMINANT: DiscriminantTraining}
    stage = content.get("stage")
    kind = kinds.get(stage, StyleTraining) if isinstance(stage, str) else StyleTraining
    return read_settings(kind, content, Path(path))
