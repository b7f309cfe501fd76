"""Training of a keypoint renderer: keypoint detector, head estimator and generator together, with a discriminator.

Shapes: B pairs, K keypoints, S side of the pictures in pixels.
Source: Wang et al. 2021, "One-shot free-view neural talking-head synthesis" (face-vid2vid), section 3 and appendix A;
ControlTalk, section 4.1 and its public configuration for the weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from ...face.topology import LIPS
from ...layers.patch_discriminator import DiscriminatorOptions, Judgement, MultiScaleDiscriminator
from ...losses.equivariance import RandomWarp, equivariance_loss
from ...losses.feature_matching import feature_matching_loss
from ...losses.gan import discriminator_loss, generator_loss
from ...losses.keypoint_prior import keypoint_prior_loss
from ...losses.rotation import rotation_loss
from ...losses.wing import wing_loss
from ...media.files import check_writable, make_folder
from ...progress import Progress
from ...renderers.implicit.blocks import coordinate_grid
from ...renderers.implicit.contract import Keypoints
from ...renderers.implicit.facevid2vid.model import FaceVid2Vid
from ...renderers.implicit.files import open_keypoint_model
from ..data.kept_keypoints import model_mark
from ..data.video_clips import read_list, read_videos
from ..loop.adversarial import DISCRIMINATOR, AdversarialStage, adversarial_trainables, new_discriminator
from ..loop.stage import Loss, StepContext, Trainable
from ..loop.trainer import TrainingResult, train_stage
from .config import KeypointTraining
from .data import GUIDES, LIP_GUIDES, FramePairs, PairBatch
from .networks import new_renderer, plain_renderer, rotations, save_renderer, start_from
from .picture_losses import PictureLosses, lower_middle

RENDERER_NAME = "renderer.safetensors"
NO_EFFECT = ("data", "out", "clips", "start", "vgg19", "trainer")  # on what is learnt, besides what the data say
GUIDE_PX = 128.0  # half the side of the picture that the Wing loss counts pixels of
SHOWN_PAIRS = 4
# settings of later versions: at their defaults they are none, as in checkpoints before
ADDED = ("learn", "freeze_norm")
ADDED_WEIGHTS = ("guide", "flow", "lips", "eyes")
LAYOUT = "face-vid2vid-15"


class KeypointStage(AdversarialStage):
    """A keypoint renderer's stage.

    Args:
        model: what learns, with spectral norm.
        data: to learn from.
        config: how.
    """

    def __init__(self, model: FaceVid2Vid, data: FramePairs, config: KeypointTraining) -> None:
        judges = config.weights.gan and config.learn != "keypoints"
        discriminator = discriminator_of(config) if judges else None
        super().__init__(model.float().train().requires_grad_(True), PictureLosses(config), discriminator)
        self.data, self.config = data, config
        self.fixed = (model.kp_detector, model.he_estimator) if config.learn == "pictures" else ()
        for network in self.fixed:
            network.eval().requires_grad_(False)

    def optimizers(self) -> dict[str, Trainable]:
        """The renderer's, and the discriminator's if there is one."""
        return adversarial_trainables(self.model, self.discriminator)

    def settings(self) -> dict[str, object]:
        """Settings that the learnt weights depend on, besides the trainer's."""
        values = {
            f.name: getattr(self.config, f.name) for f in dataclasses.fields(self.config) if f.name not in NO_EFFECT
        }
        values["weights"] = dataclasses.asdict(self.config.weights)
        values["variation"] = dataclasses.asdict(self.config.variation)
        if not self.config.variation:
            del values["variation"]
        for name in ADDED:
            if values[name] == KeypointTraining.__dataclass_fields__[name].default:
                del values[name]
        for name in ADDED_WEIGHTS:
            if not values["weights"][name]:
                del values["weights"][name]
        if self.fixed:  # they are in no checkpoint
            values["keypoints"] = [model_mark(network) for network in self.fixed]
        return {**values, "data": self.data.fingerprint()}

    def num_samples(self) -> int:
        """Driving frames."""
        return len(self.data)

    def batch(self, step: int, part: int) -> PairBatch:
        """The pairs of a step's part."""
        trainer = self.config.trainer
        number = trainer.batch_number(step, part)
        return self.data.batch(number, trainer.batch_size, trainer.seed, self.config.resolution)

    def losses(self, batch: PairBatch, context: StepContext) -> Iterator[Loss]:
        """The renderer's losses in one, then the discriminator's."""
        batch = PairBatch(*(getattr(batch, f.name).to(self._device) for f in dataclasses.fields(batch)))
        if 0 < self.config.freeze_norm < context.step:
            freeze_norms(self.model)
        if self.fixed:
            (source, placed), terms = self._placed(batch)[:2], {}
        else:
            source, placed, terms = self._keypoint_terms(batch, context)
        generated = None
        if self.config.learn != "keypoints":
            generated, flow = self._rendered(batch, source, placed)
            terms |= flow
            terms |= self.losses_of(generated, batch.driving, batch.regions)
            if self.discriminator is not None:
                terms |= self._adversarial_terms(generated, batch.driving)
        yield self.generator_loss(terms, self.config.weights)
        if self.discriminator is not None and generated is not None:
            judged = [self._judgements(pictures) for pictures in (batch.driving, generated.detach())]
            yield Loss(
                DISCRIMINATOR, self._mixed(*judged, lambda a, b: discriminator_loss(a.logits, b.logits, "hinge"))
            )

    def _keypoint_terms(self, batch: PairBatch, context: StepContext) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Placed keypoints (B, K, 3) of source and driving face, and the losses on keypoints."""
        model, size, weights = self.model, len(batch.source), self.config.weights
        of_source, placed, both = self._placed(batch)
        source, driving = both[:size], both[size:]
        turned = rotations(both.rotation_deg)
        terms = {
            "keypoint_prior": keypoint_prior_loss(placed, num_guided=len(GUIDES) if weights.guide else 0),
            "head_pose": rotation_loss(turned, torch.cat([batch.source_rotation, batch.driving_rotation])),
            "expression": driving.expression.abs().mean(),
        }
        if weights.guide:
            guides = torch.cat([batch.source_guides, batch.driving_guides])
            terms["guide"] = guide_loss(torch.cat([of_source, placed]), guides)
        if weights.equivariance:
            warp = RandomWarp.draw(size, context.generator).to(self._device)
            of_warped = model.keypoints(warp.pictures(batch.driving))
            terms["equivariance"] = equivariance_loss(placed, model.place(_moved(source, of_warped)), warp)
        return of_source, placed, terms

    def _rendered(self, batch: PairBatch, source: Tensor, driving: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Generated pictures (B, 3, S, S) of placed keypoints, and the loss of the flow between them if it counts."""
        warping, volume = self.model.warping_module, self.model.features(batch.source)
        deformation, visible = warping.dense_motion_network(volume, source, driving)
        generated = self.model.spade_generator(warping.warped(volume, deformation, visible)).float()
        if not self.config.weights.flow:
            return generated, {}
        return generated, {"flow": flow_loss(deformation, batch.source_points, batch.driving_points)}

    def _placed(self, batch: PairBatch) -> tuple[Tensor, Tensor, Keypoints]:
        """Placed keypoints of source and driving face, and those as they are seen: the sources', then the drivings'."""
        model, size = self.model, len(batch.source)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.fixed):
            both = model.keypoints(torch.cat([batch.source, batch.driving]))
            source = both[:size]
            return model.place(source), model.place(_moved(source, both[size:])), both

    def _adversarial_terms(self, generated: Tensor, real: Tensor) -> dict[str, Tensor]:
        fake = self._judgements(generated)
        terms = {"gan": self._mixed(fake, fake, lambda a, _: generator_loss(a.logits, "hinge"))}
        if self.config.weights.feature_matching:
            with torch.no_grad():
                true = self._judgements(real)
            terms["feature_matching"] = self._mixed(
                fake, true, lambda a, b: feature_matching_loss(a.activations, b.activations)
            )
        return terms

    def _judgements(self, pictures: Tensor) -> list[Judgement]:
        """Of whole pictures and, where it counts, of their lower middle."""
        views = [pictures]
        if self.config.weights.lower_face:
            views.append(lower_middle(pictures))
        return [self.discriminator(view) for view in views]

    def _mixed(
        self, first: list[Judgement], second: list[Judgement], loss: Callable[[Judgement, Judgement], Tensor]
    ) -> Tensor:
        """Loss of whole pictures and of their lower middle, by its share."""
        share = self.config.weights.lower_face
        parts = [loss(a, b) for a, b in zip(first, second, strict=True)]
        return parts[0] if len(parts) == 1 else (1 - share) * parts[0] + share * parts[1]

    def sample_images(self, tick: Callable[[], None]) -> Sequence[Tensor]:
        """Of some pairs, from left to right: source, generated, driving frame."""
        batch = self.data.batch(0, SHOWN_PAIRS, self.config.trainer.seed, self.config.resolution)
        self.model.eval()
        rows = []
        for source, driving in zip(batch.source.split(1), batch.driving.split(1), strict=True):
            reenacted = reenact(self.model, source, driving).cpu()
            rows.append(torch.cat([source, reenacted, driving], 3)[0])
            tick()
        self.model.train()
        for network in self.fixed:
            network.eval()
        return [(torch.cat(rows, 1).clamp(0, 1) * 255).round().byte().permute(1, 2, 0)]


def guide_loss(keypoints: Tensor, landmarks: Tensor) -> Tensor:
    """Wing loss between x and y of the first of keypoints (B, K, 3) and landmarks (B, G, 2), at 256 pixels a side.

    Those of the lips count once more about their own middle, so that where a head is does not hide what its mouth does.
    """
    predicted, target = keypoints[:, : landmarks.shape[1], :2] * GUIDE_PX, landmarks * GUIDE_PX
    lips = [points[:, :LIP_GUIDES] - points[:, :LIP_GUIDES].mean(1, keepdim=True) for points in (predicted, target)]
    return wing_loss(predicted, target) + wing_loss(*lips)


def flow_loss(deformation: Tensor, source: Tensor, driving: Tensor) -> Tensor:
    """Mean absolute difference between the motion of a deformation at landmarks and theirs, plus that of the lips.

    Motion is what a deformation adds to the grid of its voxels, which is not quite rest (see `dense_motion`).

    Args:
        deformation: (B, D, H, W, 3) where each voxel of the driving face looks in the source, x, y, z in -1..1.
        source: (B, N, 2) landmarks of the source, in -1..1.
        driving: (B, N, 2) of the driving face.

    Returns:
        A scalar, in pixels of a picture of 256.
    """
    moves = deformation - coordinate_grid(*deformation.shape[1:4], deformation.device)
    field = moves[..., :2].mean(1).permute(0, 3, 1, 2)
    led = grid_sample(field, driving[:, :, None].to(field), align_corners=False)[..., 0].transpose(1, 2)
    distance = (led - (source - driving)).abs() * GUIDE_PX
    return distance.mean() + distance[:, list(LIPS)].mean()


def freeze_norms(network: nn.Module) -> None:
    """Let batch norms use their running statistics, and keep them."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            module.eval()


def _moved(source: Keypoints, driving: Keypoints) -> Keypoints:
    """The source's canonical keypoints with the driving frame's motion."""
    return dataclasses.replace(driving, canonical=source.canonical)


@torch.no_grad()
def reenact(model: FaceVid2Vid, source: Tensor, driving: Tensor) -> Tensor:
    """(B, 3, S, S) source faces in the motion of driving frames (B, 3, S, S), in 0..1; the same faces in both."""
    device = model.device
    of_source, of_driving = model.keypoints(source.to(device)), model.keypoints(driving.to(device))
    placed = model.place(_moved(of_source, of_driving))
    return model.render(model.features(source.to(device)), model.place(of_source), placed)


def discriminator_of(config: KeypointTraining) -> MultiScaleDiscriminator:
    """A new discriminator with spectral norm in all its convolutions."""
    sizes = {"width": config.discriminator_width, "num_scales": config.discriminator_scales}
    return new_discriminator(DiscriminatorOptions(**sizes, spectral_norm=True), config.trainer.seed)


@dataclass(frozen=True)
class KeypointResult:
    """File and result of a training."""

    renderer: Path  # averaged weights, in the public layout of face-vid2vid
    training: TrainingResult


def train_keypoints(config: KeypointTraining, on_progress: Progress | None = None) -> KeypointResult:
    """Train a keypoint renderer, resuming from its last checkpoint.

    Args:
        config: everything.
        on_progress: called with steps done and steps in all; may raise to stop.

    Raises:
        InputError: the data or a weight file cannot be used, or `config.out` holds another run.
        MissingDependency: accelerate, or a weight file, is absent.
        OutputError: `config.out` cannot be written.
    """
    path = config.out / RENDERER_NAME
    make_folder(config.out)
    check_writable(path)
    videos = read_videos(config.data, 1, None if config.clips is None else read_list(config.clips))
    model = new_renderer(config.size, config.resolution, config.trainer.seed)
    if config.start is not None:
        start_from(model, open_keypoint_model(config.start, layout=LAYOUT)[0], config.start.name)
    keypoints_only = config.learn == "keypoints"
    stage = KeypointStage(model, FramePairs(videos.videos, config.augment, config.variation, keypoints_only), config)
    training = train_stage(stage, config.trainer, config.out, on_progress)
    stage.place(torch.device("cpu"), torch.float32)
    card = {"steps": str(training.steps), "settings_sha256": training.settings_hash, "weights": "ema"}
    return KeypointResult(save_renderer(with_averages(model, training.averages), path, card), training)


@torch.no_grad()
def with_averages(model: FaceVid2Vid, averages: Mapping[str, Tensor]) -> FaceVid2Vid:
    """A copy for inference with a training's averaged weights and buffers."""
    weights = model.state_dict(keep_vars=True)
    weights = {name: tensor for name, tensor in weights.items() if name in averages}  # the others stay as they were
    last = {name: tensor.detach().clone() for name, tensor in weights.items()}
    for name, tensor in weights.items():
        tensor.copy_(averages[name])
    averaged = plain_renderer(model)
    for name, tensor in weights.items():
        tensor.copy_(last[name])
    return averaged
