"""The papers' experiments for people who own the data: reconstruct held-out clips, score them, print each table.

DIR holds corpora as they are handed out, in folders named hdtf, mead, lrs2 and lrw; those that are absent are left out.
A held-out clip is reconstructed from one of its own frames and its own sound: as a portrait that the clip's head
drives, or, for the tables of lip renderers, as a film with a new mouth. Videos that were generated elsewhere, with any
renderer, can be given instead. Two anchors stand beside: the real video, and the still source with the sound.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from portraittalk_core.errors import InputError, PortraitTalkError
from portraittalk_core.evaluation.many import EvaluationTools, evaluate_many
from portraittalk_core.evaluation.networks import open_networks
from portraittalk_core.evaluation.options import EvaluationOptions
from portraittalk_core.evaluation.report.numbers import number
from portraittalk_core.evaluation.result import EvaluationResult
from portraittalk_core.evaluation.samples import Sample
from portraittalk_core.face.mesh.landmarks import open_mesh
from portraittalk_core.media.audio import load_speech
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.metrics.registry import METRICS, TARGET_PREFIX
from portraittalk_core.motion.dub import resting_index
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.pipelines.dub import dub, read_film
from portraittalk_core.pipelines.talk import talk
from portraittalk_core.renderers.contract import Film
from portraittalk_core.renderers.registry import open_renderer
from portraittalk_core.training.data.layouts import LAYOUTS, sound_of, split_lists, video_names
from portraittalk_core.types import Portrait

from .lipsync_tables import Table, progress, show
from .papers_tables import ELSEWHERE, TABLES, Column, PublishedTable

PURPOSE = "the papers' tables with published numbers beside ours, on corpora that you own"
# LSE is never shown alone: a mouth that follows the sound may be nobody's
BESIDE_LSE = (Column("mouth r ↑", "mouth_correlation"), Column("sound–mouth r ≈", "sound_mouth_correlation"))
IDENTITY = Column("identity to target ↑", "identity_to_target")
OF_SYNC = ("lse_c", "lse_d")
REAL, SOURCE, OURS = "real video (anchor)", "still source (anchor)", "ours"
DASH = "–"


@dataclass(frozen=True)
class Clip:
    """A held-out clip of a corpus."""

    name: str  # below the corpus's folder
    video: Path
    sound: Path


@dataclass(frozen=True)
class Scores:
    """Mean of each metric over clips, for one method."""

    values: dict[str, float]
    num_clips: int


Reconstruct = Callable[[Clip, str, Path], None]  # a clip and the task to a video file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="with folders hdtf, mead, lrs2, lrw")
    parser.add_argument("--clips", metavar="N", type=int, default=25, help="held-out clips of each corpus, at most")
    parser.add_argument(
        "--generated", metavar="FOLDER", type=Path, help="videos made elsewhere, as CORPUS/NAME.mp4; else the warp's"
    )
    parser.add_argument("--metric-models", metavar="FOLDER", type=Path, help="files of FID, FVD, LPIPS and SyncNet")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="keep videos and scores here")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the tables of all corpora that are there."""
    if args.clips < 1:
        raise SystemExit(f"--clips must be at least 1, not {args.clips}.")
    try:
        clips = {name: found for name in LAYOUTS if (found := held_out_clips(args.data, name, args.clips))}
        if not clips:
            raise InputError(f"{args.data} holds none of {', '.join(LAYOUTS)}; put a corpus there, by its name.")
        with ExitStack() as stack:
            out = args.out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portraittalk_papers_")))
            mesh = stack.enter_context(open_mesh())
            networks = open_networks([args.metric_models] if args.metric_models else [])
            tools = EvaluationTools(mesh, networks=networks)
            reconstruct = reconstructed_by_warp if args.generated is None else given_in(args.generated)
            for table in [table for table in TABLES if table.corpus in clips]:
                rows = measured(clips[table.corpus], table, tools, out, reconstruct)
                show(with_ours(table, rows))
                print(notes_of(table, rows))
    except PortraitTalkError as error:
        raise SystemExit(str(error)) from error
    for paper, number_of, where in ELSEWHERE:
        print(f"{paper}, table {number_of}: {where}.")
    return 0


def held_out_clips(data: Path, corpus: str, at_most: int) -> list[Clip]:
    """Held-out clips of a corpus, evenly over the list; all of its clips where nothing is held out.

    Raises:
        InputError: the corpus's folder holds no such videos.
    """
    folder = data / corpus
    if not folder.is_dir():
        return []
    names = video_names(folder, folder / "no such folder", corpus)
    chosen = split_lists(folder, names, corpus)[1] or names
    places = torch.linspace(0, len(chosen) - 1, min(at_most, len(chosen))).round().long().tolist()
    clips = (chosen[place] for place in places)
    return [Clip(name, folder / name, sound_of(folder, name, corpus) or folder / name) for name in clips]


def reconstructed_by_warp(clip: Clip, task: str, out: Path) -> None:
    """Reconstruct a clip by the warp and the built-in engine: as a driven portrait, or as a film with a new mouth."""
    from portraittalk_core.engines.registry import open_engine

    film = read_film(clip.video, scenes="all")
    speech = load_speech(clip.sound, film.track.seconds)
    options = MotionOptions(fps=film.track.fps)
    if task == "film":
        dub(film, speech, out, options, engine=open_engine(), renderer=open_renderer(), sound=clip.sound)
    else:
        talk(source_of(film), speech, out, options, sound=clip.sound, driving=film)


def given_in(folder: Path) -> Reconstruct:
    """Videos that were generated before, found by corpus and name."""

    def find(clip: Clip, _task: str, out: Path) -> None:
        corpus = next(part for part in clip.video.parts[::-1] if part in LAYOUTS)
        path = folder / corpus / Path(clip.name).with_suffix(".mp4")
        if not path.is_file():
            raise InputError(f"{path} is not there; generate it, or leave --generated out.")
        out.symlink_to(path.resolve())

    return find


def source_of(film: Film) -> Portrait:
    """The most frontal frame with closed lips, as a portrait."""
    best = resting_index(film.track)
    picture = next(picture for at, picture in enumerate(film.pictures()) if at == best)
    return Portrait(picture, film.track.slice(best, best + 1), film.source)


def write_still(clip: Clip, out: Path) -> None:
    """The still source with the clip's sound, as long as the clip."""
    film = read_film(clip.video, scenes="all")
    portrait, track = source_of(film), film.track
    with VideoWriter(out, track.width, track.height, track.fps, sound=clip.sound) as writer:
        for _ in range(len(track)):
            writer.write(portrait.picture)


def measured(
    clips: Sequence[Clip], table: PublishedTable, tools: EvaluationTools, out: Path, reconstruct: Reconstruct
) -> dict[str, Scores]:
    """Scores of the anchors and of the reconstruction on a table's clips; clips that cannot be used are left out."""
    folder = out / table.corpus / table.task
    folder.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[Clip, Path], None]] = {
        SOURCE: write_still,
        OURS: lambda clip, path: reconstruct(clip, table.task, path),
    }
    rows = {}
    for method, make in makers.items():
        samples = []
        for number_of, clip in enumerate(clips):
            progress(f"{table.paper}, {table.corpus}, {method}: {number_of + 1} of {len(clips)}")
            path = folder / f"{method.split()[0]}_{number_of:04d}.mp4"
            if not path.exists():
                make(clip, path)
            samples.append(Sample(clip.name, path, clip.video))
        results = evaluate_many(samples, options_of(table), tools, folder)
        rows[method] = mean_scores(results)
    progress("")
    return {REAL: of_targets(rows[OURS]), **rows}


def options_of(table: PublishedTable) -> EvaluationOptions:
    """The metrics that a table needs."""
    columns = columns_of(table)
    return EvaluationOptions(metrics=tuple(dict.fromkeys(c.metric for c in columns if c.metric)), num_worst=0)


def columns_of(table: PublishedTable) -> tuple[Column, ...]:
    """The published columns, then who it is, and beside LSE what tells whether the mouth is right."""
    of_sync = any(column.metric in OF_SYNC for column in table.columns)
    return (*table.columns, IDENTITY, *(BESIDE_LSE if of_sync else ()))


def mean_scores(results: Sequence[EvaluationResult]) -> Scores:
    """Means over the results that could be measured; infinite values are left out."""
    used = [result for result in results if not result.error]
    names = {name for result in used for name in result.values}
    values = {}
    for name in names:
        numbers = [result.values[name] for result in used if name in result.values]
        if finite := [value for value in numbers if math.isfinite(value)]:
            values[name] = sum(finite) / len(finite)
    return Scores(values, len(used))


def of_targets(scores: Scores) -> Scores:
    """What was measured of the real videos beside the generated ones."""
    values = {n.removeprefix(TARGET_PREFIX): v for n, v in scores.values.items() if n.startswith(TARGET_PREFIX)}
    return Scores(values, scores.num_clips)


def with_ours(table: PublishedTable, rows: dict[str, Scores]) -> Table:
    """The published table with the anchors and ours below it."""
    columns = columns_of(table)
    blank = [DASH] * (len(columns) - len(table.columns))
    published = [[name, *numbers, *blank] for name, *numbers in table.rows]
    measured_rows = [
        [f"{name}, {_clips(scores.num_clips)}", *(_cell(scores, column) for column in columns)]
        for name, scores in rows.items()
    ]
    title = f"{table.paper}, table {table.table}, {table.corpus.upper()}: published, then measured here"
    return Table(title, ["method", *(column.title for column in columns)], published + measured_rows)


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


def _cell(scores: Scores, column: Column) -> str:
    if column.metric is None or column.metric not in scores.values:
        return DASH
    return number(scores.values[column.metric], METRICS[column.metric])


def notes_of(table: PublishedTable, rows: dict[str, Scores]) -> str:
    """What keeps the published numbers and ours from comparing."""
    notes = [f"{column.title.split()[0]}: {column.note}" for column in table.columns if column.note]
    absent = [c.title for c in table.columns if c.metric and c.metric not in rows[OURS].values]
    if absent:
        notes.append(f"not measured for want of weights or packages: {', '.join(absent)}")
    notes.append("the papers' test clips are not named: these are other ones")
    return "\n".join(f"- {note}" for note in notes) + "\n"
