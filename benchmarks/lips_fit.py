"""What minutes of `dub --fit` buy on one film: ``python -m benchmarks lips_fit --film FILM --lips-file FILE``.

The networks are fitted to the first four fifths of the film, and paint the last fifth on its true landmarks, before and
after; beside them the warp of one frame. All of them know the first part alone. Minutes are of one core's own time, so
that a busy machine does not shorten them.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import torch

from portraittalk_core.media.audio import load_speech
from portraittalk_core.pipelines.dub import read_film
from portraittalk_core.renderers.contract import Film
from portraittalk_core.renderers.lip.files import open_lip_model, save_lip_model
from portraittalk_core.renderers.lip.lip_model import LipPriors
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.training.lips import fit as fitting

from .lips import (
    HEADING,
    OVER,
    WARP,
    Subject,
    by_model,
    film_subject,
    over_warp,
    read_filmed,
    save_sheet,
    score,
    warped,
)
from .lipsync_tables import Table, show

PURPOSE = "what minutes of `dub --fit` buy on one film, before and after, beside the warp"
KNOWN = 0.8  # share of the film that is learnt from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--film", metavar="FILM", type=Path, required=True, help="with a face and its speech")
    parser.add_argument("--lips-file", metavar="FILE", type=Path, required=True, help="of `train lips`")
    parser.add_argument("--minutes", metavar="N", type=float, default=10.0, help="of one core, for each fit")
    parser.add_argument("--from-nothing", action="store_true", help="fit random weights of the same sizes too")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="fits and a sheet; if not given, nothing is kept")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fit, paint, and print the table; 1 if the fit does not help."""
    with one_torch_thread(), tempfile.TemporaryDirectory(prefix="portraittalk_fit_") as folder:
        out = args.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        film, model = read_film(args.film), open_lip_model(args.lips_file, name="lips")
        subject = film_subject(film, model.crop, out, KNOWN)
        files = {"before": args.lips_file}
        if args.from_nothing:
            files["random weights"] = save_lip_model(_random(model), out / "random.safetensors")
        models = {name: open_lip_model(file, name="lips") for name, file in files.items()}
        for name, fitted_from in (("fitted", "before"), ("fitted from random weights", "random weights")):
            if fitted_from in files:
                models[name] = open_lip_model(_fitted(film, files[fitted_from], out, args.minutes), name="lips")
        models.pop("random weights", None)
        return _tell(subject, models, args)


def _tell(subject: Subject, models: dict[str, LipPriors], args: argparse.Namespace) -> int:
    rows, found = [], {}
    for name, model in models.items():
        for way, paint in ((name, by_model(model, 25, 5)), (f"{name}, {OVER}", over_warp(model))):
            found[way] = score([subject], paint, read_filmed)
            rows.append([way, *found[way].cells()])
    rows.append([WARP, *score([subject], warped, read_filmed).cells()])
    frames = len(subject.painted_frames)
    show(Table(f"{args.film.name}, {frames} frames of its last fifth, {args.minutes:g} min", ["", *HEADING], rows))
    if args.out is not None:
        save_sheet({"full": models["before"], "fitted": models["fitted"]}, [subject], args.out / "fit_sheet.png")
    return int(found["fitted"].psnr_db <= found["before"].psnr_db)


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
