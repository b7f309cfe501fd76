"""Fine-tuning of a lip renderer on the frames of one film, which it is then to dub.

The film's last tenth is not learnt from: on it the renderer is scored before and after. The number of steps follows
from the first few steps' time and is kept with the checkpoints, so that a run that was stopped goes on to the same end.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...cache_key import cache_key, file_digest
from ...errors import InputError
from ...media.files import atomic_write, explain_write_errors
from ...media.text_files import read_text
from ...progress import Progress
from ...renderers.contract import Film
from ...renderers.film_pictures import pictures_in_order
from ...renderers.lip.files import LIPS, open_lip_model
from ...renderers.lip.lip_model import LipPriors
from ...types import Speech
from ..loop.trainer import train_stage
from .clips import LipClip, keep_clip
from .config import LipTrainer, LipTraining, LipWeights
from .data import LipWindows, window_offsets
from .score import SCORE_SEED, LipScore, lip_score
from .stage import KEPT, LIPS_NAME, LipStage, train_lip_model

VERSION = 2  # of the recipe: another one fits anew
PLAN, RESULT = "plan.json", "result.json"
MOST_FRAMES = 2000  # whose crops are kept: 98 MB at 128 pixels
HELD_BACK, MOST_HELD_S = 0.1, 10.0  # share of the film that is scored on, and seconds of it at most
LEAST_S = 2.0  # of film that shows the face
PROBE, LEAST_STEPS = 6, 20  # steps whose time is taken; of a whole run
SCORED = 24  # frames of each score
WEIGHTS = LipWeights(gan=0.0, feature_matching=0.0, lips=4.0, lips_squared=60.0)
LEARNING_RATES = {False: 2e-4, True: 1e-3}  # by whether painting is added to aligned references
MAX_KEPT_BYTES = 2**16  # of a kept plan or result
_now = time.monotonic


@dataclass(frozen=True)
class FilmFit:
    """A renderer that was fitted to a film."""

    lips: Path  # its file
    steps: int
    before: LipScore  # on the part of the film that was not learnt from
    after: LipScore
    held_back_s: float  # how long that is
    was_there: bool  # whether an earlier run had made it

    @property
    def helps(self) -> bool:
        """Whether it paints the film better than before."""
        return self.after.psnr_db > self.before.psnr_db

    @property
    def helps_mouths(self) -> bool:
        """Whether it paints mouths better, where nothing else of its painting is shown."""
        return self.after.mouth_psnr_db > self.before.mouth_psnr_db


def fit_key(film: Film, file: Path, minutes: float) -> str:
    """Cache key of 64 hex digits: of the film's content, of its face's track, of the renderer's file, of the time."""
    track = film.track
    points = hashlib.sha256(track.points.contiguous().numpy().tobytes() + track.valid.numpy().tobytes()).hexdigest()
    return cache_key([VERSION, file_digest(film.path), points, str(track.fps), file_digest(file), minutes])


def fit_to_film(
    film: Film,
    speech: Speech | None,
    file: Path,
    folder: Path,
    minutes: float,
    on_progress: Progress | None = None,
) -> FilmFit:
    """Fine-tune a lip renderer on a film's own frames; a finished fit of the same film and file is found again.

    Args:
        film: of `pipelines.dub.read_film`, as it was filmed.
        speech: what is said in it; None: nothing is heard.
        file: of `train lips`.
        folder: for fits; each has a folder of its own in it.
        minutes: of training, about.
        on_progress: called with steps done and in all; may raise to stop. A later call goes on from the last
            checkpoint.

    Raises:
        InputError: the film shows too little of the face, or has no sound where the renderer hears it; or no file of
            `train lips`.
        MissingDependency: accelerate, or the file, is absent.
        OutputError: the folder cannot be written.
    """
    own = folder / fit_key(film, file, minutes)[:24]
    if (found := _finished(own)) is not None:
        return found
    with explain_write_errors(own):
        (own / KEPT).mkdir(parents=True, exist_ok=True)
    model = open_lip_model(file, name=LIPS)
    clip = _clip_of(film, speech, model, own / KEPT)
    windows, scored, seconds = _parts(clip, model.size)
    steps = _planned_steps(open_lip_model(file, name=LIPS), windows, file, own, minutes)
    before = lip_score(model, scored, SCORE_SEED, SCORED)
    config = _training(file, own, steps, model)
    result = train_lip_model(model, windows, config, scored, on_progress, SCORED)
    fit = FilmFit(result.lips, steps, before, result.score, seconds, was_there=False)
    _write(own / RESULT, {**asdict(fit), "lips": fit.lips.name})
    for name in (KEPT, "checkpoints"):  # what only training needs
        shutil.rmtree(own / name, ignore_errors=True)
    return fit


def _finished(folder: Path) -> FilmFit | None:
    content = _read(folder / RESULT)
    if content is None or not (folder / LIPS_NAME).is_file():
        return None
    try:
        scores = {name: LipScore(**content.pop(name)) for name in ("before", "after")}
        return FilmFit(**{**content, **scores, "lips": folder / LIPS_NAME, "was_there": True})
    except (KeyError, TypeError):  # of another version, or damaged
        return None


def _clip_of(film: Film, speech: Speech | None, model: LipPriors, keep: Path) -> LipClip:
    """The film as a clip, with crops of some of its frames."""
    valid, fps = film.track.valid, film.track.fps
    seconds = float(int(valid.sum()) / fps)
    if seconds < LEAST_S:
        raise InputError(
            f"`fit` needs {LEAST_S:g} s of film that show the face, but {film.source} shows it for {seconds:.1f} s; "
            "leave it out, or give a longer film."
        )
    if model.config.has_sound and speech is None:
        raise InputError(f"`fit` learns from the film's own sound, but {film.source} has none; leave it out.")
    every = -(-int(valid.sum()) // MOST_FRAMES)
    some = torch.zeros_like(valid)
    some[torch.nonzero(valid).flatten()[::every]] = True

    def pictures(numbers: list[int]) -> object:
        order = numbers if film.order is None else film.order[numbers].tolist()
        return pictures_in_order(film.path, fps, order)

    return keep_clip(keep, film.source, film.track, model.crop, pictures, lambda: speech, mark=VERSION, usable=some)


def _parts(clip: LipClip, size: int) -> tuple[LipWindows, LipWindows, float]:
    """What is learnt from, what is scored on, and how many seconds that is; 0 where it is the same."""
    frames, numbers = torch.nonzero(clip.usable).flatten(), torch.arange(len(clip.shown))
    most = round(min(HELD_BACK * len(frames), MOST_HELD_S * clip.fps))
    least = 2 * (2 * window_offsets(clip)[-1] + 1)  # two windows
    first = int(frames[-max(least, most)])

    def windows(mask: Tensor) -> LipWindows:
        part = dataclasses.replace(clip, usable=clip.usable & mask, shown=clip.shown & mask)
        return LipWindows([part], size)

    try:
        return windows(numbers < first), windows(numbers >= first), float((len(numbers) - first) / clip.fps)
    except InputError:  # too few frames one after another in a part
        whole = windows(numbers >= 0)
        return whole, whole, 0.0


def _training(file: Path, out: Path, steps: int, model: LipPriors) -> LipTraining:
    trainer = LipTrainer(
        steps=steps, batch_size=4, learning_rate=LEARNING_RATES[model.config.keep_references], ema_decay=0.99,
        clip_norm=1.0, sample_every=0, save_every=max(PROBE, steps // 20), keep_checkpoints=1,
    )  # fmt: skip
    return LipTraining(out, out, start=file, pixels=True, weights=WEIGHTS, trainer=trainer)


def _planned_steps(model: LipPriors, windows: LipWindows, file: Path, own: Path, minutes: float) -> int:
    """Steps that fill the time, from a few steps' duration; what was planned before stays."""
    plan = _read(own / PLAN)
    if plan is not None:
        return int(plan["steps"])
    times: list[float] = []
    stage = LipStage(model, windows, _training(file, own, PROBE, model))
    train_stage(stage, stage.config.trainer, own, lambda *_: times.append(_now()))
    taken = torch.tensor(times).double().diff()
    each_s = float(taken.median()) if len(taken) else 1.0  # none where an earlier probe was whole
    steps = max(LEAST_STEPS, int(60 * minutes / max(each_s, 1e-3)))
    _write(own / PLAN, {"steps": steps, "seconds_a_step": each_s})
    return steps


def _read(path: Path) -> dict | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(read_text(path, "what was kept", "delete it", MAX_KEPT_BYTES))
        return content if isinstance(content, dict) else None
    except (InputError, ValueError):
        return None


def _write(path: Path, content: dict) -> None:
    with explain_write_errors(path), atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")
