"""Options of a batch run."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import check_options, option

LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class BatchOptions:
    """Options of a batch run."""

    workers: int | None = option(
        None, 1, 10_000,
        "jobs at the same time, a CPU each; if not given 1, in this process without Ray, or a cluster's CPUs",
    )  # fmt: skip
    address: str | None = option(
        None,
        help="address of a Ray cluster whose machines see the same files and have PortraitTalk installed; auto: this "
        "machine's",
        metavar="ADDRESS",
    )
    retries: int = option(2, 0, 100, "how often a job is tried again whose failure is no mistake in the manifest")
    cpu_wait_s: float = option(
        120.0, 1, 604_800,
        "seconds to wait while no CPU of the cluster is free for any worker; then what is left is given up",
        metavar="S", column="cpu_wait",
    )  # fmt: skip
    # before the first retry; twice as long before each further one
    wait_s: float = option(1.0, 0, LONGEST_WAIT_S, "seconds before a retry", shared=False)

    def __post_init__(self) -> None:
        check_options(
            self,
            workers="the number of workers",
            retries="the number of retries",
            cpu_wait_s="the seconds to wait for a free CPU",
            wait_s="the seconds before a retry",
        )
