"""What each part of the paper's lip renderer is worth, and what references cost: ``python -m benchmarks lips``.

On drawn people by default, whose clips are trained on and who are others than those that are painted; with `--clips` on
a folder of `tools/prepare_grid.py`. The full network and the network without alignment (in both readings: no references
at all, and the mean of unwarped ones), without lips and without sound are trained alike, in the same steps and seeds.
On drawn people lips and sound are judged where aligned references show no mouths, and alignment where they do: each
part where what it knows stands in no other place.

A held-out clip's second half is painted through the renderer's contract, on its true landmarks, with references chosen
from its first half, so that no frame helps itself. PSNR is of the hidden lower halves. LMD is IP-LAP's mean of |dx| and
|dy| of mouth points that are found in the painted and in the true crop: on drawn people by registering the drawing, on
filmed ones by the face mesh. Beside them our warp renderer moves the first reference to the same landmarks.
Source: J. Wu et al., "Talking Face Generation with Lip and Identity Priors", tables 1 to 3.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from portraittalk_core.face.lip_points import MOUTH, OUTER_LIPS
from portraittalk_core.face.mesh.landmarks import open_mesh
from portraittalk_core.media.image import save_picture
from portraittalk_core.metrics.landmark_distance import MOUTH_POINTS, lmd
from portraittalk_core.metrics.ssim import ssim
from portraittalk_core.pipelines.dub import read_film
from portraittalk_core.renderers.lip.contract import LipBatch, References
from portraittalk_core.renderers.lip.files import open_lip_model
from portraittalk_core.renderers.lip.lip_model import LipPriors
from portraittalk_core.renderers.lip.random_files import random_lip_model
from portraittalk_core.renderers.lip.reading import around_lips
from portraittalk_core.renderers.lip.references import choose
from portraittalk_core.renderers.lip.sizes import DECODERS, SPADE_DECODER
from portraittalk_core.renderers.lip.warped_frames import mouth_mask
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.training.data.video_clips import read_list
from portraittalk_core.training.lips.config import NETWORKS, LipTrainer, LipTraining, LipWeights
from portraittalk_core.training.lips.data import LipWindows
from portraittalk_core.training.lips.stage import LIPS_NAME, new_lip_model, train_lip_model

from .implicit_small import TRAIN, by_warp, clip_picture, groups, measured
from .lips_puppet import SIDE, UNIT, mouth_ruler
from .lips_subjects import Subject, drawn_people, film_subject, prepared_clips
from .lipsync_tables import Table, progress, show

PURPOSE = "what alignment, lips and sound are worth to the lip renderer, and what references cost"
VARIANTS = {
    "full": "none",
    "no references": "align",
    "unwarped mean": "align-mean",
    "no lips": "lips",
    "no sound": "audio",
}
AT_THE_MOUTH = ("no lips", "no sound")  # parts that act there alone, and are judged there
PAPER = {"full": 32.93, "no references": 25.42, "unwarped mean": 25.42, "no lips": 31.22, "no sound": 32.70}  # LRS2
FACES, LIPS = (1, 5, 10, 25), (1, 3, 5)  # numbers of references
LEARNT = 2, 3  # references and lip references of a window that is trained on
AT_ONCE = 8  # frames that are painted together
# drawn people's aligned references, and the parts that are judged with them: what those know stands nowhere else there
COVERED, ANY = "covered", "any"
JUDGED = {COVERED: ("full", "no lips", "no sound"), ANY: ("full", "no references", "unwarped mean")}
WEIGHTS = LipWeights(
    gan=0.0, feature_matching=0.0, lips=8.0, lips_squared=50.0
)  # a discriminator would take most of the time
SHEET_FRAMES = 3
OVER, OTHERS = "its mouth over the warp", "full, with the next clip's lips"
WARP, HEADING = "our warp of one frame", ["PSNR dB", "mouth dB", "SSIM", "LMD px"]
Reader = Callable[["Subject", Sequence[int], Tensor], Tensor]


@dataclass(frozen=True)
class Score:
    """How near painted frames are to the true ones."""

    psnr_db: float  # of the lower halves
    mouth_db: float  # PSNR of the boxes around the lips
    ssim: float  # of the lower halves
    lmd_px: float

    def cells(self) -> list[str]:
        """Of a table."""
        return [f"{self.psnr_db:.2f}", f"{self.mouth_db:.2f}", f"{self.ssim:.3f}", f"{self.lmd_px:.3f}"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--clips", metavar="FOLDER", type=Path, help="of tools/prepare_grid.py; else drawn people")
    parser.add_argument("--films", metavar="FILM", nargs="*", type=Path, default=(), help="of others, to paint besides")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="runs and a sheet; if not given, nothing is kept")
    parser.add_argument(
        "--steps",
        metavar="N",
        type=int,
        default=1600,
        help="of each training; 0: open those of --out. The defaults take about 17 minutes of one core",
    )
    parser.add_argument("--batch", metavar="N", type=int, default=8, help="windows of a step")
    parser.add_argument("--learning-rate", metavar="X", type=float, default=3e-3, help="of the trainings")
    parser.add_argument("--size", metavar="S", type=int, default=32, help="pixels of the crops")
    parser.add_argument("--networks", choices=tuple(NETWORKS), default="tiny", help="widths of the layers")
    parser.add_argument("--lips-file", metavar="FILE", type=Path, help="of `train lips`: score it, and train nothing")
    parser.add_argument(
        "--keep-references",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="what is painted is added to aligned references, which every network begins with",
    )
    parser.add_argument(
        "--references",
        choices=(COVERED, ANY),
        help="drawn people's aligned references, in training too: frames whose mouths a glove covers, or any frames; "
        "if not given, the first for lips and sound and the second for alignment",
    )
    parser.add_argument("--decoder", choices=DECODERS, default=SPADE_DECODER, help="SPADE blocks of the rendering")
    parser.add_argument("--held-out", metavar="N", type=int, default=8, help="of each group of clips")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=tuple(VARIANTS), help="of the networks")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the trainings")
    parser.add_argument("--cost", default="public", choices=("public", "tiny"), help="networks whose cost is measured")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, paint, and print the tables; 1 if a part is worth nothing."""
    began = time.process_time()
    given = vars(args)
    if args.clips is not None or args.lips_file is not None or args.references is not None:
        worlds = [argparse.Namespace(**{**given, "references": args.references or COVERED})]
    else:
        parts = {name: [one for one in args.only if one in judged] for name, judged in JUDGED.items()}
        worlds = [
            argparse.Namespace(**{**given, "references": name, "only": only, "out": args.out and args.out / name})
            for name, only in parts.items()
            if only
        ]
    with one_torch_thread():
        missed = [measure(world) for world in worlds]
        show_cost(args.cost)
    print(f"{time.process_time() - began:.0f} s of processor time")
    return max(missed)


def measure(args: argparse.Namespace) -> int:
    """Train and paint with references of one kind, and print their tables; 1 if a part is worth nothing."""
    with tempfile.TemporaryDirectory(prefix="portraittalk_lips_") as folder:
        out = args.out or Path(folder)
        train, held_out = subjects(args, out / "crops")
        if args.lips_file is not None:
            models = {"full": open_lip_model(args.lips_file, name="lips")}
        else:
            models = {name: trained(name, train, args, out) for name in args.only}
        reader = read_drawn if args.clips is None else read_filmed
        rule = next(iter(models.values())).crop
        films = [film_subject(read_film(film), rule, out / "crops") for film in args.films]
        rows, scores = [], {}
        for name, model in models.items():
            scores[name] = score(held_out, by_model(model, 5, 5), reader)
            rows.append([name, *scores[name].cells(), f"{PAPER[name]:.2f}"])
            if name == "full" and len(held_out) > 1:
                rows.append([OTHERS, *score(held_out, by_model(model, 5, 5, others_of(held_out)), reader).cells(), "—"])
        rows.append([WARP, *score(held_out, warped, reader).cells(), "—"])
        trained_for = f"{args.steps} steps" if args.lips_file is None else args.lips_file.name
        clips = f"{len(held_out)} held-out clips, {trained_for}"
        kind = f", {args.references} references" if args.clips is None else ""
        show(Table(f"parts of the network: {clips}{kind}", ["network", *HEADING, "the paper's PSNR"], rows))
        if "full" in models:
            if args.clips is not None:
                show_groups(models["full"], held_out, films, read_list(args.clips / TRAIN), reader)
            show_numbers(models["full"], held_out, reader)
            save_sheet(models, held_out, (args.out or Path()) / "lips_sheet.png" if args.out else None)
    return verdict(scores)


def verdict(scores: dict[str, Score]) -> int:
    """Print whether the full network is the best in PSNR and in landmark distance; 1 if it is not.

    PSNR is of the lower half, or at the mouth where a part acts there.
    """
    if "full" not in scores:
        return 0
    missed, best = 0, scores["full"]
    for name, found in scores.items():
        if name == "full":
            continue
        where, place = ("mouth_db", "at the mouth") if name in AT_THE_MOUTH else ("psnr_db", "of the lower half")
        gain, nearer = getattr(best, where) - getattr(found, where), found.lmd_px - best.lmd_px
        for wins, told in ((gain > 0, f"{gain:+.2f} dB {place}"), (nearer > 0, f"lips {nearer:+.3f} px nearer")):
            missed += not wins
            print(f"{'ok  ' if wins else 'MISS'} full over {name}: {told}")
    return int(missed > 0)


def training(args: argparse.Namespace, ablate: str, out: Path) -> LipTraining:
    """The recipe of all networks."""
    trainer = LipTrainer(
        steps=max(args.steps, 1), batch_size=args.batch, learning_rate=args.learning_rate, save_every=500,
        sample_every=0, seed=args.seed, ema_decay=0.99, clip_norm=1.0,
        milestones=(max(1, args.steps * 3 // 4),), gamma=0.3,
    )  # fmt: skip
    return LipTraining(
        args.clips or out, out, pixels=True, networks=args.networks, size=args.size, ablate=ablate, weights=WEIGHTS,
        keep_references=args.keep_references, decoder=args.decoder,
        warmup_epochs=0, warmup_steps=args.steps // 10, trainer=trainer, augment=args.clips is not None,
    )  # fmt: skip


def trained(name: str, train: Sequence[Subject], args: argparse.Namespace, out: Path) -> LipPriors:
    """A network of VARIANTS, trained from where it stopped."""
    folder = out / name.replace(" ", "_")
    if not args.steps:
        return open_lip_model(folder / LIPS_NAME, name="lips")
    config = training(args, VARIANTS[name], folder)
    model = new_lip_model(config)
    windows = LipWindows([subject.clip for subject in train], model.size, *LEARNT, config.augment)
    train_lip_model(model, windows, config, on_progress=lambda done, total: progress(f"{name}: {done} of {total}"))
    progress("")
    return model


def subjects(args: argparse.Namespace, keep: Path) -> tuple[list[Subject], list[Subject]]:
    """Clips to train on, and clips to paint."""
    keep.mkdir(parents=True, exist_ok=True)
    if args.lips_file is not None:
        rule = open_lip_model(args.lips_file, name="lips").crop
    else:
        rule = new_lip_model(training(args, "none", keep)).crop
    if args.clips is None:
        return drawn_people(rule, keep, args.references == COVERED)
    return prepared_clips(args.clips, args.held_out, rule, keep, args.lips_file is None and args.steps > 0)


Painter = Callable[[Subject, Sequence[int]], Tensor]


def others_of(held_out: Sequence[Subject]) -> dict[Subject, Subject]:
    """For each clip the next one, of another person on drawn people."""
    return dict(zip(held_out, (*held_out[1:], held_out[0]), strict=True))


def by_model(model: LipPriors, num_faces: int, num_lips: int, lips_of: dict[Subject, Subject] | None = None) -> Painter:
    """Paints with a network, through the renderer's contract; with lips of the clips in `lips_of`, if given."""

    def paint(subject: Subject, frames: Sequence[int]) -> Tensor:
        references = subject.references(num_faces, num_lips)
        if lips_of is not None:
            other = lips_of[subject].references(1, num_lips)
            references = dataclasses.replace(references, lips=other.lips, lip_sketches=other.lip_sketches)
        features = model.encode(references)
        parts = [frames[at : at + AT_ONCE] for at in range(0, len(frames), AT_ONCE)]
        return torch.cat([model.paint(features, subject.batch(part)) for part in parts])

    return paint


def warped(subject: Subject, frames: Sequence[int]) -> Tensor:
    """The warp renderer: the first part's most closed mouth, moved to the frames' landmarks."""
    source = choose(subject.video.track, subject.first_part, 1, 1).faces[0]
    pictures = by_warp(dataclasses.replace(subject.video, reference=source), frames)
    return torch.stack([subject.boxes[f].take(p, subject.side) for f, p in zip(frames, pictures, strict=True)])


def over_warp(model: LipPriors) -> Painter:
    """The warp's crops with the insides of the network's mouths pasted into them, as `blend` mouth does."""
    painted = by_model(model, 5, 5)

    def paint(subject: Subject, frames: Sequence[int]) -> Tensor:
        lips = [subject.clip.points[frame, MOUTH][len(OUTER_LIPS) :] for frame in frames]
        masks = torch.stack([mouth_mask(inner, subject.side) for inner in lips])
        return torch.lerp(warped(subject, frames), painted(subject, frames), masks[:, None])

    return paint


def score(held_out: Sequence[Subject], paint: Painter, reader: Reader) -> Score:
    """Means over clips."""
    rows = []
    for subject in held_out:
        frames = subject.painted_frames
        made, true = paint(subject, frames), subject.crops(frames)
        halves = [crops[:, :, subject.side // 2 :] for crops in (made, true)]
        pairs = zip(*(255 * half.permute(0, 2, 3, 1) for half in halves), strict=True)
        alike = sum(ssim(*pair) for pair in pairs) / len(frames)
        errors = (made - true).square().mean(1)
        masks = torch.stack([around_lips(subject.clip.points[frame], subject.side) for frame in frames])
        means = errors[:, subject.side // 2 :].mean(), (errors * masks).sum() / masks.sum()
        places = reader(subject, frames, made), _true_places(reader, subject)
        found = ~(places[0].isnan() | places[1].isnan()).flatten(1).any(1)
        away = lmd(places[0][found], places[1][found], kind="l1_raw").mean() if bool(found.any()) else torch.nan
        rows.append((*(float(-10 * mean.log10()) for mean in means), float(alike), float(away)))
    return Score(*torch.tensor(rows, dtype=torch.float64).nanmean(0).tolist())


@cache
def _true_places(reader: Reader, subject: Subject) -> Tensor:
    frames = subject.painted_frames
    return reader(subject, frames, subject.crops(frames))


def read_drawn(subject: Subject, frames: Sequence[int], crops: Tensor) -> Tensor:
    """(F, 4, 2) how far the left, right, highest and lowest end of a drawn mouth are off, in pixels of the crops."""
    off = []
    for frame, crop, true in zip(frames, crops, subject.crops(frames), strict=True):
        off.append(_ruler(subject, frame) @ (crop - true).flatten())
    left, right, top, bottom = torch.stack(off).unbind(1)
    middles = (left + right) / 2, (top + bottom) / 2
    ends = [(left, middles[1]), (right, middles[1]), (middles[0], top), (middles[0], bottom)]
    scale = UNIT * SIDE * subject.side / subject.clip.boxes_px[list(frames)]  # pixels of an inter-ocular distance
    return torch.stack([torch.stack(end, 1) for end in ends], 1) * scale[:, None]


@cache
def _ruler(subject: Subject, frame: int) -> Tensor:
    def crop(picture: Tensor) -> Tensor:
        levels = (picture * 255).round().byte().permute(1, 2, 0).contiguous()
        return subject.boxes[frame].take(levels, subject.side)

    return mouth_ruler(subject.acting, frame, crop, around_lips(subject.clip.points[frame], subject.side))


def read_filmed(subject: Subject, frames: Sequence[int], crops: Tensor) -> Tensor:
    """(F, 40, 2) mouth landmarks of crops in their pictures, pixels; NaN where no face is found."""
    pictures = []
    for frame, crop in zip(frames, crops, strict=True):
        picture, box = clip_picture(subject.video, frame), subject.boxes[frame]
        width, height = box.size_px
        resized = interpolate(crop[None], (height, width), mode="bilinear", align_corners=False)[0]
        part = (resized * 255).round().clamp(0, 255).byte().permute(1, 2, 0)
        middle = height // 2
        picture[box.top + middle : box.bottom, box.left : box.right] = part[middle:]
        pictures.append(picture)
    with open_mesh() as mesh:
        seen = measured(pictures, subject.video, mesh)
    if seen is None:
        return torch.full((len(frames), len(MOUTH_POINTS), 2), torch.nan)
    return seen.points_px[:, list(MOUTH_POINTS), :2].masked_fill(~seen.valid[:, None, None], torch.nan)


def show_numbers(model: LipPriors, held_out: Sequence[Subject], reader: Reader) -> None:
    """Print what more references and more lips are worth to the full network."""
    for what, counts, pair in (
        ("references", FACES, lambda count: (count, 5)),
        ("lip references", LIPS, lambda count: (5, count)),
    ):
        rows = []
        for count in counts:
            rows.append([str(count), *score(held_out, by_model(model, *pair(count)), reader).cells()])
        show(Table(f"number of {what}", [what, *HEADING], rows))


def show_groups(
    model: LipPriors, held_out: Sequence[Subject], films: Sequence[Subject], train: frozenset[str], reader: Reader
) -> None:
    """Print the full network and the warp renderer on people that were trained on, and on others."""
    found, rows = {subject.video.name: subject for subject in held_out}, []
    parts = [(name, [found[v.name] for v in videos]) for name, videos in groups([s.video for s in held_out], train)]
    for name, members in (*parts, ("films", films)):
        for way, paint in (("full", by_model(model, 5, 5)), (OVER, over_warp(model)), (WARP, warped)):
            if members:
                rows.append([f"{name} ({len(members)})", way, *score(members, paint, reader).cells()])
    show(Table("people", ["clips", "renderer", *HEADING], rows))


def show_cost(size: str) -> None:
    """Print time and memory of references, on random weights."""
    model, rows = random_lip_model("lips", size), []
    side = model.size
    draw = torch.Generator().manual_seed(1)
    for count in FACES:
        references = References(*(torch.rand(n, 3, side, side, generator=draw) for n in (count, count, 5, 5)))
        batch = LipBatch(
            torch.rand(1, 3, side, side, generator=draw), torch.rand(1, 5, 3, side, side, generator=draw),
            torch.zeros(1, 80, 16),
        )  # fmt: skip
        began = time.process_time()
        features = model.encode(references)
        encoded = time.process_time()
        model.paint(features, batch)
        painted = time.process_time()
        held = sum(
            x.numel() * x.element_size()
            for x in (*(getattr(features.references, f.name) for f in dataclasses.fields(features.references)),
                      features.lips)
        )  # fmt: skip
        numbers = (encoded - began, painted - encoded, held / 1e6)
        rows.append([str(count), *map("{:.2f}".format, numbers)])
    heading = ["references", "encoding, s once a clip", "painting, s a frame", "held, MB"]
    show(Table(f"cost of references, {size} size, {side} pixels, one core", heading, rows))


def save_sheet(models: dict[str, LipPriors], held_out: Sequence[Subject], path: Path | None) -> None:
    """A picture: of some clips the true crops, those of all networks, and the warp's, one below the other."""
    if path is None:
        return
    columns = []
    for subject in held_out[:4]:
        frames = subject.painted_frames[:: max(1, len(subject.painted_frames) // SHEET_FRAMES)][:SHEET_FRAMES]
        ways = [by_model(model, 5, 5) for model in models.values()]
        over = [over_warp(models["full"])] if "full" in models else []
        rows = [subject.crops(frames), *(paint(subject, frames) for paint in (*ways, *over, warped))]
        columns.append(torch.cat([torch.cat(list(row), 2) for row in rows], 1))
    sheet = torch.cat(columns, 2).clamp(0, 1)
    save_picture((sheet * 255).round().byte().permute(1, 2, 0), path)
    over = [OVER] if "full" in models else []
    print(f"rows of {path}: {', '.join(('true', *models, *over, 'our warp'))}")
