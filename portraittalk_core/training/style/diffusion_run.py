"""Runs of SVP's first two fine-tuning stages: from SD1.5 and prepared videos to V-Express's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ...diffusion.checkpoint import load_sd15
from ...diffusion.latents import TinyVae
from ...diffusion.vae import load_vae
from ...errors import InputError
from ...media.files import check_writable, make_folder
from ...progress import Progress
from ...speech.encoders import load_speech_encoder
from ..data.video_clips import VideoData, read_videos
from ..loop.frozen import VaeLatentCodec
from ..loop.trainer import TrainingResult, train_stage
from .diffusion_config import SINGLE, DiffusionTraining
from .diffusion_networks import starting_networks
from .diffusion_stage import DiffusionStage
from .speech_features import FeatureFiles, FeatureKeeper, keep_features

FEATURES_FOLDER = "features"  # the folder of the videos' speech features


@dataclass(frozen=True)
class DiffusionResult:
    """Files and result of a training."""

    files: Mapping[str, Path]  # averaged weights, by part
    training: TrainingResult
    dropped: tuple[tuple[str, str], ...] = ()  # videos that were left out, and why


def train_diffusion(config: DiffusionTraining, on_progress: Progress | None = None) -> DiffusionResult:
    """Train the stage "single" or "multi", resuming from its last checkpoint.

    Args:
        config: everything.
        on_progress: called with steps done and steps in all; may raise to stop.

    Raises:
        InputError: the data or a weight file cannot be used, or `config.out` holds another run.
        MissingDependency: diffusers, accelerate or a weight file is absent.
        OutputError: `config.out` cannot be written.
    """
    notify = on_progress or (lambda *_: None)
    check_writable(make_folder(config.out) / "name")
    stage, dropped = _stage(config, lambda *_: notify(0, config.trainer.steps))
    with stage:
        training = train_stage(stage, config.trainer, config.out, notify)
        card = {"steps": str(training.steps), "settings_sha256": training.settings_hash, "weights": "ema"}
        files = stage.export(training.averages, config.out, {**card, "stage": config.stage})
    return DiffusionResult(files, training, dropped)


def _stage(config: DiffusionTraining, on_progress: Progress) -> tuple[DiffusionStage, tuple[tuple[str, str], ...]]:
    vae, unet = load_vae(config.checkpoint), None
    if isinstance(vae, TinyVae):
        raise InputError(f"{config.checkpoint.name} is a TAESD, too rough to train with; give SD1.5's VAE, or SD1.5.")
    if config.start is None:
        unet = load_sd15(config.checkpoint).unet
    videos = read_videos(config.data, config.clip_frames)
    if config.stage == SINGLE:
        return DiffusionStage(starting_networks(config, unet), VaeLatentCodec(vae), videos, config), ()
    videos, features, dropped, width = _heard(config, videos, on_progress)
    networks = starting_networks(config, unet, width)
    expected = networks.projection.sizes.features
    if width != expected:
        raise InputError(
            f"{config.speech_encoder.name} gives {width} numbers a feature, the audio projection takes {expected}; "
            "give the encoder that it was trained with."
        )
    return DiffusionStage(networks, VaeLatentCodec(vae), videos, config, features), dropped


def _heard(
    config: DiffusionTraining, videos: VideoData, on_progress: Progress
) -> tuple[VideoData, FeatureFiles, tuple[tuple[str, str], ...], int]:
    """The videos with sound, their features, those without, and the width of a feature."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keeper = FeatureKeeper(load_speech_encoder(config.speech_encoder, device), config.out / FEATURES_FOLDER)
    videos, features, dropped = keep_features(config.data, videos, keeper, on_progress)
    return videos, features, dropped, features(0, 0, 1).shape[-1]
