"""Trainings of the benchmark of lip renderers: the full network, and the networks that lack a part.

Drawn people teach a network whole, from random weights. Filmed ones teach the alignment first, then a rendering that
knows neither lips nor sound; each network with an alignment goes on from there, with the parts that it has. So lips and
sound are judged by what they add to the same network, and less of a difference is a training's chance. The networks
without an alignment learn in as many steps from random weights.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from portraittalk_core.renderers.lip.files import open_lip_model, save_lip_model
from portraittalk_core.renderers.lip.lip_model import LipPriors
from portraittalk_core.training.lips.config import OF_START, LipTrainer, LipTraining, LipWeights
from portraittalk_core.training.lips.data import LipWindows
from portraittalk_core.training.lips.stage import LIPS_NAME, NO_ALIGNMENT, new_lip_model, train_lip_model

from .lips_subjects import Subject, in_silence
from .lipsync_tables import progress

FULL, SILENCE_HEARD = "full", "silence heard"
VARIANTS = {  # what each ablates; what hears silence has all layers, and tells what they are worth without a sound
    FULL: "none",
    "no references": "align",
    "unwarped mean": "align-mean",
    "no lips": "lips",
    "no sound": "audio",
    SILENCE_HEARD: "none",
}
# references and lip references of a window that is trained on; and lip references that a frame's nearest are of
LEARNT, LEARNT_LIPS, LEARNT_LIPS_OF = 2, 3, 6
# a discriminator would take most of the time
WEIGHTS = LipWeights(gan=0.0, feature_matching=0.0, lips=8.0, lips_squared=50.0)
FILMED_ALIGNMENT = LipWeights(gan=0.0, feature_matching=0.0, lips=8.0)  # those of lips_grid.toml
FILMED_PAINTING = LipWeights(warp=0.0, render=1.0, gan=0.0, feature_matching=0.0, lips_squared=60.0)  # lips_grid_paint
ALIGNMENT, NEITHER, FIRST = "alignment", "neither", "start.safetensors"
ALIGNMENT_BATCH = 8  # windows of a step of filmed people's alignment
CROP_PAD = 0.6  # of filmed people, around nose and mouth
SCORED = 64  # windows that the trainer itself scores


def plan(args: argparse.Namespace, ablate: str, out: Path) -> LipTraining:
    """The recipe of networks that begin with random weights."""
    filmed = args.clips is not None
    more = {"crop_pad": CROP_PAD, "augment": True} if filmed else {}
    more |= {"lip_references": LEARNT_LIPS_OF if args.nearest_lips else LEARNT_LIPS, "nearest_lips": args.nearest_lips}
    more |= {"lip_guide": args.lip_guide}
    weights = FILMED_ALIGNMENT if filmed else WEIGHTS
    return LipTraining(
        args.clips or out, out, pixels=True, networks=args.networks, size=args.size, ablate=ablate, weights=weights,
        references=LEARNT, keep_references=args.keep_references, decoder=args.decoder, warmup_epochs=0,
        warmup_steps=0 if filmed else args.steps // 10, trainer=_trainer(args, args.steps, args.batch), **more,
    )  # fmt: skip


def _trainer(args: argparse.Namespace, steps: int, batch: int) -> LipTrainer:
    eighths = (6,) if args.clips is None else (4, 6, 7)  # of the steps, after which the learning rate falls
    milestones = tuple(sorted({max(1, steps * part // 8) for part in eighths}))
    return LipTrainer(
        steps=max(steps, 1), batch_size=batch, learning_rate=args.learning_rate, save_every=500, sample_every=0,
        seed=args.seed, ema_decay=0.99, clip_norm=1.0, milestones=milestones, gamma=0.3,
    )  # fmt: skip


def trained(name: str, train: Sequence[Subject], args: argparse.Namespace, out: Path) -> LipPriors:
    """A network of VARIANTS, trained from where it stopped; without steps, that which was trained."""
    folder = out / name.replace(" ", "_")
    if not args.steps:
        return open_lip_model(folder / LIPS_NAME, name="lips")
    config = plan(args, VARIANTS[name], folder)
    if args.clips is not None:
        config = _filmed(config, train, args, out)
    heard = [in_silence(subject) for subject in train] if name == SILENCE_HEARD else train
    return _learnt(name, new_lip_model(config), heard, config)


def _filmed(config: LipTraining, train: Sequence[Subject], args: argparse.Namespace, out: Path) -> LipTraining:
    """The recipe of a network for filmed people, after those that it goes on from."""
    config = dataclasses.replace(config, weights=FILMED_PAINTING)
    if config.ablate in NO_ALIGNMENT:
        return dataclasses.replace(config, trainer=_trainer(args, 2 * args.steps, args.batch))
    steps = _trainer(args, args.alignment_steps, ALIGNMENT_BATCH)
    whole = dataclasses.replace(config, out=out / ALIGNMENT, ablate="none", weights=FILMED_ALIGNMENT, trainer=steps)
    aligned = _learnt(ALIGNMENT, new_lip_model(whole), train, whole)
    neither = dataclasses.replace(config, out=out / NEITHER, ablate="lips-audio")
    model = new_lip_model(neither)
    model.alignment.load_state_dict(aligned.alignment.state_dict())
    neither = _going_on(neither, model)
    return _going_on(config, grown(new_lip_model(config), _learnt(NEITHER, new_lip_model(neither), train, neither)))


def _going_on(config: LipTraining, model: LipPriors) -> LipTraining:
    """The recipe of a rendering that goes on from a model, whose alignment stays."""
    config.out.mkdir(parents=True, exist_ok=True)
    standard = {f.name: f.default for f in dataclasses.fields(LipTraining)}
    given = {name: standard[name] for name in OF_START}
    start = save_lip_model(model, config.out / FIRST)
    return dataclasses.replace(config, start=start, freeze_alignment=True, **given)


@torch.no_grad()
def grown(model: LipPriors, base: LipPriors) -> LipPriors:
    """The model with the weights of one that has fewer parts; what only the larger one looks at counts for nothing."""
    taken = base.state_dict()
    for name, weight in model.state_dict().items():
        if name in taken and taken[name].shape == weight.shape:
            weight.copy_(taken[name])
        elif name in taken:  # more channels come in
            weight.zero_()
            weight[:, : taken[name].shape[1]] = taken[name]
    return model


def _learnt(name: str, model: LipPriors, train: Sequence[Subject], config: LipTraining) -> LipPriors:
    clips = [subject.clip for subject in train]
    windows = LipWindows(clips, model.size, config.references, config.lip_references, config.augment)
    told = f"{name}: {{}} of {{}}"
    train_lip_model(model, windows, config, on_progress=lambda *at: progress(told.format(*at)), scored=SCORED)
    progress("")
    return model
