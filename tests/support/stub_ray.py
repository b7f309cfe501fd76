"""Stub of Ray: a cluster whose CPUs come and go by a clock of its own, so that hours of waiting take no time."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace


class RayError(Exception):
    """Base of Ray's errors."""


class RayActorError(RayError):
    """The worker is gone."""


class Actor:
    """A worker: it has a CPU once the cluster has one for it, and works off what was asked, each for a second."""

    def __init__(self, cluster: StubRay, kind: type) -> None:
        self.cluster, self.cpu, self.dead, self._hosted = cluster, None, "", kind()
        self.where = SimpleNamespace(remote=lambda: Call(self, lambda: cluster.start(self), 0.0))
        self.run = SimpleNamespace(remote=lambda make, job: Call(self, lambda: self._hosted.run(make, job), 1.0))


class Call:
    """What was asked of a worker."""

    def __init__(self, actor: Actor, work: Callable[[], object], takes_s: float) -> None:
        self.actor, self.work, self.due_s = actor, work, actor.cluster.now_s + takes_s


class StubRay:
    """The part of Ray's interface that `batch.workers` uses.

    Args:
        cpus: free ones at the beginning.
        events: what happens in the cluster, by the second: called with the cluster.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayActorError=RayActorError)

    def __init__(self, cpus: int, events: dict[float, Callable[[StubRay], None]] | None = None) -> None:
        self.now_s, self.cpus, self.promised, self.is_shut = 0.0, [f"10.0.0.{k}" for k in range(cpus)], cpus, False
        self.events, self._actors = dict(events or {}), []
        self.why_no_start = ""  # an error of every new worker
        self.head = ""  # the address of the head
        self.exceptions = StubRay.exceptions

    def lose(self, message: str = "The actor is dead because its node has died.") -> None:
        """The machine of the last CPU dies."""
        lost = self.cpus[-1]
        self.cpus = [cpu for cpu in self.cpus if cpu != lost]
        for actor in self._actors:
            if actor.cpu == lost:
                actor.dead = message

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(gcs_address=self.head)

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.promised)}

    def nodes(self) -> list[dict]:
        return [{"Alive": True, "Resources": {"CPU": 1.0}} for _ in self.cpus] + [{"Alive": False, "Resources": {}}]

    def remote(self, num_cpus: int) -> Callable[[type], object]:
        assert num_cpus == 1
        return lambda kind: SimpleNamespace(remote=lambda: self._new(kind))

    def start(self, actor: Actor) -> str:
        return actor.cpu

    def wait(self, calls: list[Call], timeout: float) -> tuple[list[Call], list[Call]]:
        self._give_cpus()
        ready = [call for call in calls if self._is_ready(call)][:1]
        if not ready:
            self.now_s += timeout
            for second in [second for second in self.events if second <= self.now_s]:
                self.events.pop(second)(self)
        return ready, [call for call in calls if call not in ready]

    def get(self, call: Call) -> object:
        if self.why_no_start:
            raise RayActorError(self.why_no_start)
        if call.actor.dead:
            raise RayActorError(call.actor.dead)
        return call.work()

    def kill(self, actor: Actor) -> None:
        self._actors.remove(actor)

    def shutdown(self) -> None:
        self.is_shut = True

    def _new(self, kind: type) -> Actor:
        self._actors.append(Actor(self, kind))
        return self._actors[-1]

    def _give_cpus(self) -> None:
        free = list(self.cpus)
        for actor in self._actors:
            if actor.cpu in free:
                free.remove(actor.cpu)
        for actor in self._actors:
            if actor.cpu is None and free:
                actor.cpu = free.pop(0)

    def _is_ready(self, call: Call) -> bool:
        if call.actor.dead or self.why_no_start:
            return True
        return call.actor.cpu is not None and call.due_s <= self.now_s
