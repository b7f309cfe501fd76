"""Preparation of training clips from a folder of videos: face crops, landmarks, speech, and a report of drops.

Every video gets a folder of its own, in which a marker is written last: what has one is not made again.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...cache_key import cache_key
from ...checks import beyond, check_range
from ...errors import InputError, MediaError, MissingDependency, NoFaceError, OutputError
from ...face.geometry import eye_open, face_box_px, head_pose, mouth_open
from ...face.mesh.backends import MeshBackend
from ...face.mesh.landmarks import detect_faces, open_mesh, track_faces
from ...media.audio import load_speech
from ...media.files import atomic_write, explain_write_errors, make_folder
from ...media.image import save_picture
from ...media.records import save_record
from ...media.resize import resize_picture
from ...media.tensor_file import save_tensors
from ...media.video_read import probe_video, read_pictures
from ...progress import Progress
from ...speech.mel import MEL_RATE_HZ, log_mel
from ...threads import one_torch_thread
from ...types import LandmarkTrack, Speech, as_fps
from .layouts import ANY, HELD_OUT, TRAIN, sound_of, split_lists, video_names
from .options import PrepareOptions
from .squares import crop_square, track_on_crop
from .video_clips import FRAMES, MARKER, SPEECH, TRACK, read_marker

REPORT = "report"  # .json and .txt
PARTS = 100  # of a video, in which progress is counted
OFTEN_S = 0.2  # between two looks at what the processes have done
LOOKS_S = 2.0  # of video between two looks for a second speaker
RIVAL = 0.5  # a second face at least so large, of the first one's height, is another speaker
JUMP = 0.5  # of the face's size from one frame to the next: a cut
VERSION = 1  # of what is written; another one makes all videos again

Tick = Callable[..., None]  # called often, with the share 0..1 of a video that is done if that is known; may raise


@dataclass(frozen=True)
class Prepared:
    """Result of one video."""

    name: str  # path below the folder of videos
    dropped: str = ""  # why in a word or two; empty if it was kept
    detail: str = ""  # the whole reason
    num_frames: int = 0
    seen: int = 0  # of them, with the face
    reference: int = 0  # the frame that shows it best
    fps: str = ""
    size: int = 0  # pixels
    left_px: int = 0  # where the square was cut out of the video's pictures
    top_px: int = 0
    side_px: int = 0


@dataclass(frozen=True)
class PrepareReport:
    """Results of a folder."""

    videos: tuple[Prepared, ...]
    num_old: int  # that were finished by an earlier run

    @property
    def kept(self) -> tuple[Prepared, ...]:
        return tuple(video for video in self.videos if not video.dropped)

    @property
    def dropped(self) -> tuple[Prepared, ...]:
        return tuple(video for video in self.videos if video.dropped)

    def text(self) -> str:
        """The report as plain text."""
        seconds = sum(float(video.num_frames / as_fps(video.fps)) for video in self.kept)
        lines = [f"{len(self.kept)} of {len(self.videos)} videos can be used, {seconds:.1f} s in all."]
        counts: dict[str, int] = {}
        for video in self.dropped:
            counts[video.dropped] = counts.get(video.dropped, 0) + 1
        if counts:
            lines += ["", "left out:"]
            lines += [f"  {count:5d}  {why}" for why, count in sorted(counts.items(), key=lambda pair: -pair[1])]
            lines += ["", *(f"{video.name}: {video.detail}" for video in self.dropped)]
        return "\n".join(lines) + "\n"


class _Drop(Exception):  # noqa: N818 - no error: a video that will not do
    """A video is dropped: short and full reason."""


def prepare_videos(
    videos: Path,
    out: Path,
    options: PrepareOptions | None = None,
    workers: int = 1,
    on_progress: Progress | None = None,
    make_mesh: Callable[[], MeshBackend] = open_mesh,
) -> PrepareReport:
    """Prepare training clips of all videos below a folder, resuming an earlier run.

    Args:
        videos: folder; sub-folders are searched too.
        out: folder, made if absent. Of anna/1.mp4 it gets anna/1.mp4/ with frames, landmarks and speech; besides them
            report.json and report.txt, and of a corpus's layout train.txt and held_out.txt.
        options: what is cut out, and what is left out.
        workers: processes; 1 works in this one.
        on_progress: called with hundredths of videos done and in all, several times a second; may raise to stop.
        make_mesh: opens the landmark back end, in every process; must be known by name to a new process.

    Raises:
        InputError: no folder, or no video in it.
        MissingDependency: there is no landmark back end.
        OutputError: `out` cannot be written.
    """
    options, notify = options or PrepareOptions(), on_progress or (lambda *_: None)
    check_range(workers, 1, 256, "workers")
    names = video_names(videos, out, options.layout)
    make_folder(out)
    results = {name: old for name in names if (old := _finished(videos, out, name, options))}
    num_old, remaining = len(results), [name for name in names if name not in results]
    job = _Job(videos, out, options, make_mesh)
    run = _one_by_one if workers == 1 else _in_processes

    def tick(share: float = 0.0) -> None:
        notify(PARTS * len(results) + min(int(PARTS * share), PARTS - 1), PARTS * len(names))

    for result in run(job, remaining, workers, tick):
        results[result.name] = result
        tick()
    report = PrepareReport(tuple(results[name] for name in names), num_old)
    _write_text(out / f"{REPORT}.json", json.dumps([asdict(video) for video in report.videos], indent=1))
    _write_text(out / f"{REPORT}.txt", report.text())
    if options.layout != ANY:
        lists = split_lists(videos, [video.name for video in report.kept], options.layout)
        for name, clips in zip((TRAIN, HELD_OUT), lists, strict=True):
            _write_text(out / name, "".join(f"{clip}\n" for clip in clips))
    return report


@dataclass(frozen=True)
class _Job:
    """Arguments of every worker process."""

    videos: Path
    out: Path
    options: PrepareOptions
    make_mesh: Callable[[], MeshBackend]


def _mark(videos: Path, name: str, options: PrepareOptions) -> str:
    """Cache key of a prepared video: its file, the options and the version."""
    state = (videos / name).stat()
    settings = {**asdict(options), "fps": str(options.fps), "version": VERSION}
    if options.layout == ANY:  # as before there were others
        del settings["layout"]
    return cache_key({**settings, "bytes": state.st_size, "changed": state.st_mtime_ns})


def _finished(videos: Path, out: Path, name: str, options: PrepareOptions) -> Prepared | None:
    content = read_marker(out / name)
    with contextlib.suppress(OSError, TypeError):
        if content and content.pop("mark", None) == _mark(videos, name, options):
            return Prepared(**content)
    return None


def _one_by_one(job: _Job, names: Sequence[str], workers: int, tick: Tick) -> Iterator[Prepared]:
    """Prepare videos in this process."""
    if not names:
        return
    with one_torch_thread(), job.make_mesh() as mesh:
        for name in names:
            yield _prepare(job, name, mesh, tick)


_state: dict[str, object] = {}  # of a worker process: its job, its back end, and the flag that stops it


def _begin(job: _Job, stop: object) -> None:
    """Initialise a worker process."""
    torch.set_num_threads(1)
    _state.update(job=job, stop=stop)


def _work(name: str) -> Prepared:
    """Prepare one video in a worker process."""

    def tick(_: float = 0.0) -> None:
        if _state["stop"].is_set():
            raise _Drop("stopped", "the run was stopped")

    tick()
    if "mesh" not in _state:  # here, so that what is missing is told instead of breaking the pool
        _state["mesh"] = _state["job"].make_mesh()
    return _prepare(_state["job"], name, _state["mesh"], tick, is_stopped=_state["stop"].is_set)


def _in_processes(job: _Job, names: Sequence[str], workers: int, tick: Tick) -> Iterator[Prepared]:
    """Prepare videos in several processes; one that crashes its process is retried alone, then dropped."""
    unsure = yield from _pooled(job, names, min(workers, max(len(names), 1)), tick)
    for name in unsure:
        if (yield from _pooled(job, [name], 1, tick)):
            detail = "the process that worked on it ended (out of memory, or a damaged file)"
            yield _write_marker(job, Prepared(name, "crashed", detail))


def _pooled(job: _Job, names: Sequence[str], workers: int, tick: Tick) -> Iterator[Prepared]:
    """Yield results of a process pool; returns the names lost when a process crashed."""
    context = multiprocessing.get_context("spawn")  # fork would copy threads' locks
    stop, waiting, lost = context.Event(), list(reversed(names)), []
    pool = ProcessPoolExecutor(workers, context, _begin, (job, stop))
    running: dict = {}
    try:
        while waiting or running:
            while waiting and len(running) < 2 * workers:
                name = waiting.pop()
                try:
                    running[pool.submit(_work, name)] = name
                except BrokenProcessPool:
                    return [*lost, *running.values(), name, *reversed(waiting)]
            done, _ = wait(running, OFTEN_S, FIRST_COMPLETED)
            tick()
            for future in done:
                name = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    lost.append(name)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
    return lost


def _prepare(
    job: _Job, name: str, mesh: MeshBackend, tick: Tick, is_stopped: Callable[[], bool] = lambda: False
) -> Prepared:
    """Prepare one video; where that is stopped, or cannot be written, nothing of it remains."""
    folder = job.out / name
    shutil.rmtree(folder, ignore_errors=True)  # of an older run, or of one that was stopped
    try:
        with explain_write_errors(folder):
            (folder / FRAMES).mkdir(parents=True)
        return _write_marker(job, _result(job, name, mesh, tick, is_stopped))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _result(job: _Job, name: str, mesh: MeshBackend, tick: Tick, is_stopped: Callable[[], bool]) -> Prepared:
    """Write what is prepared of one video; its error becomes the reason why it is dropped."""
    try:
        return _clip(job, name, mesh, tick)
    except (OutputError, MissingDependency, MemoryError):
        raise  # no fault of the video's
    except _Drop as drop:
        if is_stopped():
            raise
        return Prepared(name, *drop.args)
    except NoFaceError as error:
        return Prepared(name, "no face", str(error))
    except MediaError as error:
        return Prepared(name, "unreadable", str(error))
    except InputError as error:
        return Prepared(name, "unusable", str(error))
    except (ArithmeticError, LookupError, ValueError, RuntimeError, OSError) as error:
        return Prepared(name, "unreadable", f"{type(error).__name__}: {error}")


def _write_marker(job: _Job, result: Prepared) -> Prepared:
    """Write the marker file, after everything else."""
    folder = job.out / result.name
    if result.dropped:
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)
    marker = {"mark": _mark(job.videos, result.name, job.options), **asdict(result)}
    _write_text(folder / MARKER, json.dumps(marker, indent=1))
    return result


def _clip(job: _Job, name: str, mesh: MeshBackend, tick: Tick) -> Prepared:
    """Write frames, landmarks and speech of a video into its folder; it is read twice."""
    path, folder, options = job.videos / name, job.out / name, job.options
    probe = probe_video(path)
    if probe.seconds < options.min_seconds:
        raise _Drop(
            "too short",
            f"it lasts {beyond(probe.seconds, options.min_seconds, digits=2)} s; {options.min_seconds:g} s are needed.",
        )
    sound = path if probe.has_sound else sound_of(job.videos, name, options.layout)
    if options.needs_sound and sound is None:
        raise _Drop("no sound", "it has no sound track.")

    def pictures(first_share: float) -> Iterator[Tensor]:
        def on_frame(done: int, total: int) -> None:
            tick(first_share + min(done / max(total, 1), 1.0) / 2)

        return read_pictures(path, options.fps, on_frame)

    track = without_cuts(track_faces(_with_one_speaker(pictures(0.0), mesh, options), options.fps, mesh, source=name))
    _check(track, options)
    corner, side = crop_square(track, options.margin)
    cut = track_on_crop(track, corner, side, options.size)
    (x, y), ending = corner, options.picture_format
    for number, picture in enumerate(pictures(0.5)):
        resized = resize_picture(picture[y : y + side, x : x + side], (options.size, options.size))
        save_picture(resized, folder / FRAMES / f"{number:06d}.{ending}")
    save_record(cut, folder / TRACK)
    if sound is not None:
        _save_speech(load_speech(sound), folder / SPEECH)
    num_seen, reference = int(cut.valid.sum()), best_reference(cut)
    place = {"left_px": x, "top_px": y, "side_px": side}
    return Prepared(name, "", "", len(cut), num_seen, reference, str(options.fps), options.size, **place)


def _with_one_speaker(pictures: Iterator[Tensor], mesh: MeshBackend, options: PrepareOptions) -> Iterator[Tensor]:
    """Pass pictures on; a second face of similar size drops the video."""
    every = max(1, round(LOOKS_S * options.fps))
    for number, picture in enumerate(pictures):
        if number % every == 0:
            faces = detect_faces(picture, mesh, thorough=False)
            boxes = face_box_px(faces * torch.tensor([picture.shape[1], picture.shape[0], 1.0]))
            tall = (boxes[:, 3] - boxes[:, 1]).tolist()
            if len(tall) > 1 and tall[1] >= RIVAL * tall[0]:
                at = float(number / options.fps)
                raise _Drop("several speakers", f"{len(tall)} faces are in the picture at {at:.1f} s; cut to one.")
        yield picture


def without_cuts(track: LandmarkTrack) -> LandmarkTrack:
    """Mark the first frame after each cut as invalid, so that no clip spans a cut."""
    boxes = face_box_px(track.points_px)
    size = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    moved = ((boxes[1:] - boxes[:-1]).abs().amax(1) > JUMP * size[:-1]) & track.valid[:-1]
    valid = track.valid.clone()
    valid[1:] &= ~moved
    return LandmarkTrack(track.points, valid, track.fps, track.width, track.height)


def _check(track: LandmarkTrack, options: PrepareOptions) -> None:
    num_seen = int(track.valid.sum())
    seconds = float(num_seen / options.fps)
    if seconds < options.min_seconds:
        raise _Drop(
            "too short",
            f"the face is seen for {beyond(seconds, options.min_seconds, digits=2)} s; "
            f"{options.min_seconds:g} s are needed.",
        )
    if num_seen < options.min_seen * len(track):
        raise _Drop("face often missing", f"the face is in {num_seen} of {len(track)} frames only.")
    boxes = face_box_px(track.points_px[track.valid])
    tall = float((boxes[:, 3] - boxes[:, 1]).median())
    if tall < options.min_face_px:
        raise _Drop(
            "face too small",
            f"the face is {beyond(tall, options.min_face_px, digits=0)} pixels high; "
            f"{options.min_face_px:g} are needed.",
        )


def best_reference(track: LandmarkTrack) -> int:
    """Index of the best reference frame: frontal, eyes open, mouth closed."""
    turned = head_pose(track).angles_deg.abs().sum(1) / 30
    score = turned + 2 * mouth_open(track) - eye_open(track)
    return int(score.masked_fill(~track.valid, float("inf")).argmin())


def _save_speech(speech: Speech, path: Path) -> None:
    content = {"waveform": speech.waveform, "log_mel": log_mel(speech)}
    metadata = {"rate_hz": str(speech.sample_rate), "mel_rate_hz": str(MEL_RATE_HZ), "source": speech.source}
    save_tensors(content, path, metadata)


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
