"""Flags that fit a lip renderer to the film that it is to dub."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..options import option_of
from ..training.lips.fit_options import FIT_SUFFIX, FitOptions
from .arguments import add_options, options_from
from .process import goes_on_from
from .progress import progress_bar
from .renderers import flags_named, open_renderer

if TYPE_CHECKING:
    from ..renderers.contract import Film, Renderer, RendererSpec
    from ..renderers.lip.options import LipOptions
    from ..training.lips.fit import FilmFit

LIPS = "lips"  # the renderer that can be fitted
SOME_FRAMES = 25  # in which mouths are measured


def add_fit(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add_options(parser.add_argument_group("lips: fit to the film"), FitOptions)


def chosen_fit(args: argparse.Namespace, renderer: str) -> FitOptions | None:
    """The flags' options; None where nothing is to be fitted.

    Raises:
        InputError: another renderer than the paper's, several faces, or a folder without the minutes.
    """
    options, flag = options_from(args, FitOptions), option_of(FitOptions, "fit").flag
    if options.fit is None:
        if options.fit_folder is not None:
            raise InputError(f"{option_of(FitOptions, 'fit_folder').flag} cannot be used without {flag}; add it.")
        return None
    if renderer != LIPS:
        raise InputError(f"{flag} cannot be used with {renderer}; leave it out, or take --renderer {LIPS}.")
    if getattr(args, "also", None):
        raise InputError(f"{flag} learns one face from what it says in the film; leave --also out, or {flag}.")
    return options


def fitted(
    args: argparse.Namespace, fit: FitOptions, film: Film, spec: RendererSpec, options: LipOptions
) -> tuple[argparse.Namespace, Renderer]:
    """The renderer after fitting, and the arguments with its file in them; prints what the fitting was worth.

    Raises:
        InputError: the film cannot be learnt from, or has larger mouths than the networks could paint afterwards.
        OutputError: the folder cannot be written.
    """
    from ..media.audio import load_speech
    from ..media.video_read import probe_video
    from ..renderers.lip.files import lip_file
    from ..training.lips.fit import fit_to_film

    file = lip_file(options.file, LIPS)
    mouths_alone = _check_mouths(film, file, options)
    beside = Path(args.out) if options.lips_file is None else file  # not into the package
    folder = fit.fit_folder or beside.with_name(f"{beside.name}{FIT_SUFFIX}")
    speech = load_speech(film.path, film.track.seconds) if probe_video(film.path).has_sound else None
    print(f"Fitting {file.name} to {film.source}: {fit.fit:g} minutes of training on its own frames. They are kept in")
    print(f"{folder}; a stopped run goes on there, and the same film is not fitted again.")
    with flags_named(), progress_bar("fitting") as on_progress, goes_on_from(folder, "steps until the last checkpoint"):
        result = fit_to_film(film, speech, file, folder, fit.fit, on_progress)
    helps = result.helps_mouths if mouths_alone else result.helps
    _print_result(result, film, helps)
    chosen = result.lips if helps else file
    changed = argparse.Namespace(**{**vars(args), "lips_file": chosen})
    return changed, open_renderer(spec, replace(options, lips_file=chosen))


def _check_mouths(film: Film, file: Path, options: LipOptions) -> bool:
    """Whether of what is painted mouths alone are shown; refuse minutes after which the warp would paint them all."""
    import torch

    from ..renderers.lip.crop import LipBoxes
    from ..renderers.lip.files import open_lip_model
    from ..renderers.lip.inside import LARGEST, enlargement
    from ..renderers.lip.options import MOUTH

    rule, frames = open_lip_model(file, name=LIPS).crop, torch.nonzero(film.track.valid).flatten()
    if options.blend_of(rule.size) != MOUTH:
        return False
    if not len(frames):
        return True
    some = frames[torch.linspace(0, len(frames) - 1, min(SOME_FRAMES, len(frames))).long()].tolist()
    times = enlargement(film.track, LipBoxes(film.track, rule, options.crop_pad), some)
    if times > LARGEST:
        raise InputError(
            f"{option_of(FitOptions, 'fit').flag} cannot help {film.source}: its mouth is {times:.1f} times as wide as "
            f"the networks of {file.name} see it, at most {LARGEST:g} times can be painted, and the warp paints its "
            "teeth. Leave it out, or give a --lips-file of a larger size."
        )
    return True


def _print_result(result: FilmFit, film: Film, helps: bool) -> None:
    seconds = result.held_back_s
    on = f"on the last {seconds:.1f} s of {film.source}, which were not learnt from" if seconds else f"on {film.source}"
    half, mouth = (
        f"{getattr(result.after, name):.2f} dB instead of {getattr(result.before, name):.2f}"
        for name in ("psnr_db", "mouth_psnr_db")
    )
    made = " that an earlier run made" if result.was_there else ""
    print(f"After {result.steps} steps{made}, {on}, the hidden half of the face has {half}, the mouth {mouth}.")
    if not helps:
        print("That is no gain: the file is used as it was. More minutes may help.")
