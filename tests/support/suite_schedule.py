"""Which tests share a worker of pytest-xdist, and which groups begin first.

A file is a group: its fixtures are made once. All that talk to the ComfyUI server are one group, since there is one
server. Long groups begin first, so that two workers end together. The node ids stay as they are, so that `--lf` and
`-k` find tests with and without workers.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

ALONE = {
    "test_bindings.py",
    "test_comfy_place.py",
    "test_help_and_locales.py",
}  # in tests/nodes, but without its server
COMFY = "comfy"
# Seconds of a processor, of groups that take more than ten: measured once, only their order matters.
SECONDS: dict[str, float] = {COMFY: 1000}


def group_of(nodeid: str) -> str:
    """The group of a test, by the file it is in."""
    path = PurePosixPath(nodeid.split("::", maxsplit=1)[0])
    if "nodes" in path.parts and path.name not in ALONE:
        return COMFY
    return str(path)


def expected_seconds(group: str) -> float:
    return SECONDS.get(PurePosixPath(group).name, 0.0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Give pytest-xdist a scheduler that works by these groups, whatever `--dist` says."""
    from xdist.scheduler import LoadScopeScheduling

    class LongestFirst(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

        def _assign_work_unit(self, node) -> None:
            longest = max(self.workqueue, key=expected_seconds)  # the first of equals
            self.workqueue.move_to_end(longest, last=False)
            super()._assign_work_unit(node)

    config.option.loadscopereorder = False
    return LongestFirst(config, log)
