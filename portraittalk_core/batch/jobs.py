"""Runs the jobs of a batch, skips finished ones, and holds a worker's networks open between jobs."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from .. import __version__
from ..cache_key import cache_key, file_digest
from ..engines.contract import MotionEngine
from ..engines.options import engine_files, option_kinds, unused_columns
from ..engines.registry import open_engine
from ..errors import InputError, MissingDependency
from ..evaluation.evaluate import evaluate
from ..evaluation.identity import file_reference
from ..evaluation.many import VERSION as SCORE_VERSION
from ..evaluation.networks import Networks, open_networks
from ..evaluation.options import EvaluationOptions
from ..face.choice import FaceChoice, face_choice
from ..face.identity.encoder import FaceEncoder, find_face_models
from ..face.mesh.backends import MeshBackend
from ..face.mesh.landmarks import find_portrait, open_mesh
from ..face.options import FaceOptions, named_in
from ..media.audio import load_speech
from ..media.files import atomic_write, explain_write_errors
from ..media.image import load_picture
from ..media.kind import is_video
from ..media.made_mark import ai_mark
from ..media.options import SoundOptions, WriteOptions
from ..media.several_sounds import nothing_said, summed_sounds
from ..media.sound import SoundChoice
from ..metrics.packages import installed_packages
from ..metrics.registry import measured_metrics
from ..motion.dub_options import DubOptions
from ..motion.options import MotionOptions
from ..motion.point_files import PointFiles
from ..options import columns_of, fields_given
from ..pipelines.dub import dub, read_film
from ..pipelines.same_person import described_by
from ..pipelines.speakers import Speaker, dub_speakers
from ..pipelines.style_over_time import engine_in_style
from ..pipelines.talk import talk
from ..pipelines.together import PictureSpeaker, talk_speakers
from ..progress import Progress
from ..renderers.contract import FILM, Callbacks, Renderer
from ..renderers.registry import DEFAULT, DEFAULTS, open_renderer, renderer_spec
from ..style.options import StyleUse
from ..style.prior import BlendedStyle, Style, load_style, used_as
from ..style.reference import named_style, statistics_of
from ..threads import one_torch_thread
from ..types import Portrait, Speech, StyleStatistics
from .also import face_key, sound_key
from .manifest import DUB, OF_PORTRAITS, SCORE, TALK, BatchJob

log = logging.getLogger(__name__)

VERSION = 2  # of results, part of the cache key: counted up when results change, so that old ones are made anew
FINISHED = "finished"  # folder within the output folder: what every result was made of
DONE, SKIPPED, FAILED = "done", "skipped", "failed"
BLOCKED = "blocked"  # what it needs was not made


@dataclass(frozen=True)
class BatchSettings:
    """Settings that all jobs of a batch share."""

    folder: Path  # results go here
    mesh_backend: str = "auto"
    mesh_model: Path | None = None
    metric_models: Path | None = None  # folder with the networks of LSE, LPIPS, FID and FVD
    face_models: Path | None = None  # folder with InsightFace's buffalo_l; None: dlib's descriptor


@dataclass(frozen=True)
class Outcome:
    """Outcome of a job: status, time and reason."""

    status: str  # done, skipped (finished before), failed or blocked
    seconds: float = 0.0
    reason: str = ""  # of a failure, or where there is something to know
    again: bool = False  # the failure is not the user's mistake: it may be gone the next time


class JobRunner:
    """Runs jobs one after the other; networks and renderers are opened on first use and stay open."""

    def __init__(self, settings: BatchSettings) -> None:
        self._settings = settings
        self._open = ExitStack()

    def run(self, job: BatchJob, on_progress: Progress | None = None) -> Outcome:
        """Run a job.

        Args:
            job: what to do; its files exist.
            on_progress: called with steps done and in all; a KeyboardInterrupt or another BaseException stops it.
        """
        started = time.perf_counter()
        try:
            with one_torch_thread():
                status = self._run(job, on_progress)
        except (InputError, MissingDependency) as error:
            return Outcome(FAILED, time.perf_counter() - started, str(error))
        except Exception as error:  # whatever it is, the other jobs go on
            log.debug("line %d failed", job.line, exc_info=True)
            reason = str(error) if isinstance(error, OSError) and str(error) else f"{type(error).__name__}: {error}"
            return Outcome(FAILED, time.perf_counter() - started, reason, again=True)
        return Outcome(status, time.perf_counter() - started)

    def close(self) -> None:
        """Close the open networks and renderers."""
        self._open.close()

    def _run(self, job: BatchJob, on_progress: Progress | None) -> str:
        out, note = self._settings.folder / job.out, self._settings.folder / FINISHED / f"{job.out}.json"
        for name, path in job.files.items():
            if out.exists() and path.exists() and path.samefile(out):
                raise InputError(f"the output {out} is also the {name}; choose another name, for it would be lost.")
        key = self._key(job)
        if _is_finished(out, note, key):
            return SKIPPED
        with ai_mark(WriteOptions(**fields_given(WriteOptions, job.options)).ai_mark):
            {TALK: self._talk, DUB: self._dub, SCORE: self._score}[job.job](job, out, on_progress)
        with explain_write_errors(note):
            note.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(note) as part:
            part.write_text(json.dumps({"key": key, "bytes": out.stat().st_size}), encoding="utf-8")
        return DONE

    def _key(self, job: BatchJob) -> str:
        """Cache key of a job: content of all files, options and version."""
        files = {name: _digest(path) for name, path in job.files.items()}
        scorers = None
        if job.job == SCORE:
            metrics = list(measured_metrics(reference_free="target" not in job.files))
            scorers = [self._networks.files, self._face_files, sorted(installed_packages()), metrics]
        content = [__version__, VERSION, SCORE_VERSION, job.job, job.out, files, job.style, dict(job.options)]
        content += [job.renderer] if job.renderer != DEFAULT else []  # as it was before there was a choice
        content += [list(job.also)] if job.also else []  # as it was before there were several
        content += [self._settings.mesh_backend, scorers]
        return cache_key(content)

    def _talk(self, job: BatchJob, out: Path, on_progress: Progress | None) -> None:
        path, options = job.files.get("portrait") or job.files["source"], dict(job.options)
        if "source" in job.files and is_video(path):
            if not job.names_renderer:
                job = replace(job, renderer=DEFAULTS[FILM])
            _check_film_job(job)
            self._dub(job, out, on_progress)
            return
        if job.also:
            self._talk_together(job, load_picture(path), out, on_progress)
            return
        portrait = self._portraits(job, load_picture(path))[0]
        driving = read_film(job.files["driving"], mesh=self._mesh, scenes="all") if "driving" in job.files else None
        film_end = DubOptions(**fields_given(DubOptions, options)).film_end
        motion, more = self._common(job, on_progress)
        speech = load_speech(_sound(job))
        motion = PointFiles(**fields_given(PointFiles, job.files)).read_into(motion, speech)
        talk(portrait, speech, out, motion, driving=driving, film_end=film_end, **more)

    def _talk_together(self, job: BatchJob, picture: Tensor, out: Path, on_progress: Progress | None) -> None:
        if alone := [name for name in ("driving", *columns_of(PointFiles)) if name in job.files]:
            raise InputError(f"{', '.join(alone)} moves one face, and also names several; leave one of them out")
        speakers = list(map(PictureSpeaker, self._portraits(job, picture), _speeches(job), _names(job)))
        motion, more = self._common(job, on_progress)
        talk_speakers(speakers, out, motion, **more)

    def _portraits(self, job: BatchJob, picture: Tensor) -> list[Portrait]:
        """The picture with each of the faces that a job means."""
        path = job.files.get("portrait") or job.files["source"]
        faces = _faces(job) if job.also else [named_in(_given_face(job))]
        how = {"face_order": _face(job).face_order, "source": path.name}
        return [find_portrait(picture, which, mesh=self._mesh, **how) for which in faces]

    def _dub(self, job: BatchJob, out: Path, on_progress: Progress | None) -> None:
        path, options = job.files.get("video") or job.files["source"], dict(job.options)
        dub_options = DubOptions(**fields_given(DubOptions, options))
        which = {"face_order": _face(job).face_order, "scenes": dub_options.scenes, "mesh": self._mesh}
        with described_by(job.files.get("person_models")) as people:
            films = [
                read_film(path, face_index=face, **which, people=people, on_progress=on_progress)
                for face in _faces(job)
            ]
        at_most_s = films[0].track.seconds if dub_options.film_end == "cut" else None
        speeches = _speeches(job, at_most_s)
        motion, more = self._common(job, on_progress, at_most_s)
        if job.also:
            speakers = list(map(Speaker, films, speeches, _names(job)))
            dub_speakers(speakers, out, motion, dub_options=dub_options, **more)
        else:
            dub(films[0], speeches[0], out, motion, dub_options=dub_options, **more)

    def _common(
        self, job: BatchJob, on_progress: Progress | None, at_most_s: float | None = None
    ) -> tuple[MotionOptions, dict[str, object]]:
        """Motion options of a job that draws, and what talk and dub are given alike; sounds are summed so far."""
        options = dict(job.options)
        motion = MotionOptions(**fields_given(MotionOptions, options), style_statistics=_statistics(job))
        return motion, {
            "engine": engine_in_style(self._engine(job), _style(job)),
            "renderer": self._renderer(job),
            "style": _style(job),
            "sound": summed_sounds(list(filter(None, _sounds(job))), at_most_s) if job.also else _sound(job),
            "crf": WriteOptions(**fields_given(WriteOptions, options)).crf,
            "callbacks": Callbacks(on_progress),
        }

    def _engine(self, job: BatchJob) -> MotionEngine:
        """The job's engine, shared by consecutive jobs with equal engine files and options."""
        columns, given = columns_of(*option_kinds()), {**job.options, **job.files}
        return self._opened_engine(tuple(sorted((c, given[c]) for c in columns if c in given)))

    def _renderer(self, job: BatchJob) -> Renderer:
        """The job's renderer, shared by consecutive jobs with equal renderer options."""
        kind = renderer_spec(job.renderer).options
        options = {column: tuple(v) if isinstance(v, list) else v for column, v in {**job.options, **job.files}.items()}
        return self._opened(job.renderer, tuple(sorted(fields_given(kind, options).items())))

    def _score(self, job: BatchJob, out: Path, on_progress: Progress | None) -> None:
        result = evaluate(
            job.files["generated"],
            job.files.get("target"),
            EvaluationOptions(**job.options),
            mesh=self._mesh,
            identity=file_reference(self._face_encoder, job.files.get("portrait"), self._mesh),
            networks=self._networks,
            name=out.stem,
            on_progress=on_progress,
        )
        with atomic_write(out) as part:
            part.write_text(result.to_json() + "\n", encoding="utf-8")

    @functools.cached_property
    def _mesh(self) -> MeshBackend:
        settings = self._settings
        return self._open.enter_context(open_mesh(settings.mesh_backend, model_path=settings.mesh_model))

    @functools.lru_cache(maxsize=1)  # noqa: B019 - a runner lives as long as its worker
    def _opened(self, renderer: str, options: tuple[tuple[str, object], ...]) -> Renderer:
        return open_renderer(renderer, **dict(options))

    @functools.lru_cache(maxsize=1)  # noqa: B019
    def _opened_engine(self, given: tuple[tuple[str, object], ...]) -> MotionEngine:
        files = engine_files(dict(given))
        engine = open_engine(files)
        if unused := unused_columns(files, engine):
            raise InputError(
                f"{' and '.join(unused)} cannot be used with the engine {engine.name}; leave it out, or give its "
                "file in the column engine"
            )
        return engine

    @functools.cached_property
    def _face_encoder(self) -> FaceEncoder | None:
        models = self._settings.face_models
        return None if models is None else self._open.enter_context(FaceEncoder(find_face_models([models])))

    @functools.cached_property
    def _face_files(self) -> list[tuple[str, int]]:
        """Names and sizes of the face networks' files, for the cache key."""
        if self._settings.face_models is None:
            return []
        files = find_face_models([self._settings.face_models])
        return [(path.name, path.stat().st_size) for path in (files.detector, files.recogniser)]

    @functools.cached_property
    def _networks(self) -> Networks:
        return open_networks([self._settings.metric_models] if self._settings.metric_models else [])


def _check_film_job(job: BatchJob) -> None:
    """Check that nothing is asked of a film that only a portrait has.

    Raises:
        InputError: with the column, or the renderer that draws no films.
    """
    renderer_spec(job.renderer, FILM)
    names = [name for name in (*OF_PORTRAITS, "driving") if name in job.options or name in job.files]
    if names:
        raise InputError(
            f"{', '.join(names)} cannot be used with the video {job.files['source'].name}, which keeps its own rate, "
            "head and eyes; leave it out, or give a picture."
        )


def _style(job: BatchJob) -> Style | None:
    """The style of a job; None where it has none, or its strength is 0."""
    use = StyleUse(**fields_given(StyleUse, job.options))
    if use.strength == 0 or not (job.style or "style" in job.files):
        return None
    if job.style:
        return named_style(job.style, use)
    return used_as(load_style(job.files["style"]), use.strength, use.noise, use.seed)


def _face(job: BatchJob) -> FaceOptions:
    """Which face a job means, and how faces are counted."""
    return FaceOptions(**_given_face(job))


def _given_face(job: BatchJob) -> dict[str, object]:
    """Fields of `FaceOptions` that a job gives; a mask's file lies beside the manifest."""
    place = {"face": str(job.files["face"])} if "face" in job.files else {}
    return fields_given(FaceOptions, dict(job.options)) | place


def _sound(job: BatchJob) -> SoundChoice:
    """The sound track of a job's speech."""
    return SoundChoice(job.files["speech"], SoundOptions(**fields_given(SoundOptions, dict(job.options))).sound_track)


def _faces(job: BatchJob) -> list[int | FaceChoice]:
    """Which faces speak: the first, and those of the column `also`."""
    written = [str(job.files[key]) if key in job.files else face for key, face in _further(job, face_key)]
    return [_face(job).which, *map(face_choice, written)]


def _sounds(job: BatchJob) -> list[Path | SoundChoice | None]:
    """What they say, in turn; None where somebody listens."""
    return [_sound(job), *(job.files.get(key) for key, _ in _further(job, sound_key))]


def _speeches(job: BatchJob, at_most_s: float | None = None) -> list[Speech]:
    """What they say, so much of it read."""
    return [nothing_said() if sound is None else load_speech(sound, at_most_s) for sound in _sounds(job)]


def _names(job: BatchJob) -> list[str]:
    """What to call them in messages."""
    return ["the face of speech", *(key for key, _ in _further(job, face_key))]


def _further(job: BatchJob, key: Callable[[int], str]) -> Iterator[tuple[str, str]]:
    """The keys of what belongs to the faces of `also`, and the faces."""
    return ((key(number), face) for number, face in enumerate(job.also, 1))


def _statistics(job: BatchJob) -> StyleStatistics | None:
    """The style statistics of a job's motion."""
    style = _style(job)
    return None if style is None or isinstance(style, BlendedStyle) else statistics_of(style)


def _is_finished(out: Path, note: Path, key: str) -> bool:
    try:
        record = json.loads(note.read_text(encoding="utf-8"))
        return record["key"] == key and out.stat().st_size == record["bytes"]
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged: it is made anew
        return False


def _digest(path: Path) -> str:
    if path.is_dir():  # a folder of weights: by its files
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        return cache_key([[str(file.relative_to(path)), _digest(file)] for file in inside])
    status = path.stat()
    return _digest_of(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)  # many jobs share a portrait or a speech
def _digest_of(path: Path, _bytes: int, _changed: int) -> str:
    return file_digest(path)
