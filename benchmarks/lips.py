"""What each part of the paper's lip renderer is worth, and what references cost: ``python -m benchmarks lips``.

On drawn people by default, whose clips are trained on and who are others than those that are painted; with `--clips` on
a folder of `tools/prepare_grid.py`: other sentences of the speakers that were trained on, and speakers never seen. The
full network and the network without alignment (in both readings: no references at all, and the mean of unwarped ones),
without lips and without sound are trained alike, in the same steps and seeds. Lips and sound are judged where aligned
references show nothing of the inside of mouths (on drawn people a glove covers them, on filmed ones they are closed),
and alignment where they do: each part where what it knows stands in no other place. Drawn people teach networks of
their own for both; networks of filmed people learn with any references and paint with both, and what lips and sound are
worth is told of both. With several seeds all are trained once for each, and means are told.

A held-out clip's second half is painted through the renderer's contract, on its true landmarks, with references chosen
from its first half, so that no frame helps itself. PSNR is of the hidden lower halves. LMD is IP-LAP's mean of |dx| and
|dy| of mouth points that are found in the painted and in the true crop: on drawn people by registering the drawing, on
filmed ones by the face mesh. Differences to the full network are means over clips, with their standard error; `weak`
marks one of less than two. Beside them our warp renderer moves the first reference to the same landmarks.
Source: J. Wu et al., "Talking Face Generation with Lip and Identity Priors", tables 1 to 3.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from portraittalk_core.errors import InputError
from portraittalk_core.pipelines.dub import read_film
from portraittalk_core.renderers.lip.contract import LipCropRule
from portraittalk_core.renderers.lip.files import open_lip_model
from portraittalk_core.renderers.lip.lip_model import LipPriors
from portraittalk_core.renderers.lip.sizes import DECODERS, SPADE_DECODER
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.training.data.video_clips import read_list
from portraittalk_core.training.lips.config import NETWORKS
from portraittalk_core.training.lips.stage import new_lip_model

from .implicit_small import TRAIN, groups
from .lips_scores import FACES, OfSeeds, by_model, others_of, painter, read_drawn, read_filmed, score, verdict, warped
from .lips_subjects import Subject, drawn_people, film_subject, prepared_clips
from .lips_tables import (
    LIP_REFERENCES,
    OTHERS,
    REFERENCES,
    WARP,
    save_sheet,
    show_cost,
    show_films,
    show_numbers,
    show_parts,
)
from .lips_training import FULL, SILENCE_HEARD, VARIANTS, plan, trained

PURPOSE = "what alignment, lips and sound are worth to the lip renderer, and what references cost"
# aligned references, and the parts that are judged with them
COVERED, CLOSED, ANY = "covered", "closed", "any"
DRAWN = {COVERED: (FULL, "no lips", "no sound"), ANY: (FULL, "no references", "unwarped mean")}
FILMED = {ANY: tuple(VARIANTS), CLOSED: (FULL, "no lips", "no sound", SILENCE_HEARD)}
DECIDED = {ANY: ("no references", "unwarped mean"), CLOSED: ("no lips", "no sound", SILENCE_HEARD)}  # of filmed people
# what suits drawn and filmed people, where an option is not given
USUAL_DRAWN = {
    "steps": 1600, "batch": 8, "learning_rate": 3e-3, "size": 32, "networks": "tiny", "nearest_lips": 0,
    "lip_guide": False, "lip_warp": False, "held_out": 8,
}  # fmt: skip
USUAL_FILMED = {
    "steps": 8000, "batch": 4, "learning_rate": 2e-3, "size": 48, "networks": "quick", "nearest_lips": 1,
    "lip_guide": True, "lip_warp": True, "held_out": 40,
}  # fmt: skip
NUMBERED = 5  # on every so manyth held-out clip of filmed people numbers of references are tried


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    usual = "; if not given, {} for drawn and {} for filmed people"

    def told(name: str) -> str:
        return usual.format(USUAL_DRAWN[name], USUAL_FILMED[name])

    parser.add_argument("--clips", metavar="FOLDER", type=Path, help="of tools/prepare_grid.py; else drawn people")
    parser.add_argument("--films", metavar="FILM", nargs="*", type=Path, default=(), help="of others, to paint besides")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="runs and sheets; if not given, nothing is kept")
    parser.add_argument(
        "--steps",
        metavar="N",
        type=int,
        help=f"of each training; 0: open those of --out{told('steps')}. These take about 17 minutes of one core for "
        "drawn, and 75 for filmed people",
    )
    parser.add_argument(
        "--alignment-steps", metavar="N", type=int, default=1200, help="of filmed people's, before the steps"
    )
    parser.add_argument("--batch", metavar="N", type=int, help=f"windows of a step{told('batch')}")
    parser.add_argument("--learning-rate", metavar="X", type=float, help=f"of the trainings{told('learning_rate')}")
    parser.add_argument("--size", metavar="S", type=int, help=f"pixels of the crops{told('size')}")
    parser.add_argument("--networks", choices=tuple(NETWORKS), help=f"widths of the layers{told('networks')}")
    parser.add_argument(
        "--nearest-lips",
        metavar="N",
        type=int,
        help="lip references of each frame, whose mouths are most like its own; 0: the mean of all"
        f"{told('nearest_lips')}",
    )
    parser.add_argument(
        "--lip-guide",
        action=argparse.BooleanOptionalAction,
        help=f"lip references guide the last block at full size{told('lip_guide')}",
    )
    parser.add_argument(
        "--lip-warp",
        action=argparse.BooleanOptionalAction,
        help=f"they are warped to the frame's landmarks before they guide{told('lip_warp')}",
    )
    parser.add_argument(
        "--opening-noise",
        metavar="X",
        type=float,
        default=0.0,
        help="in training and where others are painted, mouths are drawn open by a factor of 1 ± X, as landmarks of an "
        "engine are; the sound can tell what they lack",
    )
    parser.add_argument("--lips-file", metavar="FILE", type=Path, help="of `train lips`: score it, and train nothing")
    parser.add_argument(
        "--keep-references",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="what is painted is added to aligned references, which every network begins with",
    )
    parser.add_argument(
        "--references",
        choices=(COVERED, CLOSED, ANY),
        help="aligned references, in training too: drawn people's whose mouths a glove covers, filmed people's with "
        "closed mouths, or any; if not given, each part's own",
    )
    parser.add_argument("--decoder", choices=DECODERS, default=SPADE_DECODER, help="SPADE blocks of the rendering")
    parser.add_argument("--held-out", metavar="N", type=int, help=f"of each group of clips{told('held_out')}")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=tuple(VARIANTS), help="of the networks")
    parser.add_argument(
        "--seed", metavar="N", nargs="+", type=int, default=[0], help="of trainings; means are told of several, as a "
        "training's chance may be more than a part is worth",
    )  # fmt: skip
    parser.add_argument("--cost", default="public", choices=("public", "tiny"), help="networks whose cost is measured")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, paint, and print the tables; 1 if a part is worth nothing."""
    began = time.process_time()
    given = {name: value for name, value in vars(args).items() if value is not None}
    args = argparse.Namespace(**{**vars(args), **(USUAL_DRAWN if args.clips is None else USUAL_FILMED), **given})
    missed, models = 0, {seed: {} for seed in args.seed}
    with one_torch_thread(), tempfile.TemporaryDirectory(prefix="portraittalk_lips_") as folder:
        for references, judged in worlds(args).items():
            out = args.out or Path(folder)
            if args.clips is None:
                out = out / references
                models = {seed: {} for seed in args.seed}  # the networks of each kind of references are others
            names = [name for name in args.only if name in judged]
            if names:
                missed |= measure(args, references, names, models, out)
        show_cost(args.cost)
    print(f"{time.process_time() - began:.0f} s of processor time")
    return missed


def worlds(args: argparse.Namespace) -> dict[str, Sequence[str]]:
    """Kinds of aligned references, and the networks that are judged with them.

    Raises:
        InputError: people of this kind have no such references.
    """
    kinds = DRAWN if args.clips is None else FILMED
    if args.references not in (None, *kinds):
        raise InputError(f"--references {args.references} is not for these people; choose {' or '.join(kinds)}.")
    if args.lips_file is not None:
        return {args.references or next(iter(kinds)): (FULL,)}
    if args.references is not None:
        return {args.references: tuple(VARIANTS)}
    return kinds


def measure(
    args: argparse.Namespace, references: str, names: Sequence[str], models: dict[int, dict[str, LipPriors]], out: Path
) -> int:
    """Train and paint with references of one kind, and print their tables; 1 if a part is worth nothing.

    `models` are those of each seed that are there already; what is trained is added.
    """
    to_train = any(name not in networks for networks in models.values() for name in names)
    train, held_out = subjects(args, references, out / "crops", to_train)
    for seed, networks in models.items():
        if args.lips_file is not None:
            networks[FULL] = open_lip_model(args.lips_file, name="lips")
            continue
        folder = out if len(models) == 1 else out / f"seed_{seed}"
        missing = [name for name in names if name not in networks]
        networks |= {name: trained(name, train, with_seed(args, seed), folder) for name in missing}
    reader = read_drawn if args.clips is None else read_filmed
    scores: dict[str, OfSeeds] = {}
    for name in names:
        scores[name] = [score(held_out, painter(name, networks[name]), reader) for networks in models.values()]
        if name == FULL and len(held_out) > 1 and references != ANY:
            others = others_of(held_out)
            paints = [by_model(networks[name], FACES, lips_of=others) for networks in models.values()]
            scores[OTHERS] = [score(held_out, paint, reader) for paint in paints]
    scores[WARP] = [score(held_out, warped, reader)]
    trained_for = f"{args.steps} steps" if args.steps else "trained before"
    if args.lips_file is not None:
        trained_for = args.lips_file.name
    missed = 0
    for number, (who, chosen) in enumerate(parted(args, held_out)):
        some = {name: [[clips[at] for at in chosen] for clips in seeds] for name, seeds in scores.items()}
        clips = f"{len(chosen)} held-out clips{who}, {references} references, {trained_for}"
        show_parts(f"parts of the network: {clips}", some)
        lost = verdict({name: some[name] for name in names}, who)
        missed |= int(not number and bool(lost & set(decided(args, references))))
    if FULL in names:
        first = models[args.seed[0]]
        show_more(args, first[FULL], held_out, out / "crops", references)
        sheet = out / ("lips_sheet.png" if args.clips is None else f"lips_sheet_{references}.png")
        save_sheet({name: first[name] for name in names}, held_out, sheet if args.out else None)
    return missed


def decided(args: argparse.Namespace, references: str) -> Sequence[str]:
    """The networks without a part for which references of one kind decide whether the part is worth nothing."""
    return DECIDED[references] if args.clips is not None and args.references is None else tuple(VARIANTS)


def show_more(
    args: argparse.Namespace, model: LipPriors, held_out: Sequence[Subject], keep: Path, references: str
) -> None:
    """Print what numbers of references are worth to the full network, and how it paints films of others.

    Of filmed people, each number where it is of what the other references do not show.
    """
    if args.clips is None:
        show_numbers(model, held_out, read_drawn)
    else:
        what = (LIP_REFERENCES if references == CLOSED else REFERENCES,)
        show_numbers(model, held_out[::NUMBERED], read_filmed, what)
    films = [film_subject(read_film(film), model.crop, keep) for film in args.films]
    if films:
        show_films(model, films, read_filmed)


def parted(args: argparse.Namespace, held_out: Sequence[Subject]) -> list[tuple[str, list[int]]]:
    """Groups of held-out clips, by name and places: all, which decide; of people trained on; of others."""
    everyone = ("", list(range(len(held_out))))
    if args.clips is None:
        return [everyone]
    videos = [subject.video for subject in held_out]
    places = {video.name: place for place, video in enumerate(videos)}
    *speakers, (name, others) = groups(videos, read_list(args.clips / TRAIN))
    known = [(one, members) for one, members in speakers if members]
    parts = [(" of speakers trained on", [video for _, members in known for video in members])]
    parts += [(f" of {one}", members) for one, members in known if len(members) > 1] if len(known) > 1 else []
    parts += [(f" of {name}", others)]
    return [everyone, *((name, [places[video.name] for video in members]) for name, members in parts if members)]


def subjects(
    args: argparse.Namespace, references: str, keep: Path, to_train: bool
) -> tuple[list[Subject], list[Subject]]:
    """Clips to train on, and clips to paint."""
    keep.mkdir(parents=True, exist_ok=True)
    rule = crop_rule(args, keep)
    if args.clips is None:
        train, held_out = drawn_people(rule, keep, references == COVERED)
    else:
        to_train = to_train and args.lips_file is None and args.steps > 0
        train, held_out = prepared_clips(args.clips, args.held_out, rule, keep, to_train, references == CLOSED)
    return train, [dataclasses.replace(subject, opening_noise=args.opening_noise) for subject in held_out]


def crop_rule(args: argparse.Namespace, out: Path) -> LipCropRule:
    """How the networks frame faces."""
    if args.lips_file is not None:
        return open_lip_model(args.lips_file, name="lips").crop
    return new_lip_model(plan(with_seed(args, args.seed[0]), "none", out)).crop


def with_seed(args: argparse.Namespace, seed: int) -> argparse.Namespace:
    """The options of one training."""
    return argparse.Namespace(**{**vars(args), "seed": seed})
