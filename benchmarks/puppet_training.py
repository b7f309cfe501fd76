"""A toy puppet, a tiny UNet that knows it, and AnimateNet's two stages on them, for the benchmarks."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from toy_faces import FixedTexts, PatchCodec
from toy_puppet import draw_puppet, landmarks, motion, puppet_clip

from portraittalk_core.diffusion.motion_modules import new_motion_modules
from portraittalk_core.diffusion.schedule import schedule_sigmas
from portraittalk_core.metrics.adfd import adfd
from portraittalk_core.metrics.psnr import psnr
from portraittalk_core.renderers.animatenet.animate_net import new_animate_net
from portraittalk_core.training.animatenet.config import AnimateTraining
from portraittalk_core.training.animatenet.stage import AnimateParts, AnimateStage, JointStage, SpatialStage
from portraittalk_core.training.data.video_clips import ClipBatch, VideoClip, VideoData
from portraittalk_core.training.identitynet.stage import FrozenParts, IdentityStage
from portraittalk_core.training.loop.config import TrainerConfig
from portraittalk_core.training.loop.frozen import Texts
from portraittalk_core.training.loop.trainer import train_stage

BETAS = "scaled_linear"
WIDTHS, FRAMES, LENGTH, SIDE = (32, 64, 64, 64), 8, 24, 64
NUM_CLIPS, NUM_HELD_OUT = 48, 6
BASE_ROWS = 16  # pictures in a training step of the frozen UNet
WITHOUT_TEMPORAL, WITHOUT_PLACEMENT = "without temporal attention", "without head placement"


@dataclass(frozen=True)
class Plan:
    """Training and sampling lengths; the same for all variants."""

    base_steps: int = 700  # of the frozen UNet
    first_steps: int = 300  # frame by frame
    second_steps: int = 400  # with motion modules where the variant has any
    rows: int = 32  # pictures in a step of either stage
    learning_rate: float = 2e-3
    sample_steps: int = 10
    seed: int = 0  # of every random number generator


@dataclass(frozen=True)
class Row:
    """Scores of one variant: a row of the table."""

    name: str
    psnr: float  # dB, of all frames of all held-out clips
    adfd: float
    spatial: float  # ADFD's parts
    motion: float
    flicker: float  # mean change from frame to frame, over the true one


def toy_base(
    steps: int, seed: int, clips: Sequence[VideoClip] | None = None, texts: Texts | None = None, heads: int = 8
) -> FrozenParts:
    """A frozen UNet that generates the puppet, unconditionally or with a shirt described by text.

    Args:
        steps: of its training.
        seed: of every random number generator.
        clips: to learn from; None are all of `training_clips`.
        texts: encodes their captions; None gives the same tokens to all.
        heads: of its attentions; fewer are faster.
    """
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=WIDTHS, cross_attention_dim=48, attention_head_dim=heads, norm_num_groups=8
    )
    codec, texts, clips = PatchCodec(), texts or FixedTexts(), clips or training_clips(seed)
    clean = torch.cat([codec.encode(torch.stack([clip.read(i) for i in range(LENGTH)])) for clip in clips])
    text = torch.cat([texts.tokens([clip.caption] * LENGTH) for clip in clips])
    schedule = (1 / (1 + schedule_sigmas(BETAS) ** 2)).float()
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(unet.parameters(), 2e-3)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, max(steps, 2), pct_start=0.1)
    for _ in range(steps):
        indices = torch.randint(len(clean), (BASE_ROWS,), generator=draw)
        rows = clean[indices]
        levels = torch.randint(1000, (BASE_ROWS,), generator=draw)
        alphas_bar = schedule[levels].view(-1, 1, 1, 1)
        noise = torch.randn(rows.shape, generator=draw)
        noisy = alphas_bar.sqrt() * rows + (1 - alphas_bar).sqrt() * noise
        errors = (unet(noisy, levels, text[indices]).sample - noise).square().mean((1, 2, 3))
        loss = (errors * (5 * (1 - alphas_bar) / alphas_bar).clamp(max=1).flatten()).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        rates.step()
    return FrozenParts(unet.eval().requires_grad_(False), codec, texts)


def fresh_parts(unet: nn.Module, seed: int, features: bool = False, previous: bool = False) -> AnimateParts:
    """An untrained AnimateNet with its ControlNet for a UNet; options as of `new_animate_net`."""
    from diffusers import ControlNetModel

    torch.manual_seed(seed)
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 24, 32)).eval()
    return AnimateParts(controlnet, new_animate_net(controlnet, seed, features, previous))


def first_stage(
    frozen: FrozenParts, placed: bool, plan: Plan, out: Path, clips: Sequence[VideoClip] | None = None
) -> AnimateParts:
    """AnimateNet after the spatial stage, which variants that differ only in the second stage share."""
    clips = clips or training_clips(plan.seed)
    config = _training(out, placed, plan, "spatial", plan.first_steps)
    stage = SpatialStage(frozen, fresh_parts(frozen.unet, plan.seed), VideoData(clips, 1), config)
    trained(stage, out)
    return stage.parts


def second_stage(
    frozen: FrozenParts,
    first: AnimateParts,
    variant: str,
    plan: Plan,
    out: Path,
    clips: Sequence[VideoClip] | None = None,
) -> AnimateStage:
    """One variant after both stages: the second is joint, or spatial again without motion modules."""
    temporal, parts = variant != WITHOUT_TEMPORAL, copy.deepcopy(first)
    config = _training(out, variant != WITHOUT_PLACEMENT, plan, "joint" if temporal else "spatial", plan.second_steps)
    torch.manual_seed(plan.seed)
    if temporal:
        parts = dataclasses.replace(parts, motion=new_motion_modules(WIDTHS, betas=BETAS))
    kind = JointStage if temporal else SpatialStage
    clips = clips or training_clips(plan.seed)
    stage = kind(frozen, parts, VideoData(clips, config.clip_frames), config)
    trained(stage, out)
    return stage


@functools.lru_cache(1)
def training_clips(seed: int) -> tuple[VideoClip, ...]:
    """The training set."""
    return tuple(puppet_clip(seed * 1000 + number, LENGTH) for number in range(NUM_CLIPS))


def add_plan(parser: argparse.ArgumentParser, plan: type) -> None:
    """Declare an option for each field of a dataclass of sizes, and `--seeds` in place of its `seed`."""
    for field in dataclasses.fields(plan):
        if field.name != "seed":
            name, kind = f"--{field.name.replace('_', '-')}", type(field.default)
            parser.add_argument(name, type=kind, default=field.default, help="%(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="one table each (default: 0 1)")


def plan_of(args: argparse.Namespace, plan: type, seed: int) -> Any:  # noqa: ANN401  the dataclass that is given
    """The sizes that the options of `add_plan` say, with a seed."""
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(plan) if field.name != "seed"}
    return plan(**given, seed=seed)


def toy_trainer(steps: int, batch_size: int, learning_rate: float, seed: int) -> TrainerConfig:
    """Settings of a short training that saves and shows nothing on its way."""
    return TrainerConfig(
        steps=steps,
        batch_size=batch_size,
        gradient_accumulation=1,
        learning_rate=learning_rate,
        ema_decay=0.97,
        save_every=10**6,
        sample_every=0,
        seed=seed,
    )


def _training(out: Path, placed: bool, plan: Plan, stage: str, steps: int) -> AnimateTraining:
    batch_size = plan.rows // FRAMES if stage == "joint" else plan.rows
    trainer = toy_trainer(steps, batch_size, plan.learning_rate, plan.seed)
    return AnimateTraining(
        *[out] * 3,
        stage=stage,
        style="landmarks",
        resolution=SIDE,
        frames=FRAMES,
        overlap=1,
        given_share=1.0,
        head_placement=placed,
        trainer=trainer,
    )


def trained(stage: AnimateStage | IdentityStage, out: Path) -> None:
    """Train a stage and load its averaged weights."""
    with stage:
        averages = train_stage(stage, stage.config.trainer, out).averages
        with torch.no_grad():
            for name, weight in stage.trainable().items():
                weight.copy_(averages[name])


def sample_video(stage: AnimateStage, clips: VideoData, video: int, steps: int) -> Tensor:
    """Latents (T, 4, 8, 8) of a held-out video, sampled chunk by chunk from its first frame."""
    batch = clips.at([(video, 0)], SIDE, previous=True)
    length = batch.frames.shape[1]
    with stage:
        if stage.parts.motion is None:
            return stage.draw(_frames(batch, 0, length), video, steps=steps, shared_noise=False)
        latents = stage.frozen.codec.encode(batch.frames[0, :1])
        while len(latents) < length:
            start = min(len(latents) - 1, length - FRAMES)
            fixed = latents[start:][None]
            chunk = stage.draw(_frames(batch, start, start + FRAMES), video, fixed, steps=steps)
            latents = torch.cat([latents, chunk[fixed.shape[1] :]])
    return latents


def _frames(batch: ClipBatch, start: int, stop: int) -> ClipBatch:
    before = batch.placements[:, start - 1] if start else batch.previous_placements
    return dataclasses.replace(
        batch,
        previous_placements=before,
        frames=batch.frames[:, start:stop],
        tracks=tuple(track.slice(start, stop) for track in batch.tracks),
        placements=batch.placements[:, start:stop],
    )


class Reader(nn.Module):
    """Landmark regressor on the puppet's latents, in place of MediaPipe's face mesh."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(256, 128), nn.GELU(), nn.Linear(128, 64), nn.GELU(), nn.Linear(64, 4))
        self.scale = torch.tensor([0.13, 0.07, 0.15, 0.5])

    def forward(self, latents: Tensor) -> Tensor:
        return self.layers(latents.flatten(1)) * self.scale + torch.tensor([0, 0, 0, 0.5])

    @torch.no_grad()
    def landmarks_px(self, latents: Tensor) -> Tensor:
        """(T, 478, 2) pixels."""
        return landmarks(self(latents))[..., :2] * SIDE


def trained_reader(steps: int, seed: int, num_clips: int = 400) -> Reader:
    """A landmark regressor trained on noisy latents of true frames of other clips."""
    torch.manual_seed(seed)
    reader, codec = Reader(), PatchCodec()
    moves = torch.cat([motion(8, 50_000 + number) for number in range(num_clips)])
    shirts = torch.rand(len(moves), 3) * 1.2 - 0.6
    latents = codec.encode(torch.stack([draw_puppet(*pair) for pair in zip(moves, shirts, strict=True)]))
    optimizer = torch.optim.AdamW(reader.parameters(), 2e-3, weight_decay=0.01)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, max(steps, 2))
    for _ in range(steps):
        indices = torch.randint(len(moves), (64,))
        noisy = latents[indices] + 0.1 * torch.randn(64, *latents.shape[1:])
        loss = ((reader(noisy) - moves[indices]) / reader.scale).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    return reader


def score(name: str, videos: list[Tensor], clips: VideoData, reader: Reader) -> Row:
    """Scores of generated latents of every held-out video against the true frames, both decoded by the codec."""
    codec, scores, pairs = PatchCodec(), [], []
    for video, video_latents in enumerate(videos):
        true, latents = codec.encode(clips.at([(video, 0)], SIDE).frames[0])[1:], video_latents[1:]
        pairs.append([codec.decode(part).clamp(-1, 1) for part in (latents, true)])
        truth = clips.videos[video].track.points_px[1:, :, :2]
        scores.append(adfd(reader.landmarks_px(latents), truth, (SIDE, SIDE)))
    generated, true = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    changes = [sum(float((pair[which][1:] - pair[which][:-1]).abs().mean()) for pair in pairs) for which in (0, 1)]
    mean = {part: sum(getattr(s, part) for s in scores) / len(scores) for part in ("score", "spatial", "motion")}
    flicker = changes[0] / changes[1]
    return Row(name, psnr(generated, true, 2.0), mean["score"], mean["spatial"], mean["motion"], flicker)
