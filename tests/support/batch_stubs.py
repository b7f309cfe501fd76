"""Stub of a batch's job runner; helpers that write manifests, run them and read the report."""

from __future__ import annotations

import csv
from pathlib import Path

from portraittalk_core.batch.jobs import BatchSettings, Outcome
from portraittalk_core.batch.options import BatchOptions
from portraittalk_core.batch.run import BatchResult, run_batch

QUICK = BatchOptions(wait_s=0)


class Runner:
    """Stub job runner with given outcomes by the jobs' out names; records the jobs."""

    def __init__(self, ends=()):
        self.ends, self.given, self.closed = dict(ends), [], False

    def run(self, job, on_progress=None):
        self.given.append(job.out)
        if on_progress:
            on_progress(1, 2)
        end = self.ends.get(job.out, Outcome("done", 0.5))
        if isinstance(end, BaseException):
            raise end
        return end.pop(0) if isinstance(end, list) else end

    def close(self):
        self.closed = True


def manifest(folder: Path, *rows: str, columns: str = "job,out,portrait,speech") -> Path:
    """Write jobs.csv."""
    path = folder / "jobs.csv"
    path.write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return path


def talks(folder: Path, count: int) -> Path:
    """A manifest of so many talk jobs."""
    return manifest(folder, *(f"talk,v{k},me.png,a.wav" for k in range(count)))


def run(path: Path, runner: Runner | None, options: BatchOptions = QUICK, **more) -> BatchResult:
    """Run a manifest into the folder `out` beside it."""
    return run_batch(path, BatchSettings(path.parent / "out"), options, **{"make_runner": lambda: runner, **more})


def table(folder: Path) -> list[dict[str, str]]:
    """Rows of the batch report."""
    with (folder / "out" / "batch.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
