"""Modules stay out of garbage collection.

A full collection looks at half a million objects of imported packages, a quarter of a second each time, and every
training of `train_stage` ends with one (accelerate's `free_memory`). Modules live as long as the process: what they
hold is frozen after the tests are collected, and again after a test that has imported many more. While the tests are
collected, which imports most of them, there is no garbage collection. Nor is it thawed at the end, where pytest
collects five times: that costs a second and more.
"""

from __future__ import annotations

import gc
import sys

import pytest

MANY = 200  # newly imported modules


class Garbage:
    """Freezes what is alive whenever many modules are new."""

    def __init__(self) -> None:
        self.frozen = 0  # modules

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self):
        gc.disable()
        try:
            return (yield)
        finally:
            gc.enable()

    def pytest_collection_finish(self) -> None:
        self.freeze()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self) -> None:
        if len(sys.modules) > self.frozen + MANY:
            self.freeze()

    def freeze(self) -> None:
        """Collect, so that no garbage is kept, and freeze the rest."""
        gc.collect()
        gc.freeze()
        self.frozen = len(sys.modules)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Garbage(), "suite-garbage")
