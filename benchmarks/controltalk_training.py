"""Puppets and the networks that learn them, for ``python -m benchmarks controltalk``: renderer, lip sync, Audio2Exp."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from toy_puppet import draw_puppet, motion, track_of
from toy_speech import spoken

from portraittalk_core.media.image import save_picture
from portraittalk_core.media.records import save_record
from portraittalk_core.renderers.implicit.audio2exp.files import load_audio2exp
from portraittalk_core.renderers.implicit.audio2exp.network import Audio2Exp
from portraittalk_core.training.audio2exp.config import Audio2ExpTrainer, Audio2ExpTraining
from portraittalk_core.training.audio2exp.stage import train_audio2exp
from portraittalk_core.training.data.speech_rows import MelEncoder, read_rows
from portraittalk_core.training.data.squares import track_on_crop
from portraittalk_core.training.data.video_clips import FRAMES, MARKER, SPEECH, TRACK, VideoClip, read_videos
from portraittalk_core.training.data.windows import NUM_FRAMES, SyncWindows
from portraittalk_core.training.keypoints.config import KeypointTrainer, KeypointTraining, LossWeights
from portraittalk_core.training.keypoints.stage import train_keypoints
from portraittalk_core.training.sync.config import SyncTrainer, SyncTraining
from portraittalk_core.training.sync.network import load_sync
from portraittalk_core.training.sync.stage import sync_score, train_sync

SIDE = 64  # pixels of the networks' pictures
DRAWN, CROP = 206, 128  # pixels: of the puppet's picture, of the crop around its head
CORNER = (39, 32)  # pixels: where the crop begins
CALM = (0.12, 0.12, 0.2, 1.0)  # of the puppet's moves: what is measured is the mouth


@dataclass(frozen=True)
class Plan:
    """Sizes and lengths."""

    num_clips: int = 24  # to learn from
    num_held_out: int = 4
    frames: int = 48  # of a clip
    renderer_steps: int = 600
    renderer_rows: int = 4  # pairs in a step
    sync_steps: int = 400
    steps: int = 400  # of every Audio2Exp
    windows: int = 2  # in a step of Audio2Exp
    seed: int = 0


def moves_of(seed: int, num_frames: int) -> Tensor:
    """(T, 4) moves of a puppet: head's x, y and roll, mouth 0..1."""
    return motion(num_frames, seed) * torch.tensor(CALM)


def head_clip(seed: int, num_frames: int) -> VideoClip:
    """A puppet's head, cut out as `portraittalk prepare` does it."""
    moves, (x, y) = moves_of(seed, num_frames), CORNER
    shirt = torch.rand(3, generator=torch.Generator().manual_seed(seed + 10_000)) * 1.2 - 0.6
    frames = torch.stack([draw_puppet(move, shirt, DRAWN)[:, y : y + CROP, x : x + CROP] for move in moves])
    track = track_on_crop(track_of(moves, DRAWN), CORNER, CROP, CROP)
    return VideoClip(f"puppet{seed}", lambda number: frames[number], track)


def write_clips(folder: Path, seeds: Sequence[int], num_frames: int) -> Path:
    """Puppets' videos with their sound, as `portraittalk prepare` writes them; returns the folder."""
    for seed in seeds:
        clip, place = head_clip(seed, num_frames), folder / f"puppet{seed}"
        (place / FRAMES).mkdir(parents=True)
        for number in range(num_frames):
            picture = ((clip.read(number) + 1) * 127.5).round().byte().permute(1, 2, 0)
            save_picture(picture, place / FRAMES / f"{number:06d}.png")
        save_record(clip.track, place / TRACK)
        save_file({"waveform": spoken(seed, num_frames)}, place / SPEECH)
        (place / MARKER).write_text('{"dropped": "", "reference": 0}')
    return folder


@dataclass(frozen=True)
class Trained:
    """Files that all settings of Audio2Exp share."""

    clips: Path
    renderer: Path
    sync: Path
    accuracy: float  # of the lip-sync network, on held-out puppets


def train_base(folder: Path, plan: Plan) -> Trained:
    """Train renderer and lip-sync network on puppets."""
    clips = write_clips(folder / "clips", range(plan.num_clips), plan.frames)
    trainer = KeypointTrainer(
        steps=plan.renderer_steps, batch_size=plan.renderer_rows, learning_rate=1e-3, ema_decay=0.99, sample_every=0,
        save_every=10**6, seed=plan.seed,
    )  # fmt: skip
    weights = LossWeights(perceptual=0.0, pixels=30.0, gan=0.0, feature_matching=0.0, expression=1.0, lower_face=0.667)
    config = KeypointTraining(
        clips, folder / "renderer", size="tiny", resolution=SIDE, scales=3, weights=weights, trainer=trainer
    )
    renderer = train_keypoints(config).renderer
    say("the renderer is trained")
    sync_trainer = SyncTrainer(
        steps=plan.sync_steps, batch_size=16, learning_rate=1e-3, ema_decay=0.99, sample_every=0, save_every=10**6,
        seed=plan.seed,
    )  # fmt: skip
    held_out = write_clips(folder / "held_out", held_out_seeds(plan), plan.frames)
    names = folder / "held_out.txt"
    names.write_text("".join(f"puppet{seed}\n" for seed in held_out_seeds(plan)))
    sync = train_sync(SyncTraining(clips, folder / "sync", size="tiny", trainer=sync_trainer))
    say("the lip-sync network is trained")
    return Trained(clips, renderer, sync.network, held_out_accuracy(sync.network, held_out, plan))


def held_out_seeds(plan: Plan) -> range:
    """Seeds of puppets that nothing is trained on."""
    return range(90_000, 90_000 + plan.num_held_out)


def held_out_accuracy(network: Path, clips: Path, plan: Plan) -> float:
    """Share of held-out windows whose right or wrong speech is told."""
    videos, rows, _ = read_rows(clips, read_videos(clips, NUM_FRAMES).videos, MelEncoder())
    return sync_score(load_sync(network), SyncWindows(videos, rows), 32, plan.seed).accuracy


def train_setting(trained: Trained, out: Path, plan: Plan, **changes: object) -> Audio2Exp:
    """Audio2Exp of one setting.

    Adam's long memory would not suit so few steps: the gradients of the silent pass are hundreds of times those of lip
    sync at first, and with a memory of a thousand steps hold lip sync back to the end (r .73 instead of .84).
    """
    trainer = Audio2ExpTrainer(
        steps=plan.steps, batch_size=plan.windows, learning_rate=6e-3, betas=(0.9, 0.95), ema_decay=0.95,
        sample_every=0, save_every=10**6, seed=plan.seed, gamma=0.3,
        milestones=(plan.steps * 6 // 10, plan.steps * 8 // 10),
    )  # fmt: skip
    config = Audio2ExpTraining(trained.clips, trained.renderer, trained.sync, out, trainer=trainer, **changes)
    result = train_audio2exp(config)
    say(f"Audio2Exp is trained with {changes or 'the default'}")
    return load_audio2exp(result.audio2exp)


def say(text: str) -> None:
    """Tell what is done, on the error output."""
    print(f"  {text}", file=sys.stderr, flush=True)
