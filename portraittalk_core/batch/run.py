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
from .jobs import BLOCKED, DONE, FAILED, SKIPPED, BatchSettings, JobRunner, Outcome
from .manifest import SCORE, BatchJob
from .options import LONGEST_WAIT_S, BatchOptions
from .plan import BatchPlan
from .report import BatchReport
from .workers import Finished, InProcess, RayWorkers, Runner, Tick

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
    table is begun anew, and grows by one whole line as each item ends, in the order in which they end. With an
    address, all paths must mean the same files on every machine of the cluster, and PortraitTalk be installed there.

    Args:
        manifest: see `manifest.read_manifest`.
        settings: output folder and what jobs share.
        options: workers and retries.
        make_runner: makes the runner of a worker; None is `jobs.JobRunner`.
        on_progress: called with items ended and in all, several times a second; may raise to stop: what is finished
            is kept.
        on_item: called with every item that ended.

    Raises:
        InputError: the manifest as a whole cannot be used.
        MissingDependency: more than one worker or an address, and Ray is not installed.
        OutputError: the output folder cannot be written to.
    """
    started, options = time.perf_counter(), options or BatchOptions()
    settings, ended = replace(settings, folder=Path(settings.folder).resolve()), Counter()
    with BatchPlan(manifest, settings.folder) as plan:
        table, report = _begin_table(settings.folder, manifest), BatchReport(settings.folder, Path(manifest).name)

        def on_tick() -> None:
            if on_progress:
                on_progress(ended.total(), plan.total)

        workers = _open_workers(make_runner or functools.partial(JobRunner, settings), options, settings.folder)
        try:
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
    counts = (ended[DONE], ended[SKIPPED], ended[FAILED], ended[BLOCKED])
    return BatchResult(*counts, workers.num_workers, time.perf_counter() - started, table, report.write())


def _run_plan(plan: BatchPlan, workers: Workers, options: BatchOptions, on_tick: Tick) -> Iterator[Item]:
    """Run jobs in topological order, level by level: a job starts when the jobs it depends on have ended."""
    for level in range(plan.depth):
        for item in run_jobs(plan.jobs(level), workers, options, on_tick):
            if item.outcome.status in (FAILED, BLOCKED):
                plan.mark_unmade(item.job)
            yield item


def _open_workers(make_runner: Callable[[], Runner], options: BatchOptions, folder: Path) -> Workers:
    if options.address is None and options.workers in (None, 1):
        return InProcess(make_runner)
    return RayWorkers(make_runner, options.workers, options.address, folder)


def run_jobs(jobs: Iterator[BatchJob], workers: Workers, options: BatchOptions, on_tick: Tick) -> Iterator[Item]:
    """Run jobs on open workers, and retry failures that may succeed the next time.

    Yields:
        The outcome of each, in the order in which they end.
    """
    waiting: list[tuple[float, int, BatchJob, int]] = []  # due at, line, job, attempt
    while True:
        for job in _submit_jobs(jobs, workers, waiting):
            yield Item(job, Outcome(FAILED if job.problem else BLOCKED, reason=job.problem or job.unmade), 0)
        if workers.free < workers.num_workers:
            for job, attempt, outcome in _finished(workers, on_tick):
                if outcome.again and attempt <= options.retries:
                    wait_s = min(options.wait_s * 2 ** (attempt - 1), LONGEST_WAIT_S)
                    heapq.heappush(waiting, (time.monotonic() + wait_s, job.line, job, attempt + 1))
                else:
                    yield Item(job, outcome, attempt)
        elif not waiting:
            return
        else:
            time.sleep(max(0.0, min(waiting[0][0] - time.monotonic(), POLL_S)))
            on_tick()


def _submit_jobs(
    jobs: Iterator[BatchJob], workers: Workers, waiting: list[tuple[float, int, BatchJob, int]]
) -> Iterator[BatchJob]:
    """Submit jobs while workers are free; yields the jobs that cannot be run."""
    while workers.free:
        if waiting and waiting[0][0] <= time.monotonic():
            _, _, job, attempt = heapq.heappop(waiting)
            workers.submit(job, attempt)
            continue
        job = next(jobs, None) if len(waiting) < MOST_WAITING else None
        if job is None:
            return
        if job.problem or job.unmade:
            yield job
        else:
            workers.submit(job, 1)


def _finished(workers: Workers, on_tick: Tick) -> Iterator[Finished]:
    yield from workers.finished(POLL_S, on_tick)
    on_tick()


def _begin_table(folder: Path, manifest: Path) -> Path:
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    table = check_writable(folder / TABLE)
    if table.exists() and table.samefile(manifest):
        raise InputError(f"the manifest {manifest} would be overwritten by the table of what happened; rename it.")
    with atomic_write(table) as part:
        part.write_bytes(csv_line(COLUMNS).encode())
    return table


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
