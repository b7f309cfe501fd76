"""Throughput of `portraittalk batch` with one and with two workers of Ray, side by side in one run."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import wave
from pathlib import Path

PURPOSE = "jobs a minute of a batch with 1 and with 2 workers"
GOAL = 1.5
SAMPLE = Path(__file__).parents[1] / "samples" / "speech.wav"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--items", metavar="N", type=int, default=8, help="talk jobs of each run")
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
            said = ", ".join(f"{workers} worker(s) {rate:.1f} jobs/min" for workers, rate in rates.items())
            print(f"{said}, ratio {ratios[-1]:.2f}", flush=True)
    ratio = statistics.median(ratios)
    print(f"2 workers over 1: {ratio:.2f} (goal {GOAL}) over {args.items} talk jobs of {args.seconds:g} s")
    return 0 if ratio >= GOAL else 1


def _manifest(folder: Path, items: int, seconds: float) -> Path:
    from PIL import Image
    from skimage.data import astronaut

    Image.fromarray(astronaut()).save(folder / "me.png")
    with wave.open(str(SAMPLE)) as whole, wave.open(str(folder / "a.wav"), "wb") as part:
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(round(seconds * whole.getframerate())))
    rows = ["job,out,portrait,speech,seed", *(f"talk,v{k},me.png,a.wav,{k}" for k in range(items))]
    (folder / "jobs.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "jobs.csv"


def _rate(manifest: Path, out: Path, workers: int) -> float:
    """Jobs a minute once every worker has started: each one's first job, which opens what it needs, does not count.

    Both runs use Ray, so that only the number of workers differs.
    """
    import functools
    import time

    from portraittalk_core.pipelines import batch
    from portraittalk_core.pipelines.batch_engines import RayWorkers
    from portraittalk_core.pipelines.batch_jobs import BatchSettings, JobRunner

    settings, ended = BatchSettings(out), []
    out.mkdir()
    engine = RayWorkers(functools.partial(JobRunner, settings), workers, None, out)
    try:
        jobs = batch.read_manifest(manifest)
        for item in batch.work_off(jobs, engine, batch.BatchOptions(), lambda: None):
            if item.outcome.status != "done":
                raise RuntimeError(f"{item.job.out} failed: {item.outcome.reason}")
            ended.append(time.perf_counter())
    finally:
        engine.close()
    counted = ended[workers - 1 :]
    return 60 * (len(counted) - 1) / (counted[-1] - counted[0])
