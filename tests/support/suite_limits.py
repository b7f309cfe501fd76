"""Time limit of unmarked tests: a test that costs more than four seconds carries `slow`, or the run fails.

A test's cost is processor time, not wall time, so that a busy machine does not make it slow: of this process and of
its children that have ended, during the test's call, and of the module, class and function fixtures that it uses,
whoever made them. Session fixtures and imports are paid once a process and count for nobody. What a test waits for in
a process that goes on (Ray's workers) is not seen, unless it is in SERVERS, as ComfyUI's: those tests carry `comfy` or
`slow`, and `make quick` runs neither. `--costs` also writes what was paid in a test, its share of fixtures included:
the sum over all tests is what the suite costs. On a slower machine seconds count less, by a fixed piece of work
measured at the start.
"""

from __future__ import annotations

import builtins
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence

import pytest

LIMIT_S = 4.0
REFERENCE_S = 0.0085  # processor time of `calibration_s` on the machine whose seconds the limit counts
FREE = ("slow", "comfy")  # markers of tests that may cost more
OTHER = "not asked for"  # by -k, -m or a path
ORIGINAL = builtins.__import__
FIXTURE_COSTS = pytest.StashKey[dict]()  # fixture definition → processor seconds
SLOWNESS = pytest.StashKey[float]()
SERVERS: list[int] = []  # numbers of processes that go on and work for the tests


def is_there(name: str, fromlist: Sequence[str] | None, level: int) -> bool:
    """Whether an absolute import needs no work: the module is loaded and holds every name that is asked for."""
    if level or name not in sys.modules:
        return False
    held = getattr(sys.modules[name], "__dict__", ())
    return all(wanted in held for wanted in fromlist or ())


class Imports(threading.local):
    """Wrapper of `__import__` that adds up the processor time of the outermost imports.

    An import of what is there already, as torch makes thousands a second inside of its functions, is not measured:
    asking for the time costs more than such an import.
    """

    def __init__(self) -> None:
        self.depth, self.used_s = 0, 0.0  # in this thread

    def __call__(self, name, globals=None, locals=None, fromlist=(), level=0):
        if self.depth or is_there(name, fromlist, level):
            return ORIGINAL(name, globals, locals, fromlist, level)
        began = sum(os.times()[:4])
        self.depth += 1
        try:
            return ORIGINAL(name, globals, locals, fromlist, level)
        finally:
            self.depth -= 1
            self.used_s += sum(os.times()[:4]) - began


imports = Imports()


def processor_s() -> float:
    """Processor time of this process, of its children that have ended and of servers, without imports."""
    return sum(os.times()[:4]) - imports.used_s + sum(map(server_s, SERVERS))


def server_s(number: int) -> float:
    """Processor time of a running process; one that has ended is among the children."""
    import psutil

    try:
        return sum(psutil.Process(number).cpu_times()[:2])
    except psutil.NoSuchProcess:
        return 0.0


def calibration_s() -> float:
    """Least processor time of a fixed piece of work: what a slower machine needs more of."""
    measured = []
    for _ in range(5):
        began = time.process_time()
        sum(number * number for number in range(300_000))
        measured.append(time.process_time() - began)
    return min(measured)


def slowness() -> float:
    """How many times slower than the reference machine this one is; 1 for a faster one."""
    return max(1.0, calibration_s() / REFERENCE_S)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("suite")
    group.addoption("--slow-s", type=float, default=LIMIT_S, help="processor seconds that need the marker `slow`")
    group.addoption("--slowness", type=float, help="how many times slower this machine is; measured where not given")
    group.addoption("--cluster", action="store_true", help="take machines from a real cluster of Ray (four minutes)")
    group.addoption("--costs", metavar="FILE", help="write of every test: processor s, wall s, id, s paid in it")


def pytest_configure(config: pytest.Config) -> None:
    given = config.getoption("--slowness")
    config.stash[FIXTURE_COSTS], config.stash[SLOWNESS] = {}, slowness() if given is None else given
    builtins.__import__ = imports
    config.pluginmanager.register(Limits(config), "suite-limits")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef, request: pytest.FixtureRequest):
    began = processor_s()
    try:
        return (yield)
    finally:
        if fixturedef.scope not in ("session", "package"):
            request.config.stash[FIXTURE_COSTS][id(fixturedef)] = processor_s() - began


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item):
    began = processor_s()
    try:
        return (yield)
    finally:
        item.user_properties.append(("setup_s", (processor_s() - began) / item.config.stash[SLOWNESS]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    began, began_wall = processor_s(), time.perf_counter()
    try:
        return (yield)
    finally:
        used, fixture_costs = processor_s() - began, item.config.stash[FIXTURE_COSTS]
        definitions = item._fixtureinfo.name2fixturedefs
        fixtures = [definitions[name][-1] for name in item.fixturenames if name in definitions]
        paid = dict(item.user_properties)["setup_s"] + used / item.config.stash[SLOWNESS]
        used += sum(fixture_costs.get(id(fixture), 0.0) for fixture in fixtures)
        item.user_properties.append(("cost_s", round(used / item.config.stash[SLOWNESS], 3)))
        item.user_properties.append(("wall_s", round(time.perf_counter() - began_wall, 3)))
        item.user_properties.append(("paid_s", round(paid, 3)))
        item.user_properties.append(("free", any(item.get_closest_marker(name) for name in FREE)))


def pytest_unconfigure() -> None:
    builtins.__import__ = ORIGINAL


class Limits:
    """Collector of costs and deselected tests in every process; xdist workers send theirs to the controller."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.limit_s: float = config.getoption("--slow-s")
        path = None if hasattr(config, "workerinput") else config.getoption("--costs")
        self.costs = open(path, "w", buffering=1) if path else None  # noqa: SIM115 - as long as the run
        self.too_long: dict[str, float] = {}
        self.left_out: Counter[str] = Counter()  # why → how many

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        for item in items:
            self.left_out[next((name for name in FREE if item.get_closest_marker(name)), OTHER)] += 1

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        if report.when != "call" or "cost_s" not in properties:
            return
        if self.costs:
            cost, wall, paid = (properties[name] for name in ("cost_s", "wall_s", "paid_s"))
            self.costs.write(f"{cost:.3f}\t{wall:.3f}\t{report.nodeid}\t{paid:.3f}\n")
        if properties["cost_s"] > self.limit_s and not properties["free"]:
            self.too_long[report.nodeid] = properties["cost_s"]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node) -> None:
        self.left_out |= Counter(getattr(node, "workeroutput", {}).get("left_out", {}))  # all workers collect the same

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput["left_out"] = dict(self.left_out)
        elif self.too_long and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.left_out:
            parts = ", ".join(f"{self.left_out[why]} {why}" for why in (*FREE, OTHER) if self.left_out[why])
            terminalreporter.write_line(f"Left out: {parts}. `make test` runs them all.", yellow=True)
        if self.too_long:
            terminalreporter.section("tests too long to be unmarked", red=True)
            for name, cost in sorted(self.too_long.items(), key=lambda item: -item[1]):
                terminalreporter.write_line(f"{cost:6.1f} s  {name}")
            terminalreporter.write_line(
                f"Each took more than {self.limit_s:g} s of a processor, its fixtures included. Make it cheaper, or"
                " mark it @pytest.mark.slow; on a slow machine, say --slow-s 10."
            )
