"""What runs within a worker of Ray. It imports nothing else, so that a worker is there as soon as it has its CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..progress import Progress
    from .jobs import Outcome
    from .manifest import BatchJob


class Runner(Protocol):
    """Runs one job after the other, see `jobs.JobRunner`."""

    def run(self, job: BatchJob, on_progress: Progress | None = None) -> Outcome:
        """Run a job."""

    def close(self) -> None:
        """Free the runner's resources."""


class Hosted:
    """A runner within a worker of Ray; it is made at the first job."""

    def __init__(self) -> None:
        self._runner: Runner | None = None

    def where(self) -> str:
        """The address of the machine that the worker is on."""
        from ray.util import get_node_ip_address

        return get_node_ip_address()

    def run(self, make_runner: Callable[[], Runner], job: BatchJob) -> Outcome:
        """Run a job.

        Args:
            make_runner: makes the runner, at the first job.
            job: what to do.
        """
        if self._runner is None:
            self._runner = make_runner()
        return self._runner.run(job)
