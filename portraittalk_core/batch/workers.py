"""Workers of a batch: this process, or Ray workers on this machine or a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from ..errors import InputError, MissingDependency
from ..progress import Progress
from .jobs import FAILED, Outcome
from .manifest import BatchJob

log = logging.getLogger(__name__)

ANSWER_S = 5.0  # an address that does not answer in this time is told; Ray itself would wait for minutes
ADVICE = "start a cluster with `ray start --head` and give its address, or leave --address out"
Tick = Callable[[], None]
Finished = tuple[BatchJob, int, Outcome]  # job, attempt, how it ended


class Runner(Protocol):
    """Runs one job after the other, see `jobs.JobRunner`."""

    def run(self, job: BatchJob, on_progress: Progress | None = None) -> Outcome:
        """Run a job."""

    def close(self) -> None:
        """Free the runner's resources."""


class _Stop(BaseException):
    """Carries an exception of `on_tick` through a runner, which takes every Exception for a failed job."""


class InProcess:
    """A single worker: this process."""

    num_workers = 1

    def __init__(self, make_runner: Callable[[], Runner]) -> None:
        self._runner = make_runner()
        self._submitted: list[tuple[BatchJob, int]] = []

    @property
    def free(self) -> int:
        """Number of jobs that may be submitted now."""
        return 1 - len(self._submitted)

    def submit(self, job: BatchJob, attempt: int) -> None:
        """Submit a job."""
        self._submitted.append((job, attempt))

    def finished(self, _timeout_s: float, on_tick: Tick) -> Iterator[Finished]:
        """Run the submitted job and yield its outcome."""

        def on_progress(_done: int, _total: int) -> None:
            try:
                on_tick()
            except Exception as error:
                raise _Stop from error

        job, attempt = self._submitted[0]
        try:
            outcome = self._runner.run(job, on_progress)
        except _Stop as stop:
            raise stop.__cause__ from None
        self._submitted.clear()
        yield job, attempt, outcome

    def close(self) -> None:
        """Free the runner's resources."""
        self._runner.close()


class _Hosted:
    """A runner within a worker of Ray."""

    def __init__(self, make_runner: Callable[[], Runner]) -> None:
        self._runner = make_runner()

    def run(self, job: BatchJob) -> Outcome:
        return self._runner.run(job)


class RayWorkers:
    """Workers of Ray, with one CPU each.

    Args:
        make_runner: called once in every worker.
        workers: how many; None takes all CPUs of the cluster.
        address: of a cluster, "auto" for the one of this machine; None starts one here for this batch only.
        folder: results go here; what stopped workers left half written is removed.

    Raises:
        MissingDependency: Ray is not installed.
        InputError: no cluster at the address.
    """

    def __init__(
        self, make_runner: Callable[[], Runner], workers: int | None, address: str | None, folder: Path
    ) -> None:
        self._ray, self._make, self._folder = _import_ray(), make_runner, folder
        check_address(address)
        self._running: dict[object, tuple[object, BatchJob, int]] = {}
        _connect(self._ray, workers, address)
        try:
            cpus = int(self._ray.cluster_resources().get("CPU", 1))
            if workers is not None and workers > cpus:
                log.warning("the cluster has %d CPUs: %d workers do the work, not %d.", cpus, cpus, workers)
            self.num_workers = max(1, min(workers or cpus, cpus))
            self._idle = [self._new_worker() for _ in range(self.num_workers)]
        except BaseException:
            self._ray.shutdown()
            raise

    @property
    def free(self) -> int:
        """Number of jobs that may be submitted now."""
        return len(self._idle)

    def submit(self, job: BatchJob, attempt: int) -> None:
        """Submit a job to an idle worker."""
        worker = self._idle.pop()
        self._running[worker.run.remote(job)] = (worker, job, attempt)

    def finished(self, timeout_s: float, _on_tick: Tick) -> Iterator[Finished]:
        """Finished jobs; waits for the first at most `timeout_s` seconds."""
        ready, _ = self._ray.wait(list(self._running), timeout=timeout_s)
        for ref in ready:
            worker, job, attempt = self._running[ref]
            try:
                outcome = self._ray.get(ref)
            except self._ray.exceptions.RayActorError:  # the worker is gone, with whatever it held
                outcome = Outcome(FAILED, reason="the worker died (out of memory, or a fault in a library)", again=True)
                worker = self._new_worker()
                self._remove_parts(job)
            except self._ray.exceptions.RayError as error:
                text = f"{type(error).__name__}: {error}".strip().splitlines()
                outcome = Outcome(FAILED, reason=f"{text[0]} {text[-1]}", again=True)
            del self._running[ref]
            self._idle.append(worker)
            yield job, attempt, outcome

    def close(self) -> None:
        """Stop the workers; jobs that are under way are lost."""
        for worker in (*self._idle, *(worker for worker, _, _ in self._running.values())):
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(worker)
        self._ray.shutdown()
        for _, job, _ in self._running.values():
            self._remove_parts(job)

    def _new_worker(self) -> object:
        return self._ray.remote(num_cpus=1)(_Hosted).remote(self._make)

    def _remove_parts(self, job: BatchJob) -> None:
        """Remove what `media.files` was writing for a job whose process is gone."""
        out = Path(job.out)
        for path in self._folder.glob(f".*.part{out.suffix}"):
            if path.name.startswith(f".{out.stem[:40]}."):
                path.unlink(missing_ok=True)


def check_address(address: str | None) -> None:
    """Check that a host and port accept connections; other kinds of address are left to Ray.

    Raises:
        InputError: no connection.
    """
    match = re.fullmatch(r"(?:ray://)?([^/:\s]+):(\d{1,5})", address or "")
    if not match:
        return
    try:
        socket.create_connection((match[1], int(match[2])), ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"nobody answers at {address} ({error}); {ADVICE}.") from error


def _import_ray() -> object:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is to be told to anybody
    try:
        import ray
    except ImportError as error:
        raise MissingDependency(
            "several workers, or a cluster, need Ray: pip install ray; without it, --workers 1 "
            "does the same work in this process."
        ) from error
    return ray


def _connect(ray: object, workers: int | None, address: str | None) -> None:
    """Start Ray here, or connect to a cluster; the signal handlers stay as they were."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    previous_handler = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:  # "local": not any other that happens to run on this machine
            ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray raises bare ones, such as for a start that took too long
        ray.shutdown()
        message = " ".join(str(error).split())[:300]
        if address is None:
            advice = "try again when the machine is less busy, or give --workers 1, which needs no Ray"
            raise InputError(f"Ray could not be started on this machine ({message}); {advice}.") from error
        raise InputError(f"Ray cannot be used at {address} ({message}); {ADVICE}.") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous_handler)
