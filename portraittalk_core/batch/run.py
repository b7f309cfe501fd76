"""Batch run of a manifest's talk and score jobs, on one worker or many; finished results are kept.

Jobs that read what others make come after them. Memory does not grow with the number of jobs: they are read one at a
time, and what came of each goes to a table.
"""

from __future__ import annotations

import functools
import heapq
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError
from ..media.csv_line import csv_line
from ..media.files import atomic_write, check_writable, explain_write_errors
from ..progress import Progress
from .folder import locked, remove_left_behind
from .hosted import Runner
from .jobs import BLOCKED, DONE, FAILED, SKIPPED, BatchSettings, JobRunner, Outcome
from .manifest import SCORE, BatchJob
from .options import LONGEST_WAIT_S, BatchOptions
from .plan import BatchPlan
from .report import REPORT, BatchReport
from .workers import Finished, InProcess, RayWorkers, Tick

TABLE = "batch.csv"
COLUMNS = ("line", "out", "job", "status", "seconds", "attempts", "reason")
POLL_S = 0.2  # between looks at workers, and calls of on_progress
MOST_WAITING = 64  # failed jobs that wait for their next attempt, before new ones are begun
Workers = InProcess | RayWorkers


@dataclass(frozen=True)
class Item:
    """Outcome of one line of the manifest."""

    job: BatchJob
    outcome: Outcome
    attempts: int  # 0: nothing was tried


@dataclass(frozen=True)
class BatchResult:
    """Counts and files of a batch run."""

    done: int
    skipped: int  # were finished before
    failed: int
    blocked: int  # not tried, for what they need was not made
    workers: int
    seconds: float
    table: Path  # one line an item
    report: Path | None  # page over all scores; None: there were none


def run_batch(
    manifest: Path,
    settings: BatchSettings,
    options: BatchOptions | None = None,
    *,
    make_runner: Callable[[], Runner] | None = None,
    on_progress: Progress | None = None,
    on_item: Callable[[Item], None] | None = None,
) -> BatchResult:
    """Run all jobs of a manifest.

    Results whose inputs (by content), options and program version are the same as before are not made again. The
    table is begun anew, and grows by one whole line as each item ends, in the order in which they end. The folder is
    locked meanwhile, so that no second batch makes the same there, and what killed ones left half written is removed.
    With an address, all paths must mean the same files on every machine of the cluster, and PortraitTalk be installed
    there.

    Args:
        manifest: see `manifest.read_manifest`.
        settings: output folder and what jobs share.
        options: workers and retries.
        make_runner: makes the runner of a worker; None is `jobs.JobRunner`.
        on_progress: called with items ended and in all, several times a second; may raise to stop: what is finished
            is kept.
        on_item: called with every item that ended.

    Raises:
        InputError: the manifest as a whole cannot be used, or another batch runs in the folder.
        MissingDependency: more than one worker or an address, and Ray is not installed.
        OutputError: the output folder cannot be written to, or the temporary folder not take the plan.
    """
    started, options = time.perf_counter(), options or BatchOptions()
    settings, ended = replace(settings, folder=Path(os.path.realpath(settings.folder))), Counter()
    with BatchPlan(manifest, settings.folder) as plan, locked(settings.folder):
        table, report = _check_table(settings.folder, manifest), BatchReport(settings.folder, Path(manifest).name)

        def on_tick() -> None:
            if on_progress:
                on_progress(ended.total(), plan.total)

        workers = _open_workers(make_runner or functools.partial(JobRunner, settings), options)
        try:
            remove_left_behind(settings.folder, functools.partial(_is_ours, plan))
            _begin_table(table)
            for item in _run_plan(plan, workers, options, on_tick):
                ended[item.outcome.status] += 1
                _add_line(table, item)
                if item.job.job == SCORE:
                    report.add(item.job, item.outcome)
                if on_item:
                    on_item(item)
                on_tick()
        finally:
            workers.close()
            remove_left_behind(settings.folder, functools.partial(_is_ours, plan))  # of workers that died
        counts = (ended[DONE], ended[SKIPPED], ended[FAILED], ended[BLOCKED])
        return BatchResult(*counts, workers.num_workers, time.perf_counter() - started, table, report.write())


def _is_ours(plan: BatchPlan, stem: str) -> bool:
    """Whether a name without its ending is that of an output, or of what the batch itself writes."""
    return stem in (Path(TABLE).stem, Path(REPORT).stem) or plan.is_output(stem)


def _run_plan(plan: BatchPlan, workers: Workers, options: BatchOptions, on_tick: Tick) -> Iterator[Item]:
    """Run jobs in topological order, level by level: a job starts when the jobs it depends on have ended."""
    for level in range(plan.depth):
        for item in run_jobs(plan.jobs(level), workers, options, on_tick):
            if item.outcome.status in (FAILED, BLOCKED):
                plan.mark_unmade(item.job)
            yield item


def _open_workers(make_runner: Callable[[], Runner], options: BatchOptions) -> Workers:
    if options.address is None and options.workers in (None, 1):
        return InProcess(make_runner)
    return RayWorkers(make_runner, options.workers, options.address, options.cpu_wait_s)


class _Queue:
    """Jobs to be submitted: a manifest's next ones, and failed ones that wait for their next attempt."""

    def __init__(self, jobs: Iterator[BatchJob]) -> None:
        self._jobs, self._next = jobs, next(jobs, None)
        self._waiting: list[tuple[float, int, BatchJob, int]] = []  # due at, line, job, attempt

    def __bool__(self) -> bool:
        return self._next is not None or bool(self._waiting)

    def retry(self, job: BatchJob, attempt: int, wait_s: float) -> None:
        """Take a failed job in again."""
        heapq.heappush(self._waiting, (time.monotonic() + wait_s, job.line, job, attempt))

    def take(self, at_once: bool = False) -> tuple[BatchJob, int] | None:
        """The next job with its attempt, from 1; None while all of them have to wait, unless `at_once`."""
        if self._waiting and (at_once or self.wait_s <= 0):
            return heapq.heappop(self._waiting)[2:]
        if self._next is None or len(self._waiting) >= MOST_WAITING:
            return None
        job, self._next = self._next, next(self._jobs, None)
        return job, 1

    @property
    def wait_s(self) -> float:
        """Seconds until the first waiting job is due; 0 or less: it is."""
        return self._waiting[0][0] - time.monotonic() if self._waiting else 0.0


def run_jobs(jobs: Iterator[BatchJob], workers: Workers, options: BatchOptions, on_tick: Tick) -> Iterator[Item]:
    """Run jobs on open workers, and retry failures that may succeed the next time.

    Yields:
        The outcome of each, in the order in which they end.
    """
    queue = _Queue(jobs)
    while queue or workers.busy:
        yield from _submit_jobs(queue, workers)
        if workers.busy or (queue and not workers.free):
            for job, attempt, outcome in _finished(workers, on_tick):
                if outcome.again and attempt <= options.retries and not workers.lost:
                    queue.retry(job, attempt + 1, min(options.wait_s * 2 ** (attempt - 1), LONGEST_WAIT_S))
                else:
                    yield Item(job, outcome, attempt)
        elif queue:
            time.sleep(max(0.0, min(queue.wait_s, POLL_S)))
            on_tick()


def _submit_jobs(queue: _Queue, workers: Workers) -> Iterator[Item]:
    """Submit jobs while workers are free; yields those that cannot be run."""
    while (workers.free or workers.lost) and (taken := queue.take(at_once=bool(workers.lost))):
        job, attempt = taken
        if job.problem or job.unmade:
            yield Item(job, Outcome(FAILED if job.problem else BLOCKED, reason=job.problem or job.unmade), 0)
        elif workers.lost:
            yield Item(job, Outcome(FAILED, reason=workers.lost), attempt - 1)
        else:
            workers.submit(job, attempt)


def _finished(workers: Workers, on_tick: Tick) -> Iterator[Finished]:
    yield from workers.finished(POLL_S, on_tick)
    on_tick()


def _check_table(folder: Path, manifest: Path) -> Path:
    """The table's path, where it can be written."""
    table = check_writable(folder / TABLE)
    if table.exists() and table.samefile(manifest):
        raise InputError(f"the manifest {manifest} would be overwritten by the table of what happened; rename it.")
    return table


def _begin_table(table: Path) -> None:
    with atomic_write(table) as part:
        part.write_bytes(csv_line(COLUMNS).encode())


def _add_line(table: Path, item: Item) -> None:
    job, outcome = item.job, item.outcome
    reason = " ".join(outcome.reason.split())  # one line an item, whatever a library says
    row = (job.line, job.out, job.job, outcome.status, f"{outcome.seconds:.2f}", item.attempts, reason)
    with explain_write_errors(table):
        opened = os.open(table, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(opened, csv_line(row).encode())  # at once: who reads meanwhile sees whole lines only
        finally:
            os.close(opened)
