"""Masked fine-tuning of IdentityNet: the face projection and attentions are trained, Stable Diffusion is frozen.

Shapes: B pictures, S their side in pixels, T face tokens, E width of tokens.
Source: PortraitTalk, section 3.1 and equation 1.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...diffusion.branches import bind
from ...diffusion.checkpoint import load_sd15
from ...diffusion.checkpoint_file import save_with_unet
from ...diffusion.schedule import NUM_TIMESTEPS, schedule_sigmas
from ...diffusion.sites import SITES
from ...diffusion.text import find_tokenizer
from ...errors import InputError
from ...layers.attention import AttentionCall
from ...losses.masked_reconstruction import hide, masked_reconstruction_loss, random_patch_mask
from ...media.files import check_writable, make_folder
from ...progress import Progress
from ...renderers.identitynet.adapter import IdentityAdapter, load_adapter, new_adapter, save_adapter
from ...renderers.identitynet.decoupled_attention import DecoupledAttention
from ...renderers.identitynet.face_tokens import ProjectionInput
from ..loop.frozen import ClipTexts, LatentCodec, Texts, VaeLatentCodec
from ..loop.low_rank import attached, new_lora
from ..loop.stage import SingleLossStage
from ..loop.trainer import TrainingResult, train_stage
from .config import IdentityTraining
from .data import DataReport, FaceBatch, FaceData
from .describe import face_tokens
from .people import read_faces

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

SAMPLE_STEPS, SAMPLE_CFG, SAMPLE_PEOPLE = 20, 3.0, 4
ADAPTER_NAME, CHECKPOINT_NAME = "identity_adapter.safetensors", "checkpoint.safetensors"
NO_EFFECT = ("out", "data", "face_models", "cache_latents", "gradient_checkpointing", "trainer")  # on what is learnt
# fields of later versions, here and of AnimateNet's stages
ADDED = (
    "train_unet", "references", "combine", "remove_background", "train_identity", "batch_unit",
    "features", "previous", "attention", "face_encoder", "clip_vision", "centred_hint",
)  # fmt: skip


@dataclass(frozen=True)
class FrozenParts:
    """Frozen networks around the adapter."""

    unet: UNet2DConditionModel  # of SD1.5's topology
    codec: LatentCodec
    texts: Texts


@dataclass
class _Faces:
    """Face tokens (B, T, E) of the current batch."""

    tokens: Tensor | None = None


class _TrainedBranch:
    """A site's trainable face attention, with one face per sample."""

    def __init__(self, attention: DecoupledAttention, faces: _Faces) -> None:
        self._attention, self._faces = attention, faces

    def __call__(self, queries: Tensor, call: AttentionCall) -> Tensor:
        """Residual added to the text's attention."""
        return self._attention(queries, self._faces.tokens, call.heads)


class IdentityStage(SingleLossStage):
    """IdentityNet's training stage; it is bound to the UNet inside a `with` block only.

    Args:
        parts: frozen; none of their weights changes, but the UNet's with `train_unet`.
        adapter: what learns.
        data: whom to learn from.
        config: how.

    Raises:
        InputError: the adapter's layout cannot be trained, or does not fit the UNet.
    """

    def __init__(self, parts: FrozenParts, adapter: IdentityAdapter, data: FaceData, config: IdentityTraining) -> None:
        layouts = ("plain",) if config.face_encoder == "clip" else ("faceid", "portrait")
        layouts = tuple(layout for layout in layouts if layout != "portrait" or not config.train_lora)
        if adapter.layout not in layouts:
            supported = f"a {' or '.join(layouts)} adapter{' (portrait has no LoRA)' if config.train_lora else ''}"
            raise InputError(f"{adapter.layout} adapters cannot be trained so; start from {supported}, or from none.")
        _check_fit(parts.unet, adapter)
        self.parts, self.adapter, self.data, self.config = parts, adapter, data, config
        parts.unet.eval().requires_grad_(config.train_unet)
        if config.gradient_checkpointing:
            parts.unet.enable_gradient_checkpointing()
        adapter.float().requires_grad_(True)
        start = adapter.lora or (new_lora(parts.unet, config.rank, config.trainer.seed) if config.train_lora else {})
        self._lora = {n: nn.Parameter(t.float(), requires_grad=config.train_lora) for n, t in start.items()}
        self._alpha_bars = (1 / (1 + schedule_sigmas() ** 2)).float()
        self._device, self._faces, self._cache = torch.device("cpu"), _Faces(), {}
        self._open = contextlib.ExitStack()

    def __enter__(self) -> IdentityStage:
        """Bind the adapter to the UNet."""
        sites = {site.index: self.adapter.sites[site.adapter_key] for site in SITES}
        branches = {index: [_TrainedBranch(site, self._faces)] for index, site in sites.items()}
        if self.config.attention == "decoupled":
            self._open.enter_context(bind(self.parts.unet, branches))
        self._open.enter_context(attached(self.parts.unet, self._lora))
        return self

    def __exit__(self, *error: object) -> None:
        """Unbind from the UNet."""
        self._open.close()
        self._faces.tokens = None

    def trainable(self) -> dict[str, nn.Parameter]:
        """Projection, keys and values of the sites, and the LoRA or the UNet if wanted."""
        lora = {f"lora.{name}": tensor for name, tensor in self._lora.items() if tensor.requires_grad}
        unet = {f"unet.{n}": weight for n, weight in self.parts.unet.named_parameters() if self.config.train_unet}
        adapter = {
            name: weight
            for name, weight in self.adapter.named_parameters()
            if self.config.attention == "decoupled" or not name.startswith("sites.")  # which nothing looks at
        }
        return adapter | lora | unet

    def num_samples(self) -> int:
        """Number of pictures."""
        return len(self.data)

    def settings(self) -> dict[str, object]:
        """Settings that the learnt weights depend on, besides the trainer's."""
        config = self.config
        values = used_settings(config, NO_EFFECT)
        named = {name: file_mark(value) if isinstance(value, Path) else value for name, value in values.items()}
        return {**named, "data": self.data.fingerprint()}

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device; the UNet and the text encoder also to a type."""
        self._device = device
        nn.Module.to(self.parts.unet, device, torch.float32 if self.config.train_unet else dtype)  # silently
        self.parts.codec.to(device, dtype)
        self.parts.texts.to(device, dtype)
        self.adapter.to(device)
        for tensor in self._lora.values():
            tensor.data = tensor.data.to(device)  # the same tensors: they are bound to the UNet
        self._alpha_bars = self._alpha_bars.to(device)

    def batch(self, step: int, part: int) -> FaceBatch:
        """The pictures of a step's part."""
        trainer = self.config.trainer
        number = trainer.batch_number(step, part)
        config = self.config
        return self.data.batch(number, trainer.batch_size, trainer.seed, config.resolution, config.references)

    def loss(self, batch: FaceBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Equation 1 for a batch; masks, noise, timesteps and drops come from the generator."""
        config, size = self.config, len(batch.pictures)
        pictures = batch.pictures.to(self._device)
        low, high = config.mask_ratio
        ratios = (low + (high - low) * torch.rand(size, generator=generator)).tolist()
        side, patch = config.resolution, config.mask_patch
        masks = torch.stack([random_patch_mask(side, side, patch, ratio, generator) for ratio in ratios])
        timesteps = torch.randint(NUM_TIMESTEPS, (size,), generator=generator).to(self._device)
        chance = torch.rand(size, generator=generator)
        masked = self.parts.codec.encode(hide(pictures, masks.to(self._device)))
        clean = self._clean(batch, pictures) if config.mode == "reconstruct" else masked
        noise = torch.randn(masked.shape, generator=generator).to(self._device)
        no_image, no_text = dropped(chance, config)
        faces = batch.face_embeds.clone()
        faces[no_image] = 0.0
        text = self.parts.texts.tokens(
            ["" if drop else caption for caption, drop in zip(batch.captions, no_text.tolist(), strict=True)]
        )

        def predict(latents: Tensor) -> Tensor:
            return self._noise(latents, timesteps, text, faces)

        snr_limit = config.snr_limit if config.snr_limit and config.mode == "reconstruct" else None
        alpha_bars = self._alpha_bars[timesteps]
        loss = masked_reconstruction_loss(predict, clean, masked, noise, alpha_bars, config.mode, snr_limit)
        return loss, {"hidden": sum(ratios) / size, "no_face": float(no_image.float().mean())}

    def sample_images(self, tick: Callable[[], None]) -> Sequence[Tensor]:
        """For up to four people, a picture and below it a sample of its embedding."""
        indices = [self.data.references_of(person)[0] for person in self.data.people[:SAMPLE_PEOPLE]]
        batch = self.data.at(indices, self.config.resolution)
        samples = self.draw(batch.face_embeds, self.config.trainer.seed, tick)
        pairs = torch.cat([batch.pictures, samples.cpu()], 2).clamp(-1, 1)
        return list(((pairs + 1) * 127.5).round().byte().permute(0, 2, 3, 1))

    @torch.no_grad()
    def draw(self, face_embeds: Tensor, seed: int, tick: Callable[[], None] = lambda: None) -> Tensor:
        """Sample pictures (B, 3, S, S) about −1..1 of embeddings (B, 512), without a caption, with Euler's method."""
        size, side = len(face_embeds), self.config.resolution // 8
        timesteps = torch.linspace(NUM_TIMESTEPS - 1, 0, SAMPLE_STEPS).round().long()
        sigmas = [*schedule_sigmas()[timesteps].tolist(), 0.0]
        noise = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(seed)).to(self._device)
        x = noise.repeat(size, 1, 1, 1) * (1 + sigmas[0] ** 2) ** 0.5
        faces = torch.cat([face_embeds, torch.zeros_like(face_embeds)])
        text = self.parts.texts.tokens([""] * 2 * size)
        for timestep, sigma, following in zip(timesteps.tolist(), sigmas[:-1], sigmas[1:], strict=True):
            inputs = torch.cat([x, x]) / (1 + sigma**2) ** 0.5
            level = torch.full((2 * size,), timestep, device=self._device)
            with_face, without = self._noise(inputs, level, text, faces).float().chunk(2)
            x = x + (following - sigma) * (without + SAMPLE_CFG * (with_face - without))
            tick()
        return self.parts.codec.decode(x)

    def export(self, averages: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> Path:
        """Load the averaged weights and write them as an adapter file."""
        with torch.no_grad():
            for name, parameter in self.trainable().items():
                parameter.copy_(averages[name])
        self.adapter.lora = {name: tensor.detach() for name, tensor in self._lora.items()}
        return save_adapter(self.adapter, path, metadata)

    def _clean(self, batch: FaceBatch, pictures: Tensor) -> Tensor:
        """Latents of the whole pictures."""
        if not self.config.cache_latents:
            return self.parts.codec.encode(pictures)
        new = [number for number, index in enumerate(batch.indices) if index not in self._cache]
        if new:
            latents = self.parts.codec.encode(pictures[new]).cpu()
            self._cache |= {batch.indices[number]: latent.clone() for number, latent in zip(new, latents, strict=True)}
        return torch.stack([self._cache[index] for index in batch.indices]).to(self._device)

    def _noise(self, latents: Tensor, timesteps: Tensor, text: Tensor, faces: Tensor) -> Tensor:
        """Noise (B, 4, h, w) that the UNet predicts, each sample with its own face (B, 512), or with N of them."""
        unet, faces = self.parts.unet, faces.to(self._device)
        references = {self.adapter.projection.needs[0]: faces[:, None] if faces.ndim == 2 else faces}
        self._faces.tokens = face_tokens(self.adapter, ProjectionInput(**references), self.config.combine)
        if self.config.attention == "unified":
            text = torch.cat([text, self._faces.tokens.to(text)], 1)
        return unet(latents.to(unet.dtype), timesteps, text.to(unet.dtype), return_dict=False)[0]


def dropped(chance: Tensor, config: IdentityTraining) -> tuple[Tensor, Tensor]:
    """Condition dropout masks (B,) of face and caption, from uniform numbers (B,) in 0..1."""
    image = chance < config.drop_image
    text = ~image & (chance < config.drop_image + config.drop_text)
    both = ~image & ~text & (chance < config.drop_image + config.drop_text + config.drop_both)
    return image | both, text | both


@dataclass(frozen=True)
class IdentityResult:
    """File and result of a fine-tuning."""

    adapter: Path  # averaged weights
    report: DataReport  # what was learnt from
    training: TrainingResult
    checkpoint: Path | None = None  # with the averaged UNet, where that was trained


def train_identity(config: IdentityTraining, on_progress: Progress | None = None) -> IdentityResult:
    """Fine-tune IdentityNet, resuming from its last checkpoint.

    Args:
        config: everything.
        on_progress: called with steps done and steps in all, also while pictures are read; may raise to stop.

    Returns:
        The adapter's file, and how it came about.

    Raises:
        InputError: the data, the checkpoint or the adapter cannot be used, or `config.out` holds another run.
        MissingDependency: diffusers, accelerate or face models are absent.
        OutputError: `config.out` cannot be written.
    """
    notify = on_progress or (lambda *_: None)
    check_writable(make_folder(config.out) / ADAPTER_NAME)
    base = load_sd15(config.checkpoint)
    missing = [name for name in ("vae", "text_encoder") if getattr(base, name) is None]
    if missing:
        raise InputError(f"{config.checkpoint.name} lacks {' and '.join(missing)}; give a complete SD1.5 checkpoint.")
    data, report = read_faces(config, lambda *_: notify(0, config.trainer.steps))
    tokenizer = find_tokenizer(config.tokenizer) if any(picture.caption for picture in data.pictures) else None
    parts = FrozenParts(base.unet, VaeLatentCodec(base.vae), ClipTexts(base.text_encoder, tokenizer))
    adapter = load_adapter(config.adapter) if config.adapter else _new_adapter(base.unet, data, config)
    with IdentityStage(parts, adapter, data, config) as stage:
        training = train_stage(stage, config.trainer, config.out, notify)
        card = {"steps": str(training.steps), "settings_sha256": training.settings_hash, "weights": "ema"}
        path = stage.export(training.averages, config.out / ADAPTER_NAME, card)
        checkpoint = None
        if config.train_unet:
            checkpoint = save_with_unet(config.checkpoint, base.unet, config.out / CHECKPOINT_NAME, card)
    return IdentityResult(path, report, training, checkpoint)


def _new_adapter(unet: UNet2DConditionModel, data: FaceData, config: IdentityTraining) -> IdentityAdapter:
    """An untrained adapter for the face encoder."""
    embedding = data.pictures[data.references_of(data.people[0])[0]].face_embed
    return fresh_adapter(unet, config.trainer.seed, len(embedding) if config.face_encoder == "clip" else None)


def fresh_adapter(unet: UNet2DConditionModel, seed: int, clip_width: int | None = None) -> IdentityAdapter:
    """An untrained faceid adapter of a UNet's widths, or a plain one that sees CLIP's embedding of that width."""
    widths = {site.adapter_key: unet.get_submodule(site.attention(2)).to_q.out_features for site in SITES}
    return new_adapter(widths, unet.config.cross_attention_dim, seed=seed, clip_width=clip_width)


def _check_fit(unet: UNet2DConditionModel, adapter: IdentityAdapter) -> None:
    for site in SITES:
        layer, adapter_key = unet.get_submodule(site.attention(2)).to_k, adapter.sites[site.adapter_key].to_k_ip
        if layer.weight.shape != adapter_key.weight.shape:
            raise InputError(
                f"the adapter's keys at {site.adapter_key} are {tuple(adapter_key.weight.shape)}, the checkpoint's are "
                f"{tuple(layer.weight.shape)}; an SD1.5 adapter needs an SD1.5 checkpoint."
            )


def used_settings(config: object, without: tuple[str, ...]) -> dict[str, object]:
    """Fields of a configuration; those of later versions at their defaults are left out, as in older checkpoints."""
    fields = [field for field in dataclasses.fields(config) if field.name not in without]
    values = {field.name: getattr(config, field.name) for field in fields}
    return {f.name: values[f.name] for f in fields if f.name not in ADDED or values[f.name] != f.default}


def file_mark(path: Path) -> str:
    """Name and size of a file or folder, independent of its location."""
    size = f", {path.stat().st_size} bytes" if path.is_file() else ""
    return f"{path.name}{size}"
