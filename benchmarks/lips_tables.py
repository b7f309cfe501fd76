"""Tables and the sheet of pictures of the benchmark of lip renderers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from portraittalk_core.media.image import save_picture
from portraittalk_core.renderers.lip.contract import LipBatch, References
from portraittalk_core.renderers.lip.inside import gaps
from portraittalk_core.renderers.lip.lip_model import LipPriors
from portraittalk_core.renderers.lip.random_files import random_lip_model

from .lips_scores import (
    FACES,
    HEADING,
    OfSeeds,
    Reader,
    by_model,
    mean,
    mean_of_seeds,
    over_warp,
    painter,
    score,
    warped,
)
from .lips_subjects import Subject
from .lips_training import FULL
from .lipsync_tables import Table, show

PAPER = {FULL: 32.93, "no references": 25.42, "unwarped mean": 25.42, "no lips": 31.22, "no sound": 32.70}  # LRS2
FACES_TRIED, LIPS_TRIED = (1, 5, 10, 25), (1, 3, 5, 12)  # numbers of references
REFERENCES, LIP_REFERENCES = "references", "lip references"
SHEET_CLIPS, SHEET_FRAMES = 4, 3
OTHERS, WARP, OVER = "full, with the next clip's lips", "our warp of one frame", "its mouth over the warp"


def show_parts(title: str, scores: dict[str, OfSeeds]) -> None:
    """Print the scores of all networks, means over trainings, beside the paper's."""
    rows = []
    for name, seeds in scores.items():
        rows.append([name, *mean_of_seeds(seeds).cells(), f"{PAPER[name]:.2f}" if name in PAPER else "—"])
    show(Table(title, ["network", *HEADING, "the paper's PSNR"], rows))


def show_films(model: LipPriors, films: Sequence[Subject], reader: Reader) -> None:
    """Print the full network and the warp renderer on films of others."""
    rows = []
    for way, paint in ((FULL, by_model(model, FACES)), (OVER, over_warp(model)), (WARP, warped)):
        rows.append([way, *mean(score(films, paint, reader)).cells()])
    show(Table(f"films ({len(films)})", ["renderer", *HEADING], rows))


def show_numbers(
    model: LipPriors,
    held_out: Sequence[Subject],
    reader: Reader,
    what: Sequence[str] = (REFERENCES, LIP_REFERENCES),
) -> None:
    """Print what more references and more lips are worth to the full network."""
    for name in what:
        rows = []
        for count in FACES_TRIED if name == REFERENCES else LIPS_TRIED:
            pair = (count, None) if name == REFERENCES else (FACES, count)
            rows.append([str(count), *mean(score(held_out, by_model(model, *pair), reader)).cells()])
        show(Table(f"number of {name}, {len(held_out)} clips", [name, *HEADING], rows))


def show_cost(size: str) -> None:
    """Print time and memory of references, on random weights."""
    model, rows = random_lip_model("lips", size), []
    side = model.size
    draw = torch.Generator().manual_seed(1)
    for count in FACES_TRIED:
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
        kept = [*vars(features.references).values(), *vars(features.lips).values()]
        held = sum(x.numel() * x.element_size() for x in kept if x is not None)
        numbers = (encoded - began, painted - encoded, held / 1e6)
        rows.append([str(count), *map("{:.2f}".format, numbers)])
    heading = ["references", "encoding, s once a clip", "painting, s a frame", "held, MB"]
    show(Table(f"cost of references, {size} size, {side} pixels, one core", heading, rows))


def save_sheet(models: dict[str, LipPriors], held_out: Sequence[Subject], path: Path | None) -> None:
    """A picture: of some clips' most open mouths the true crops, all networks', and the warp's, one below the other."""
    if path is None:
        return
    columns = []
    for place in torch.linspace(0, len(held_out) - 1, min(SHEET_CLIPS, len(held_out))).long().tolist():
        subject = held_out[place]
        track, frames = subject.video.track, subject.painted_frames
        widest = gaps(track.points[frames], track.width, track.height).argsort(descending=True)[:SHEET_FRAMES]
        frames = [frames[at] for at in widest.tolist()]
        ways = [painter(name, model) for name, model in models.items()]
        over = [over_warp(models[FULL])] if FULL in models else []
        rows = [subject.crops(frames), *(paint(subject, frames) for paint in (*ways, *over, warped))]
        columns.append(torch.cat([torch.cat(list(row), 2) for row in rows], 1))
    sheet = torch.cat(columns, 2).clamp(0, 1)
    save_picture((sheet * 255).round().byte().permute(1, 2, 0), path)
    over = [OVER] if FULL in models else []
    print(f"rows of {path}: {', '.join(('true', *models, *over, 'our warp'))}")
