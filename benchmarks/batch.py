"""Throughput of `portraittalk batch` with one and with two workers of Ray, side by side in one run."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portraittalk_core.batch.jobs import Outcome

PURPOSE = "jobs a minute of a batch with 1 and with 2 workers"
GOAL = 1.5
SAMPLE = Path(__file__).parents[1] / "samples" / "speech.wav"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--items",
        metavar="N",
        type=int,
        default=18,
        help="talk jobs of each run; the first of each worker does not count",
    )
    parser.add_argument("--seconds", metavar="X", type=float, default=2.0, help="of speech in each job")
    parser.add_argument("--rounds", metavar="N", type=int, default=1, help="of both runs; the median ratio counts")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare; 1 if two workers are not at least 1.5 times as fast as one."""
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        manifest = _manifest(Path(name), args.items, args.seconds)
        for k in range(args.rounds):
            rates = {workers: _rate(manifest, Path(name) / f"out{k}_{workers}", workers) for workers in (1, 2)}
            ratios.append(rates[2] / rates[1])
            text = ", ".join(f"{workers} worker(s) {rate:.1f} jobs/min" for workers, rate in rates.items())
            print(f"{text}, ratio {ratios[-1]:.2f}", flush=True)
    ratio = statistics.median(ratios)
    print(f"2 workers over 1: {ratio:.2f} (goal {GOAL}) over {args.items} talk jobs of {args.seconds:g} s")
    return 0 if ratio >= GOAL else 1


def _manifest(folder: Path, items: int, seconds: float) -> Path:
    from PIL import Image
    from skimage.data import astronaut

    Image.fromarray(astronaut()).save(folder / "me.png")
    with wave.open(str(SAMPLE)) as source, wave.open(str(folder / "a.wav"), "wb") as part:
        part.setparams(source.getparams())
        part.writeframes(source.readframes(round(seconds * source.getframerate())))
    rows = ["job,out,portrait,speech,seed", *(f"talk,v{k},me.png,a.wav,{k}" for k in range(items))]
    (folder / "jobs.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "jobs.csv"


def _rate(manifest: Path, out: Path, workers: int) -> float:
    """Jobs a minute of warmed-up workers: each has finished one job before.

    Both runs use Ray, so that only the number of workers differs.
    """
    import functools
    import itertools
    import time

    from portraittalk_core.batch.jobs import BatchSettings, JobRunner
    from portraittalk_core.batch.manifest import read_manifest
    from portraittalk_core.batch.options import BatchOptions
    from portraittalk_core.batch.run import run_jobs
    from portraittalk_core.batch.workers import RayWorkers

    out.mkdir()
    engine = RayWorkers(functools.partial(JobRunner, BatchSettings(out)), workers, None, BatchOptions().cpu_wait_s)
    try:
        jobs = read_manifest(manifest)
        while engine.free < workers:
            _checked(outcome for _, _, outcome in engine.finished(1.0, _nothing))
        for job in itertools.islice(jobs, workers):
            engine.submit(job, 1)
        while engine.free < workers:
            _checked(outcome for _, _, outcome in engine.finished(1.0, _nothing))
        started = time.perf_counter()
        count = _checked(item.outcome for item in run_jobs(jobs, engine, BatchOptions(), _nothing))
        return 60 * count / (time.perf_counter() - started)
    finally:
        engine.close()


def _checked(outcomes: Iterable[Outcome]) -> int:
    count = 0
    for outcome in outcomes:
        if outcome.status != "done":
            raise RuntimeError(f"a job {outcome.status}: {outcome.reason}")
        count += 1
    return count


def _nothing() -> None:
    """No progress is shown."""
