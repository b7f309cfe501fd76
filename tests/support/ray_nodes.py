"""A cluster of Ray on one machine: two nodes in network namespaces of their own, joined by a virtual cable.

To the nodes they are two machines: one can be killed, or its cable pulled. Needs Linux, iproute2 and root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAD, OTHER = "10.203.77.1", "10.203.77.2"
PORT = 6379
START_S = 90.0
# small: other programs need the memory, too, and what they hold must not make Ray end these workers
MEMORY = "--object-store-memory=80000000"


def why_not() -> str:
    """Why no network namespace can be made here; empty: it can."""
    if not shutil.which("ip"):
        return "there is no `ip` (Debian: iproute2)"
    name = f"pt{os.getpid()}t"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"ip netns add: {made.stderr.strip()}"
    entered = subprocess.run(["ip", "netns", "exec", name, "true"], capture_output=True, text=True, check=False)
    _ip("netns", "delete", name)
    return f"ip netns exec: {entered.stderr.strip()}" if entered.returncode else ""


class RayNodes:
    """Two nodes with one CPU each, as a context manager; both ask for a token, as docs/scores.md says."""

    def __init__(self) -> None:
        self.head, self.other = f"pt{os.getpid()}a", f"pt{os.getpid()}b"
        self.address = f"{HEAD}:{PORT}"

    def __enter__(self) -> RayNodes:
        self._open = contextlib.ExitStack()
        try:
            # short: Ray's sockets lie in it, and their names may have 107 letters
            self.folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="pt", dir="/tmp")))
            (self.folder / ".ray").mkdir()
            (self.folder / ".ray" / "auth_token").write_text("ab" * 32)
            self._join()
            head = ("--head", f"--port={PORT}", f"--temp-dir={self.folder}/r", "--include-dashboard=false")
            self._start(self.head, f"--node-ip-address={HEAD}", *head)
            self._start(self.other, f"--address={self.address}", f"--node-ip-address={OTHER}")
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def run(self, *words: str, **more: object) -> subprocess.Popen:
        """Start a program on the head's machine."""
        return self._run(self.head, *words, **more)

    def kill_other(self) -> None:
        """End every process of the other machine at once."""
        self._kill(self.other)

    def kill_head(self) -> None:
        """End Ray on the head's machine, but not the programs that use it."""
        self._kill(self.head, ("gcs_server", "raylet"))

    def pull_cable(self) -> None:
        """Take the other machine off the network."""
        _ip("-n", self.other, "link", "set", self.other, "down")

    def _join(self) -> None:
        for name in (self.head, self.other):
            _ip("netns", "add", name)
            self._open.callback(_ip, "netns", "delete", name)
            self._open.callback(self._kill, name)
        _ip("link", "add", self.head, "type", "veth", "peer", "name", self.other)
        for name, address in ((self.head, HEAD), (self.other, OTHER)):
            _ip("link", "set", name, "netns", name)
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
            for device in ("lo", name):
                _ip("-n", name, "link", "set", device, "up")

    def _start(self, name: str, *words: str) -> None:
        ray = Path(sys.executable).with_name("ray")
        log = self.folder / f"{name}.log"
        with log.open("w") as out:
            given = (str(ray), "start", "--num-cpus=1", MEMORY, *words, "--block")
            process = self._run(name, *given, stdout=out, stderr=out)
        end = time.monotonic() + START_S
        while "Ray runtime started" not in (text := log.read_text()):
            if time.monotonic() > end or process.poll() is not None:
                raise RuntimeError(f"Ray did not start in {name} within {START_S:g} s: {text[-2000:]}")
            time.sleep(0.2)

    def _run(self, name: str, *words: str, **more: object) -> subprocess.Popen:
        environment = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"HOME": str(self.folder), "RAY_AUTH_MODE": "token", "PYTHONPATH": str(ROOT)}
        environment |= {"RAY_memory_monitor_refresh_ms": "0", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(["ip", "netns", "exec", name, *words], env=environment, **more)

    def _kill(self, name: str, programs: tuple[str, ...] = ()) -> None:
        for number in _ip("netns", "pids", name).split():
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                if not programs or Path(f"/proc/{number}/comm").read_text().strip() in programs:
                    os.kill(int(number), signal.SIGKILL)


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout
