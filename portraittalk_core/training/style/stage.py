"""Training of the style extractor by contrastive loss, from audio, expression, or both.

Shapes: M clips, N features at 25 Hz, D numbers of a style.
Source: SVP, section 3 and equations 5 and 6; `docs/design/styles.md` 5.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...losses.style_contrastive import style_contrastive_loss
from ...media.files import check_writable, make_folder
from ...metrics.clustering_strength import clustering_strength, nearest_centroid_accuracy
from ...progress import Progress
from ...speech.encoders import load_speech_encoder
from ...style.extractor import ExtractorNet, StyleExtractor, new_extractor_net, save_extractor, warm_start
from ...style.extractor_files import SPREAD, read_extractor_sizes, styletalk_tensors
from ...style.features import WHISPER
from ...weights.load import load_strict, read_metadata, read_tensors
from ..loop.stage import SingleLossStage
from ..loop.trainer import TrainingResult, train_stage
from .attention_stage import StyleAttentionResult, train_style_attention
from .config import StageTraining, StyleTraining
from .data import StyleBatch, StyleData, SyntheticStyleData, read_styles, style_batch
from .diffusion_config import MULTI, SINGLE
from .diffusion_run import DiffusionResult, train_diffusion
from .discriminant_config import DISCRIMINANT
from .discriminant_stage import DiscriminantResult, train_discriminant

EXTRACTOR_NAME = "style_extractor.safetensors"
NO_EFFECT = ("out", "data", "synthetic", "trainer")  # on what is learnt, besides what the data say of themselves
SCORED_STYLES, SCORED_CLIPS = 64, 16  # of the clips that an extractor is judged by
OTHER_SEED = 10_007  # added to training's: clips that it does not see
SIDES = {"both": (True, True), "audio": (True, False), "expression": (False, True)}


@dataclass(frozen=True)
class StyleScore:
    """Clustering scores of styles, on clips that training does not use (windows of the same videos, where given)."""

    strength: float  # between over within, see metrics.clustering_strength
    accuracy: float  # share of clips nearest to the centroid of the others of their style
    num_styles: int  # chance is 1 over it
    deviation: float  # mean of the extractor's own σ, over the deviation of its means


@dataclass(frozen=True)
class StyleResult:
    """File, result and scores of a training."""

    extractor: Path  # averaged weights
    training: TrainingResult
    before: Mapping[str, StyleScore]  # of the weights it started from: both, audio, expression
    after: Mapping[str, StyleScore]


class ExtractorStage(SingleLossStage):
    """The extractor's training stage.

    Args:
        network: what learns.
        data: clips of known styles.
        config: how.
    """

    def __init__(self, network: ExtractorNet, data: StyleData, config: StyleTraining) -> None:
        self.network, self.data, self.config = network.float().train().requires_grad_(True), data, config
        self._device = torch.device("cpu")

    def trainable(self) -> dict[str, nn.Parameter]:
        """All weights of the extractor."""
        return dict(self.network.named_parameters())

    def num_samples(self) -> int:
        """Styles in an epoch, a multiple of the batch size."""
        batch_styles = min(self.config.trainer.batch_size, self.data.num_styles)
        return self.data.num_styles // batch_styles * batch_styles

    def settings(self) -> dict[str, object]:
        """Settings that the learnt weights depend on, besides the trainer's."""
        left_out = NO_EFFECT if self.config.deterministic else (*NO_EFFECT, "deterministic")  # as before there was one
        fields = [f.name for f in dataclasses.fields(self.config) if f.name not in left_out]
        values = {name: getattr(self.config, name) for name in fields}
        named = {name: value.name if isinstance(value, Path) else value for name, value in values.items()}
        return {**named, "data": self.data.fingerprint()}

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device; the weights stay float32."""
        self._device = device
        self.network.to(device)

    def batch(self, step: int, part: int) -> StyleBatch:
        """The clips of a step's part."""
        config, trainer = self.config, self.config.trainer
        number = trainer.batch_number(step, part)
        return style_batch(self.data, number, trainer.batch_size, config.clips, config.frames, trainer.seed)

    def loss(self, batch: StyleBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Equation 5 on styles sampled from each clip's Gaussian, or its mean; some clips have a modality dropped."""
        config = self.config
        available = present(
            torch.rand(len(batch.labels), generator=generator), config.drop_audio, config.drop_expression
        )
        sides = (side.to(self._device) for side in (batch.audio, batch.expression))
        mean, variance = self.network(*sides, present=available.to(self._device))
        noise = torch.randn(mean.shape, generator=generator).to(self._device)
        deviation = (variance + 1e-8).sqrt()  # its gradient is infinite at 0
        samples = mean if config.deterministic else mean + deviation * noise
        labels = batch.labels.to(self._device)
        loss = style_contrastive_loss(samples, labels, config.constant, config.temperature)
        spread = mean.detach().std(0).clamp(min=1e-8)
        return loss, {"deviation": float((deviation.detach().mean(0) / spread).mean())}

    def sample_images(self, tick: Callable[[], None]) -> Sequence[Tensor]:
        """No pictures."""
        tick()
        return ()

    @torch.no_grad()
    def spread(self) -> Tensor:
        """(D,) standard deviation of the means over many clips with both modalities."""
        means, _, _ = self._embed_clips((True, True), self.config.trainer.seed)
        return means.std(0)

    @torch.no_grad()
    def scores(self) -> dict[str, StyleScore]:
        """Clustering scores by modality: both, audio, expression."""
        scores = {}
        for name, sides in SIDES.items():
            means, deviations, labels = self._embed_clips(sides, self.config.trainer.seed + OTHER_SEED)
            spread = means.std(0).clamp(min=1e-8)
            accuracy = nearest_centroid_accuracy(means, labels, leave_one_out=True)
            ratio = float((deviations.mean(0) / spread).mean())
            scores[name] = StyleScore(clustering_strength(means, labels), accuracy, len(labels.unique()), ratio)
        return scores

    def _embed_clips(self, sides: tuple[bool, bool], seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Embed clips without dropout: means, deviations and labels."""
        config, outputs = self.config, []
        size = min(config.trainer.batch_size, self.data.num_styles)
        batches = max(min(SCORED_STYLES, self.data.num_styles) // size, 1)
        with _evaluating(self.network):
            for number in range(batches):
                batch = style_batch(self.data, number, size, SCORED_CLIPS, config.frames, seed)
                pair = zip((batch.audio, batch.expression), sides, strict=True)
                mean, variance = self.network(*(side.to(self._device) if has else None for side, has in pair))
                outputs.append((mean.cpu(), variance.cpu().sqrt(), batch.labels))
        return tuple(torch.cat(parts) for parts in zip(*outputs, strict=True))

    def export(self, averages: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> Path:
        """Load the averaged weights, and write them with the spread of their styles."""
        with torch.no_grad():
            for name, parameter in self.trainable().items():
                parameter.copy_(averages[name])
        return save_extractor(StyleExtractor(self.network, self.spread()), path, metadata)


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def present(chance: Tensor, drop_audio: float, drop_expression: float) -> Tensor:
    """Modality dropout: (M, 2) bool, whether a clip has audio and expression, from uniform numbers (M,) in 0..1.

    Never without both.
    """
    no_audio = chance < drop_audio
    no_expression = ~no_audio & (chance < drop_audio + drop_expression)
    return ~torch.stack([no_audio, no_expression], 1)


def train_style(
    config: StageTraining, on_progress: Progress | None = None
) -> StyleResult | StyleAttentionResult | DiffusionResult | DiscriminantResult:
    """Train one of style's stages, resuming from its last checkpoint.

    Args:
        config: everything.
        on_progress: called with steps done and steps in all; may raise to stop.

    Raises:
        InputError: the data or a weight file cannot be used, or `config.out` holds another run.
        MissingDependency: accelerate, or a weight file, is absent.
        OutputError: `config.out` cannot be written.
    """
    stages = {"extractor": _train_extractor, "attention": train_style_attention}
    stages |= {SINGLE: train_diffusion, MULTI: train_diffusion, DISCRIMINANT: train_discriminant}
    return stages[config.stage](config, on_progress)


def _train_extractor(config: StyleTraining, on_progress: Progress | None) -> StyleResult:
    notify = on_progress or (lambda *_: None)
    path = config.out / EXTRACTOR_NAME
    make_folder(config.out)
    check_writable(path)
    network = starting_network(config)
    stage = ExtractorStage(network, _data(config, lambda *_: notify(0, config.trainer.steps)), config)
    initial_scores = stage.scores()
    training = train_stage(stage, config.trainer, config.out, notify)
    card = {"steps": str(training.steps), "settings_sha256": training.settings_hash, "weights": "ema"}
    stage.place(torch.device("cpu"), torch.float32)
    stage.export(training.averages, path, card)
    return StyleResult(path, training, initial_scores, stage.scores())


def starting_network(config: StyleTraining) -> ExtractorNet:
    """Initial network: an extractor's file, StyleTalk's weights, or a new one.

    Raises:
        InputError: the file does not fit the sizes of the configuration.
    """
    network = new_extractor_net(config.sizes, config.trainer.seed)
    if config.start is None:
        return network
    name, tensors = config.start.name, read_tensors(config.start)
    metadata = read_metadata(config.start)
    if "layout" not in metadata:
        return warm_start(network, styletalk_tensors(tensors, name), name)
    sizes = dataclasses.replace(read_extractor_sizes(tensors, metadata, name), dropout=config.dropout)
    if sizes != config.sizes:
        raise InputError(f"{name} is an extractor of {sizes}, but the configuration asks for {config.sizes}.")
    tensors.pop(SPREAD)
    return load_strict(network, tensors, name).train().requires_grad_(True)


def _data(config: StyleTraining, on_progress: Progress) -> StyleData:
    sizes = config.sizes
    if config.data is None:
        return SyntheticStyleData(config.synthetic, (sizes.audio_width, sizes.expression_width), config.trainer.seed)
    encoder = load_speech_encoder(config.audio_encoder) if config.audio == WHISPER else None
    return read_styles(config.data, config.label, config.expression, config.frames, encoder, on_progress)
