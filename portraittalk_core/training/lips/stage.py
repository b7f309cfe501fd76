"""Training of the lip renderer: alignment and rendering together, with a discriminator.

Shapes: B windows, S side of the crops.
Source: J. Wu et al., "Talking Face Generation with Lip and Identity Priors", sections 3.3 and 4.1; W. Zhong et al. 2023
(IP-LAP), whose public code has the warm-up: at first the alignment alone is judged, while the discriminator learns.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...layers.patch_discriminator import DiscriminatorOptions
from ...losses.feature_matching import feature_matching_loss
from ...losses.gan import discriminator_loss, generator_loss
from ...media.files import check_writable, explain_write_errors
from ...progress import Progress
from ...renderers.lip.files import IPLAP, LIPS, open_lip_model, save_lip_model
from ...renderers.lip.iplap import IpLap
from ...renderers.lip.lip_model import LipPriors
from ...renderers.lip.model_base import masked_half
from ..data.kept_keypoints import model_mark
from ..data.video_clips import read_list, read_videos
from ..loop.adversarial import DISCRIMINATOR, AdversarialStage, adversarial_trainables, new_discriminator
from ..loop.optimizers import OptimizerOptions
from ..loop.stage import Loss, StepContext, Trainable
from ..loop.trainer import TrainingResult, train_stage
from ..sync.stage import load_averages
from .clips import read_lip_clips
from .config import LATER, LipTraining
from .data import LipWindowBatch, LipWindows, as_pictures
from .losses import LipPictureLosses, masked_difference
from .score import SCORE_SEED, SCORED, LipScore, lip_score, painted

LIPS_NAME, KEPT = "lips.safetensors", "crops"  # in the folder `out`
DISCRIMINATOR_BETAS = (0.5, 0.999)
# on what is learnt, besides what the data and the weights to begin with say
NO_EFFECT = ("data", "out", "clips", "held_out", "start", "alignment", "vgg19", "trainer")
NO_ALIGNMENT = ("align", "align-mean")  # ablations without anything that a warm-up could teach
SHOWN = 4


class LipStage(AdversarialStage):
    """The lip renderer's stage.

    Args:
        model: what learns.
        windows: to learn from.
        config: how.
        losses: of pictures; None: as the configuration says.
    """

    def __init__(
        self, model: LipPriors, windows: LipWindows, config: LipTraining, losses: LipPictureLosses | None = None
    ) -> None:
        self._begins = None if (config.start or config.alignment) is None else model_mark(model)
        self.windows, self.config = windows, config
        sizes = {"width": config.discriminator_width, "num_scales": config.discriminator_scales}
        options = DiscriminatorOptions(**sizes)
        discriminator = new_discriminator(options, config.trainer.seed) if config.weights.gan else None
        losses = losses or LipPictureLosses(config, model.size)
        super().__init__(model.float().train().requires_grad_(True), losses, discriminator)
        if config.freeze_alignment:
            model.alignment.requires_grad_(False)
        self.warmup = self._warmup_steps()

    def _warmup_steps(self) -> int:
        config, trainer = self.config, self.config.trainer
        if config.start is not None or self.model.config.ablate in NO_ALIGNMENT or not config.weights.warp:
            return 0
        epochs = config.warmup_epochs * len(self.windows.clips)
        return max(config.warmup_steps, math.ceil(epochs / (trainer.batch_size * trainer.gradient_accumulation)))

    def optimizers(self) -> dict[str, Trainable]:
        """The renderer's, and the discriminator's if there is one."""
        trainer = self.config.trainer
        names = [f.name for f in dataclasses.fields(OptimizerOptions) if f.name != "betas"]
        options = OptimizerOptions(betas=DISCRIMINATOR_BETAS, **{name: getattr(trainer, name) for name in names})
        return adversarial_trainables(self.model, self.discriminator, options)

    def settings(self) -> dict[str, object]:
        """Settings that the learnt weights depend on, besides the trainer's."""
        settings = [f for f in dataclasses.fields(self.config) if f.name not in NO_EFFECT]
        values = {f.name: getattr(self.config, f.name) for f in settings}
        for setting in settings:
            if setting.name in (*LATER, "opening_noise") and values[setting.name] == setting.default:
                del values[setting.name]  # as runs begun before there was another say nothing of it
        values["weights"] = dataclasses.asdict(self.config.weights)
        return {**values, "data": self.windows.fingerprint(), "start": self._begins}

    def num_samples(self) -> int:
        """Frames that can be painted."""
        return len(self.windows)

    def batch(self, step: int, part: int) -> LipWindowBatch:
        """The windows of a step's part."""
        trainer = self.config.trainer
        number = trainer.batch_number(step, part)
        return self.windows.batch(number, trainer.batch_size, trainer.seed)

    def losses(self, batch: LipWindowBatch, context: StepContext) -> Iterator[Loss]:
        """The renderer's losses in one, then the discriminator's."""
        batch = batch.to(self._device)
        self.model.alignment.train(not self.config.freeze_alignment)
        target, made = as_pictures(batch.pictures), painted(self.model, batch)
        is_fixed = self.config.freeze_alignment or self.model.config.ablate in NO_ALIGNMENT
        terms = {} if is_fixed else self._warp_terms(made.aligned, target)
        if context.step > self.warmup:
            terms |= self._picture_terms(made.picture, target, batch.mouths)
        yield self.generator_loss(terms, self.config.weights)
        if self.discriminator is not None:
            real, fake = (self.discriminator(pictures).logits for pictures in (target, made.picture.detach()))
            yield Loss(DISCRIMINATOR, discriminator_loss(real, fake, "lsgan"))

    def _warp_terms(self, aligned: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"warp": self.losses_of(aligned, target).features} if self.config.weights.warp else {}

    def _picture_terms(self, picture: Tensor, target: Tensor, mouths: Tensor) -> dict[str, Tensor]:
        weights, terms = self.config.weights, {}
        if weights.render or weights.style:
            compared = self.losses_of(picture, target)
            terms["render"] = compared.features
            if weights.style and compared.style is not None:
                terms["style"] = compared.style
        if weights.lips:
            terms["lips"] = masked_difference(picture, target, mouths)
        if weights.lips_squared:
            terms["lips_squared"] = masked_difference(picture, target, mouths, power=2)
        if self.discriminator is not None:
            fake = self.discriminator(picture)
            terms["gan"] = generator_loss(fake.logits, "lsgan")
            if weights.feature_matching:
                with torch.no_grad():
                    real = self.discriminator(target)
                terms["feature_matching"] = feature_matching_loss(fake.activations, real.activations)
        return terms

    def sample_images(self, tick: Callable[[], None]) -> Sequence[Tensor]:
        """Of some windows, from left to right: what is seen, a reference, the aligned ones, the painted, the true."""
        self.model.eval()
        rows = []
        for number in range(SHOWN):
            batch = self.windows.batch(number, 1, self.config.trainer.seed).to(self._device)
            target, made = as_pictures(batch.pictures), painted(self.model, batch)
            shown = masked_half(target), as_pictures(batch.faces[:, 0]), made.aligned, made.picture, target
            rows.append(torch.cat([part.float() for part in shown], 3)[0].cpu())
            tick()
        self.model.train()
        return [(torch.cat(rows, 1).clamp(0, 1) * 255).round().byte().permute(1, 2, 0)]


def new_lip_model(config: LipTraining) -> LipPriors:
    """The model that training begins with.

    Raises:
        InputError, MissingDependency: the file to go on from cannot be used.
    """
    if config.start is not None:
        return open_lip_model(config.start, name=LIPS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.trainer.seed)
        model = LipPriors(config.model)
    if config.alignment is not None:
        _start_alignment(model, open_lip_model(config.alignment, name=IPLAP))
    return model


@torch.no_grad()
def _start_alignment(model: LipPriors, public: IpLap) -> None:
    """Begin with IP-LAP's alignment, whose pictures are BGR while ours are RGB."""
    model.alignment.start_from(public.flow_module)
    weight = model.alignment.conv1.weight
    weight[:, :3] = weight[:, :3].flip(1).clone()


@dataclass(frozen=True)
class LipResult:
    """File, result and score of a training."""

    lips: Path  # averaged weights, as `dub --renderer lips` opens them
    training: TrainingResult
    score: LipScore
    dropped: tuple[tuple[str, str], ...]  # name of a clip that was left out, and reason


def train_lips(config: LipTraining, on_progress: Progress | None = None) -> LipResult:
    """Train a lip renderer, resuming from its last checkpoint.

    Args:
        config: everything.
        on_progress: called with steps done and steps in all; may raise to stop.

    Raises:
        InputError: the data or a weight file cannot be used, or `config.out` holds another run.
        MissingDependency: accelerate, or a weight file, is absent.
        OutputError: `config.out` cannot be written.
    """
    with explain_write_errors(config.out):
        config.out.mkdir(parents=True, exist_ok=True)
    check_writable(config.out / LIPS_NAME)
    model = new_lip_model(config)
    windows, dropped = _windows(config, model, config.clips)
    held_out = None if config.held_out is None else _windows(config, model, config.held_out)[0]
    result = train_lip_model(model, windows, config, held_out, on_progress)
    return dataclasses.replace(result, dropped=dropped)


def _windows(config: LipTraining, model: LipPriors, names: Path | None) -> tuple[LipWindows, tuple]:
    videos = read_videos(config.data, 1, None if names is None else read_list(names)).videos
    needs_sound = model.config.has_sound
    clips, dropped = read_lip_clips(config.data, videos, model.crop, config.out / KEPT, needs_sound)
    counts = config.references, config.lip_references
    return LipWindows(clips, model.size, *counts, config.augment, config.varied, config.opening_noise), dropped


def train_lip_model(
    model: LipPriors,
    windows: LipWindows,
    config: LipTraining,
    held_out: LipWindows | None = None,
    on_progress: Progress | None = None,
    scored: int = SCORED,
) -> LipResult:
    """Train a model on windows, write its file, and score it.

    Args:
        model: what learns; it has the averaged weights afterwards.
        windows: to learn from.
        config: how; of its paths only `out` counts.
        held_out: windows to score on; None: those learnt from.
        on_progress: see `train_lips`.
        scored: windows of the score, at most.

    Raises:
        As `train_lips`.
    """
    stage = LipStage(model, windows, config)
    training = train_stage(stage, config.trainer, config.out, on_progress)
    stage.place(torch.device("cpu"), torch.float32)
    load_averages(model, {**model.state_dict(), **training.averages})  # what is frozen has no averages
    model.eval().requires_grad_(False)
    score = lip_score(model, held_out or windows, config.trainer.seed + SCORE_SEED, scored)
    card = {"steps": str(training.steps), "settings_sha256": training.settings_hash, "weights": "ema"}
    card |= {"masked_psnr_db": f"{score.psnr_db:.2f}"}
    return LipResult(save_lip_model(model, config.out / LIPS_NAME, card), training, score, ())
