"""Workers of a batch: this process, or Ray workers on this machine or a cluster."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .cluster import check_address, connect, head_of, import_ray
from .hosted import Hosted, Runner
from .jobs import FAILED, Outcome
from .manifest import BatchJob

log = logging.getLogger(__name__)

TOLD_S = 10.0  # without any worker, after which the user is told
MOST_FAILED_STARTS = 10  # of workers, one after the other, before no more are tried
Tick = Callable[[], None]
Finished = tuple[BatchJob, int, Outcome]  # job, attempt, how it ended


class _Stop(BaseException):
    """Carries an exception of `on_tick` through a runner, which takes every Exception for a failed job."""


class InProcess:
    """A single worker: this process."""

    num_workers = 1
    lost = ""

    def __init__(self, make_runner: Callable[[], Runner]) -> None:
        self._runner = make_runner()
        self._submitted: list[tuple[BatchJob, int]] = []

    @property
    def free(self) -> int:
        """Number of jobs that may be submitted now."""
        return 1 - len(self._submitted)

    @property
    def busy(self) -> int:
        """Number of jobs that are under way."""
        return len(self._submitted)

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


@dataclass
class _Worker:
    """A worker of Ray."""

    actor: object
    machine: str = ""  # its address; empty: it is not there yet


class RayWorkers:
    """Workers of Ray, with one CPU each.

    Jobs go to workers that are there. One that died is replaced as soon as a CPU is free; where its machine is gone
    that may be never, and the others do the work. Once none is left, and none comes for `wait_s`, `lost` says so.

    Args:
        make_runner: called once in every worker.
        workers: how many; None takes all CPUs of the cluster.
        address: of a cluster, "auto" for the one of this machine; None starts one here for this batch only.
        wait_s: seconds without any worker, after which jobs are given up.

    Raises:
        MissingDependency: Ray is not installed, or not its client, which the address needs.
        InputError: no cluster at the address.
    """

    def __init__(
        self, make_runner: Callable[[], Runner], workers: int | None, address: str | None, wait_s: float
    ) -> None:
        self._ray, self._make, self._wait_s = import_ray(), make_runner, wait_s
        check_address(address)
        self.lost = ""  # why no job can be done any more
        self._idle: list[_Worker] = []
        self._dead: list[_Worker] = []
        self._starting: dict[object, _Worker] = {}
        self._running: dict[object, tuple[_Worker, BatchJob, int]] = {}
        self._failed_starts, self._why, self._has_head = 0, "", True
        connect(self._ray, workers, address)
        try:
            self._head = head_of(self._ray, address)
            cpus = int(self._ray.cluster_resources().get("CPU", 1))
            if workers is not None and workers > cpus:
                log.warning("the cluster has %d CPUs: %d workers do the work, not %d.", cpus, cpus, workers)
            self.num_workers = max(1, min(workers or cpus, cpus))
            for _ in range(self.num_workers):
                self._start_worker()
        except BaseException:
            self._ray.shutdown()
            raise
        self._alone_since, self._is_told = time.monotonic(), False

    @property
    def free(self) -> int:
        """Number of jobs that may be submitted now."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Number of jobs that are under way."""
        return len(self._running)

    def submit(self, job: BatchJob, attempt: int) -> None:
        """Submit a job to an idle worker."""
        worker = self._idle.pop()
        self._running[worker.actor.run.remote(self._make, job)] = (worker, job, attempt)

    def finished(self, timeout_s: float, _on_tick: Tick) -> Iterator[Finished]:
        """Finished jobs; waits at most `timeout_s` seconds for the first, or for a worker."""
        try:
            if self._head.answers(now=bool(self._dead)):
                self._replace_dead()
            refs = [*self._running, *self._starting]
            if not refs:
                time.sleep(timeout_s)
            ready, _ = self._ray.wait(refs, timeout=timeout_s) if refs else ((), ())
            for ref in ready:
                if ref in self._starting:
                    self._end_start(ref)
                else:
                    yield self._end_job(ref)
            self._look_for_loss()
        except ConnectionError as error:
            yield from self._lose_head(error)

    def close(self) -> None:
        """Stop the workers; jobs that are under way are lost."""
        running = (worker for worker, _, _ in self._running.values())
        for worker in (*self._idle, *self._starting.values(), *running):
            self._kill(worker)
        if self._has_head:
            self._ray.shutdown()
        else:  # it would wait for the head's answer
            threading.Thread(target=self._ray.shutdown, daemon=True).start()

    def _start_worker(self) -> None:
        """Ask for one more worker; it is there once a CPU is free."""
        worker = _Worker(self._ray.remote(num_cpus=1)(Hosted).remote())
        self._starting[worker.actor.where.remote()] = worker

    def _end_start(self, ref: object) -> None:
        worker = self._starting.pop(ref)
        try:
            worker.machine = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            why = _first_and_last(error)
            if why != self._why:
                log.warning("a worker could not be started (%s).", why)
            self._failed_starts, self._why = self._failed_starts + 1, why
            if self._failed_starts < MOST_FAILED_STARTS:
                self._dead.append(worker)
        else:
            self._failed_starts = 0
            self._idle.append(worker)

    def _end_job(self, ref: object) -> Finished:
        worker, job, attempt = self._running.pop(ref)
        try:
            outcome = self._ray.get(ref)
        except self._ray.exceptions.RayActorError as error:  # the worker is gone, with whatever it held
            outcome = Outcome(FAILED, reason=self._bury(worker, error), again=True)
        except self._ray.exceptions.RayError as error:
            outcome = Outcome(FAILED, reason=_first_and_last(error), again=True)
            self._idle.append(worker)
        else:
            self._idle.append(worker)
        return job, attempt, outcome

    def _bury(self, worker: _Worker, error: Exception) -> str:
        """Note that a worker died, and say why; with a machine all of its workers die."""
        dead, reason = [worker], "the worker died (out of memory, a fault in a library, or its machine was lost)"
        if "node has died" in str(error) or "node died" in str(error):
            reason = f"the machine {worker.machine} that it ran on left the cluster"
            dead += [idle for idle in self._idle if idle.machine == worker.machine]
            self._idle = [idle for idle in self._idle if idle.machine != worker.machine]
        self._dead += dead
        return reason

    def _replace_dead(self) -> None:
        """Ask for other workers instead of those that died."""
        while self._dead:
            self._kill(self._dead.pop())
            self._start_worker()

    def _lose_head(self, error: Exception) -> Iterator[Finished]:
        """Give up every worker: without the head none can be asked or ended."""
        self._has_head = False
        self.lost = f"the head of the cluster is lost ({error}); run the same command when there is one again"
        jobs = [(job, attempt) for _, job, attempt in self._running.values()]
        for workers in (self._running, self._starting, self._idle, self._dead):
            workers.clear()
        for job, attempt in jobs:
            yield job, attempt, Outcome(FAILED, reason=self.lost)

    def _look_for_loss(self) -> None:
        """Tell, and in the end give up, while there is no worker at all."""
        now = time.monotonic()
        if self._idle or self._running:
            self._alone_since, self._is_told = now, False
        elif self._dead:
            return  # they are replaced as soon as the head answers
        elif not self._starting:
            self.lost = f"no worker could be started ({self._why}); PortraitTalk must be installed on every machine"
        elif now - self._alone_since >= self._wait_s:
            self.lost = (
                f"no CPU was free for {self._wait_s:g} s: {self._capacity()}. Run the same command when there are; it "
                "makes only what is not finished. --cpu-wait waits longer"
            )
        elif now - self._alone_since >= TOLD_S and not self._is_told:
            self._is_told = True
            log.warning("no CPU is free: %s; waiting for up to %g s.", self._capacity(), self._wait_s)

    def _capacity(self) -> str:
        """The CPUs that the cluster still has, in words."""
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        cpus = int(sum(node["Resources"].get("CPU", 0) for node in alive))
        if not alive:
            return "no machine of the cluster is left"
        machines = f"{len(alive)} machine{'s' * (len(alive) > 1)}"
        return (
            f"the cluster has {cpus} on {machines}, which others use" if cpus else f"the cluster's {machines} have none"
        )

    def _kill(self, worker: _Worker) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker.actor)


def _first_and_last(error: Exception) -> str:
    """First and last line of what Ray says; between them is a traceback."""
    lines = f"{type(error).__name__}: {error}".strip().splitlines()
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}"
