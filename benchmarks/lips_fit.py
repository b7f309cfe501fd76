"""What minutes of `dub --fit` buy on one film: ``python -m benchmarks lips_fit --film FILM --minutes 2 10``.

The networks are fitted to the first four fifths of the film, and paint the last fifth on its true landmarks; beside
them the warp of one frame. All of them know the first part alone. Each fit goes on from the shorter one before it.
Minutes are of one core's own time, so that a busy machine does not shorten them.

As in `lips_files`, the insides of mouths are pasted over the warp. Besides it is told whether `dub` would show them: by
its trial, which is of open mouths that the fit has learnt from, and by the same trial of open mouths of the last fifth.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.media.audio import load_speech
from portraittalk_core.pipelines.dub import read_film
from portraittalk_core.renderers.contract import Film, RenderJob
from portraittalk_core.renderers.lip.files import open_lip_model, save_lip_model
from portraittalk_core.renderers.lip.footage import footage_of
from portraittalk_core.renderers.lip.inside import Trial, explained, tried_frames, trusted
from portraittalk_core.renderers.lip.lip_model import LipPriors
from portraittalk_core.renderers.lip.options import BUILTIN
from portraittalk_core.renderers.lip.references import choose
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.training.lips import fit as fitting

from .lips_files import HEADING, WARP, compared, over_warp, save_sheet, warp_pictures
from .lips_subjects import Subject, film_subject
from .lipsync_tables import Table, show

PURPOSE = "what minutes of `dub --fit` buy on one film, before and after, beside the warp"
KNOWN = 0.8  # share of the film that is learnt from
TRIED = ("trial of what was learnt", "of the last fifth")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--film", metavar="FILM", type=Path, required=True, help="with a face and its speech")
    parser.add_argument("--lips-file", metavar="FILE", type=Path, default=BUILTIN, help="of `train lips`")
    parser.add_argument("--minutes", metavar="N", nargs="+", type=float, default=[2.0, 10.0], help="of one core")
    parser.add_argument(
        "--from-nothing", action="store_true", help="fit random weights of the same sizes, not the file"
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="fits and a sheet; if not given, nothing is kept")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fit, paint, and print the table; 1 if the longest fit does not bring the inside nearer to the film."""
    with one_torch_thread(), tempfile.TemporaryDirectory(prefix="portraittalk_fit_") as folder:
        out = args.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        film, file = read_film(args.film), args.lips_file
        model = open_lip_model(file, name="lips")
        subject = film_subject(film, model.crop, out, KNOWN)
        if args.from_nothing:
            file = save_lip_model(_random(model), out / "random.safetensors")
        models = {"0 min": open_lip_model(file, name="lips")}
        spent = 0.0
        for minutes in sorted(args.minutes):
            file = _fitted(film, file, out, minutes - spent)
            models[f"{minutes:g} min"], spent = open_lip_model(file, name="lips"), minutes
        return _tell(film, subject, models, args)


def _tell(film: Film, subject: Subject, models: dict[str, LipPriors], args: argparse.Namespace) -> int:
    rows, inside_db = [[WARP, *compared(warp_pictures, [subject]).cells(), "—", "—"]], []
    for name, model in models.items():
        found = compared(partial(over_warp, model, *model.usual), [subject])
        inside_db.append(found.inside_db)
        rows.append([name, *found.cells(), *_trials(film, subject, model)])
    title = f"{args.film.name}, {len(subject.painted_frames)} frames of its last fifth"
    show(Table(title + (", from random weights" if args.from_nothing else ""), ["", *HEADING, *TRIED], rows))
    if args.out is not None:
        save_sheet(models, {name: {args.film.name: [subject]} for name in models}, args.out / "fit_sheet.png")
    return int(inside_db[-1] <= inside_db[0])


def _trials(film: Film, subject: Subject, model: LipPriors) -> list[str]:
    """What the trial of `dub` says of the part that was learnt from, and of the last one."""
    footage = footage_of(RenderJob.of_track(film, film.track))
    chosen = choose(film.track, subject.first_part, *model.usual)
    features = model.encode(subject.references(*model.usual))

    def heard(numbers: list[int]) -> Tensor:
        return torch.stack([subject.clip.heard(number) for number in numbers])

    told = []
    for part in (subject.first_part, subject.clip.usable & ~subject.first_part):
        frames = tried_frames(footage, part.float(), chosen)
        told.append(_told(explained(model, features, heard, footage, subject.boxes, frames)[0], film.source))
    return told


def _told(trial: Trial | None, source: str) -> str:
    if trial is None:
        return "no open mouth"
    shown = "shown" if trusted(trial, 1.0, source) else "refused"
    return f"{trial.explained:.2f}, sharp {trial.sharpness:.2f}: {shown}"


def _fitted(film: Film, file: Path, out: Path, minutes: float) -> Path:
    """The file of a fit to the film's first part."""
    valid = film.track.valid & (torch.arange(len(film.track)) < int(KNOWN * len(film.track)))
    first = dataclasses.replace(film, track=dataclasses.replace(film.track, valid=valid))
    fitting._now = time.process_time  # noqa: SLF001 - minutes of a core, not of a busy machine
    began = time.process_time()
    result = fitting.fit_to_film(first, load_speech(film.path), file, out, minutes)
    print(f"{file.name}: {result.steps} steps in {time.process_time() - began:.0f} s of one core")
    return result.lips


def _random(model: LipPriors) -> LipPriors:
    torch.manual_seed(0)
    return LipPriors(model.config)
