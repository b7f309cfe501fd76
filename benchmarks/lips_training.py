"""Trainings of the benchmark of lip renderers: the full network, and the networks that lack a part.

Drawn people teach a network whole, from random weights. Filmed ones teach the alignment first, once for all networks
that have one; then each network's rendering learns from random weights in the same steps, on the same alignment, so
that lips and sound are judged by what they add to it.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

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
ALIGNMENT, FIRST = "alignment", "start.safetensors"
ALIGNMENT_BATCH = 8  # windows of a step of filmed people's alignment
CROP_PAD = 0.6  # of filmed people, around nose and mouth
# eighths of the steps at which the learning rate drops: what comes to rest is less a matter of chance
DRAWN_DROPS, FILMED_DROPS = (6,), (4, 6, 7)
AVERAGED = 16  # the average of weights forgets within this part of the steps
SCORED = 64  # windows that the trainer itself scores


def plan(args: argparse.Namespace, ablate: str, out: Path) -> LipTraining:
    """The recipe of networks that begin with random weights."""
    filmed = args.clips is not None
    more = {"crop_pad": CROP_PAD, "augment": True} if filmed else {}
    more |= {"lip_references": LEARNT_LIPS_OF if args.nearest_lips else LEARNT_LIPS, "nearest_lips": args.nearest_lips}
    more |= {"lip_guide": args.lip_guide, "lip_warp": args.lip_warp, "opening_noise": args.opening_noise}
    weights = FILMED_ALIGNMENT if filmed else WEIGHTS
    return LipTraining(
        args.clips or out, out, pixels=True, networks=args.networks, size=args.size, ablate=ablate, weights=weights,
        references=LEARNT, keep_references=args.keep_references, decoder=args.decoder, warmup_epochs=0,
        warmup_steps=0 if filmed else args.steps // 10, trainer=_trainer(args, args.steps, args.batch), **more,
    )  # fmt: skip


def _trainer(args: argparse.Namespace, steps: int, batch: int) -> LipTrainer:
    drops = DRAWN_DROPS if args.clips is None else FILMED_DROPS
    return LipTrainer(
        steps=max(steps, 1), batch_size=batch, learning_rate=args.learning_rate, save_every=500, sample_every=0,
        seed=args.seed, ema_decay=1 - AVERAGED / max(steps, 2 * AVERAGED), clip_norm=1.0, gamma=0.3,
        milestones=tuple(max(at, steps * part // 8) for at, part in enumerate(drops, 1)),
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
    """The recipe of a rendering for filmed people, after the alignment's if the network has one."""
    if config.ablate in NO_ALIGNMENT:
        return dataclasses.replace(config, weights=FILMED_PAINTING)
    steps = _trainer(args, args.alignment_steps, ALIGNMENT_BATCH)
    # with warped lips in the place of aligned references the alignment would learn nothing of mouths
    plain = {"lip_warp": False, "opening_noise": 0.0}
    whole = dataclasses.replace(config, out=out / ALIGNMENT, ablate="none", trainer=steps, **plain)
    aligned = _learnt(ALIGNMENT, new_lip_model(whole), train, whole)
    model = new_lip_model(config)
    model.alignment.load_state_dict(aligned.alignment.state_dict())
    config.out.mkdir(parents=True, exist_ok=True)
    start = save_lip_model(model, config.out / FIRST)
    given = {"start": start, "freeze_alignment": True, "weights": FILMED_PAINTING}
    standard = {f.name: f.default for f in dataclasses.fields(LipTraining)}
    return dataclasses.replace(config, **given, **{name: standard[name] for name in OF_START})


def _learnt(name: str, model: LipPriors, train: Sequence[Subject], config: LipTraining) -> LipPriors:
    clips = [subject.clip for subject in train]
    counts = config.references, config.lip_references
    windows = LipWindows(clips, model.size, *counts, config.augment, opening_noise=config.opening_noise)
    told = f"{name}: {{}} of {{}}"
    train_lip_model(model, windows, config, on_progress=lambda *at: progress(told.format(*at)), scored=SCORED)
    progress("")
    return model
