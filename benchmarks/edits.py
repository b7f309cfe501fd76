"""Edits by text on a drawn toy: ``python -m benchmarks edits``.

A tiny UNet learns drawn people with captions (style, age, expression, background); then a face adapter and AnimateNet
learn, together, who they are and where mouth and head are, which no caption tells. Portraits of people who were never
seen are edited as `portraittalk talk --prompt … --denoise … --edit …` edits them, by the same painter: a word of the
caption changes, and SD1.5's stand-in paints over the portrait.

What the edit did is measured in the painted picture, by no network: the true drawings before and after the edit are
known, so that the change is projected onto the true one. 0 is the portrait, 1 is the drawing with that word.

- named: how far the named attribute moved. Beside it, the same painting with the old caption: what repainting alone
  does.
- others: the largest share by which another attribute moved beside the painting with the old caption.
- person: share of edits whose colours of skin and shirt are nearest to that very person's among all (chance: 1/N), and
  the mean error of these colours, in percent of black to white.
- mouth: r of the opening in the painted picture, fitted among drawn openings, with the landmarks' opening.
- stays: mean change of the pixels that the edit must not touch, in percent of black to white.

The mask of the person is the drawing's own; the package's segmentation knows photographs.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.diffusion.checkpoint import SD15
from portraittalk_core.diffusion.denoiser import Condition
from portraittalk_core.diffusion.samplers import SamplerOptions
from portraittalk_core.diffusion.sites import SITES
from portraittalk_core.renderers.animatenet.animate_net import track_conditions
from portraittalk_core.renderers.animatenet.control import FrameControl
from portraittalk_core.renderers.animatenet.hints import track_hints
from portraittalk_core.renderers.identitynet.adapter import IdentityAdapter, IdentityOptions, identity_branches
from portraittalk_core.renderers.identitynet.painter import (
    AnimateConditioning,
    Animation,
    DiffusersPainter,
    PaintOptions,
)
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.training.animatenet.config import AnimateTraining
from portraittalk_core.training.animatenet.faces import ClipFaces, FaceChoice
from portraittalk_core.training.animatenet.stage import AnimateParts, SpatialStage
from portraittalk_core.training.data.video_clips import VideoData
from portraittalk_core.training.identitynet.stage import FrozenParts, fresh_adapter

from .edits_toy import (
    SIDE,
    WORDS,
    Colours,
    ToyVae,
    WordTexts,
    caption_of,
    captioned_clip,
    descriptions,
    draw_person,
    new_person,
    random_words,
    track_of,
)
from .puppet_training import LENGTH, add_plan, fresh_parts, plan_of, toy_base, toy_trainer, trained

PURPOSE = "edits by text on drawn people: what moves, and what stays"
HELD_OUT_SEED, FRAMES, CFG = 50_000, 2, 3.5  # of people who were never seen; pictures of each; of the prompt
OPENINGS = torch.linspace(0, 1, 21)  # of drawn mouths, among which a painted one's is looked for
CLEAR = 0.02  # change of a pixel that counts as one


@dataclass(frozen=True)
class Plan:
    """Sizes of training and of painting."""

    base_steps: int = 400  # of the UNet that knows the captions
    control_steps: int = 550  # of face adapter and AnimateNet together
    rows: int = 16  # pictures in a step
    learning_rate: float = 2e-3
    clips: int = 80  # people to learn from
    held_out: int = 10  # people to edit
    sample_steps: int = 8
    seed: int = 0  # of every random number generator


@dataclass(frozen=True)
class Edit:
    """An edit with its settings, as docs/identitynet.md has them."""

    name: str
    attribute: str
    denoise: float
    identity: float  # strength
    part: str = "all"  # of `edit.EDITS`
    holds: bool = True  # whether face and landmarks are shown


EDITS = (
    Edit("style", "style", 0.5, 0.8),
    Edit("age", "age", 0.6, 0.5, "person"),
    Edit("expression", "expression", 0.4, 0.8, "person"),
    Edit("background", "background", 0.9, 0.8, "background"),
    Edit("background, no mask", "background", 0.9, 0.8),
    Edit("age from noise", "age", 1.0, 0.8),
    Edit("the same, text alone", "age", 1.0, 0.8, holds=False),
)


@dataclass(frozen=True)
class Networks:
    """What was trained."""

    frozen: FrozenParts
    adapter: IdentityAdapter
    parts: AnimateParts


@dataclass(frozen=True)
class Portrait:
    """Pictures of a person who was never seen, and what they show."""

    person: Colours
    words: Mapping[str, str]
    moves: Tensor  # (FRAMES, 4)
    tokens: Tensor  # (2, T, E) of the face

    def drawn(self, changes: Mapping[str, object] | None = None, person: Colours | None = None) -> Tensor:
        """(FRAMES, 3, SIDE, SIDE) drawings, as the codec can show them, with other words or an opening (0..1)."""
        changes = dict(changes or {})
        moves = self.moves.clone()
        if "opening" in changes:
            moves[:, 3] = changes.pop("opening")
        words = {**self.words, **changes}
        pictures = torch.stack([draw_person(move, person or self.person, words)[0] for move in moves])
        codec = ToyVae().codec
        return codec.decode(codec.encode(pictures)).clamp(-1, 1)

    def masks(self) -> Tensor:
        """(FRAMES, SIDE, SIDE) where the person is."""
        return torch.stack([draw_person(move, self.person, self.words)[1] for move in self.moves])


@dataclass(frozen=True)
class Scores:
    """What an edit did, over all portraits."""

    name: str
    named: float
    repainted: float  # the same with the old caption
    others: float
    recognised: float  # share of portraits whose colours are nearest to their own person's
    colours: float  # error in percent
    mouth: float  # r
    stays: float | None  # percent; None where the edit may touch all


def train(plan: Plan, out: Path) -> Networks:
    """A UNet that knows the captions; then a face adapter and AnimateNet, learnt together."""
    clips = people(plan.seed, plan.clips)
    frozen = toy_base(plan.base_steps, plan.seed, clips, WordTexts(), heads=2)
    adapter = fresh_adapter(frozen.unet, plan.seed)
    faces = ClipFaces(adapter, clips, FaceChoice(references=1, learns=True))
    trainer = toy_trainer(plan.control_steps, plan.rows, plan.learning_rate, plan.seed)
    config = AnimateTraining(
        *[out] * 3, identity=out, style="landmarks", resolution=SIDE, train_identity=True, trainer=trainer
    )
    stage = SpatialStage(frozen, fresh_parts(frozen.unet, plan.seed), VideoData(clips, 1), config, faces)
    trained(stage, out)
    return Networks(frozen, adapter, stage.parts)


@functools.lru_cache(1)
def people(seed: int, count: int) -> tuple:
    """The training set."""
    return tuple(captioned_clip(seed * 1000 + number, LENGTH) for number in range(count))


def portraits(networks: Networks, plan: Plan) -> list[Portrait]:
    """People who were never seen, each with words of their own."""
    made = []
    for number in range(plan.held_out):
        seed = HELD_OUT_SEED + 100 * plan.seed + number
        draw, person = torch.Generator().manual_seed(seed), new_person(seed)
        moves = torch.rand(FRAMES, 4, generator=draw) * torch.tensor([0.1, 0.08, 0.2, 1.0])
        moves = moves - torch.tensor([0.05, 0.04, 0.1, 0.0])
        (face,) = descriptions(person, seed, 1)
        made.append(Portrait(person, random_words(draw), moves, networks.adapter.tokens(face)))
    return made


def painted(networks: Networks, portrait: Portrait, edit: Edit, caption: str, plan: Plan) -> Tensor:
    """(FRAMES, 3, SIDE, SIDE) in −1..1: the portrait painted with a caption, as the command line paints it."""
    texts, track = networks.frozen.texts, track_of(portrait.moves, SIDE)
    branches, animation = {}, Animation()
    if edit.holds:
        keys = [site.adapter_key for site in SITES]
        strength = IdentityOptions(edit.identity)
        branches = identity_branches(networks.adapter, portrait.tokens, keys, strength)
        branches = {index: [branch] for index, branch in branches.items()}
        control = FrameControl(networks.parts.controlnet, track_hints(track, "landmarks"))
        animation = Animation(control, conditioning=AnimateConditioning(networks.parts.net, track_conditions(track)))
    condition = Condition(texts.tokens([caption]), texts.tokens([""]), CFG)
    sampling = SamplerOptions(steps=plan.sample_steps, denoise=edit.denoise, seed=plan.seed)
    options = PaintOptions(sampling, FRAMES, edit=edit.part)
    sd15 = SD15(networks.frozen.unet, ToyVae(), None)
    painter = DiffusersPainter(sd15, condition, branches, options, animation, lambda _: portrait.masks())
    frames = portrait.drawn().movedim(1, -1) / 2 + 0.5
    return painter.paint(frames).frames.movedim(-1, 1) * 2 - 1


def shares(picture: Tensor, portrait: Portrait) -> dict[str, float]:
    """How far each attribute moved: the change of the pictures as a mixture of the four true changes."""
    before = portrait.drawn()
    flips = torch.stack([(portrait.drawn({name: other(portrait, name)}) - before).flatten() for name in WORDS], 1)
    mixture = torch.linalg.lstsq(flips, (picture - before).flatten()[:, None]).solution[:, 0]
    return dict(zip(WORDS, mixture.tolist(), strict=True))


def other(portrait: Portrait, attribute: str) -> str:
    """The word that an edit of an attribute puts into the caption."""
    return next(word for word in WORDS[attribute] if word != portrait.words[attribute])


def regions(portrait: Portrait) -> list[Tensor]:
    """(FRAMES, 1, SIDE, SIDE) places that show skin, and shirt, whatever the words are."""
    changes = (
        Colours(portrait.person.skin + 0.2, portrait.person.shirt),
        Colours(portrait.person.skin, portrait.person.shirt + 0.2),
    )
    before = portrait.drawn()
    worded = [portrait.drawn({name: other(portrait, name)}) - before for name in WORDS if name != "style"]
    calm = torch.stack(worded).abs().amax((0, 2)) < CLEAR
    weights = [(portrait.drawn(person=person) - before).abs().mean(1) for person in changes]
    return [((weight > 0.7 * weight.amax()) & calm).float()[:, None] for weight in weights]


def colours_of(picture: Tensor, places: Sequence[Tensor]) -> Tensor:
    """(6,) mean colours of the places of `regions`."""
    return torch.cat([(picture * place).sum((0, 2, 3)) / place.sum().clamp(min=1) for place in places])


def openings_of(picture: Tensor, portrait: Portrait, words: Mapping[str, str]) -> Tensor:
    """(FRAMES,) openings of the drawn mouths that are most like the painted ones."""
    drawn = torch.stack([portrait.drawn({**words, "opening": float(opening)}) for opening in OPENINGS])
    place = (drawn.amax(0) - drawn.amin(0)).amax(1, keepdim=True) > 0.1
    errors = ((picture - drawn).square() * place).sum((2, 3, 4))
    return OPENINGS[errors.argmin(0)]


def score(networks: Networks, everybody: Sequence[Portrait], edit: Edit, plan: Plan) -> Scores:
    """What an edit does to all portraits."""
    rows, opened, asked = [], [], []
    for portrait in everybody:
        words = {**portrait.words, edit.attribute: other(portrait, edit.attribute)}
        picture = painted(networks, portrait, edit, caption_of(words), plan)
        plain = painted(networks, portrait, edit, caption_of(portrait.words), plan)
        moved, rest = shares(picture, portrait), shares(plain, portrait)
        places = regions(portrait)
        colours = colours_of(picture, places)
        drawn = [colours_of(portrait.drawn(words, one.person), places) for one in everybody]
        distances = torch.stack([(colours - other_colours).norm() for other_colours in drawn])
        person = next(number for number, one in enumerate(everybody) if one is portrait)
        opened.append(openings_of(picture, portrait, words))
        asked.append(portrait.moves[:, 3])
        masks = portrait.masks()[:, None]
        kept = {"person": masks < 0.01, "background": masks > 0.99}.get(edit.part, masks < 0)
        kept = masks > 0.99 if edit.attribute == "background" else kept
        change = (picture - portrait.drawn()).abs()[kept.expand_as(picture)]
        others = max(abs(moved[name] - rest[name]) for name in WORDS if name != edit.attribute)
        error = 50 * float((colours - drawn[person]).abs().mean())
        stays = 50 * float(change.mean()) if len(change) else float("nan")
        recognised = float(distances.argmin() == person)
        rows.append([moved[edit.attribute], rest[edit.attribute], others, recognised, error, stays])
    means = torch.tensor(rows).mean(0).tolist()
    mouth = float(torch.corrcoef(torch.stack([torch.cat(opened), torch.cat(asked)]))[0, 1])
    return Scores(edit.name, *means[:5], mouth, None if math.isnan(means[5]) else means[5])


def edits(plan: Plan, which: Sequence[Edit] = EDITS) -> list[Scores]:
    """The scores of edits, in their order."""
    with one_torch_thread(), tempfile.TemporaryDirectory() as folder:
        networks = train(plan, Path(folder) / "run")
        everybody = portraits(networks, plan)
        return [score(networks, everybody, edit, plan) for edit in which]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    add_plan(parser, Plan)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a table for each seed; 1 if an edit with its settings moves another attribute as far as the named one."""
    missed = 0
    for seed in args.seeds:
        began = time.monotonic()
        plan = plan_of(args, Plan, seed)
        print(f"{'edit':22}{'named':>7}{'old':>7}{'others':>8}{'person':>8}{'colours':>9}{'mouth r':>9}{'stays':>8}")
        for row in edits(plan):
            stays = "" if row.stays is None else f"{row.stays:.1f} %"
            numbers = f"{row.named:7.2f}{row.repainted:7.2f}{row.others:8.2f}{row.recognised:8.0%}{row.colours:7.1f} %"
            print(f"{row.name:22}{numbers}{row.mouth:9.2f}{stays:>8}")
            missed += row.named <= max(row.repainted, row.others)
        seconds = time.monotonic() - began
        print(f"{plan.held_out} people never seen, {FRAMES} pictures each, seed {seed}, {seconds:.0f} s.")
        sys.stdout.flush()
    return 1 if missed else 0


def main() -> int:
    """Command line of this module: ``python -m benchmarks.edits``."""
    parser = argparse.ArgumentParser("python -m benchmarks.edits", description=__doc__)
    add_arguments(parser)
    args = parser.parse_args()
    return args.run(args)


if __name__ == "__main__":
    raise SystemExit(main())
