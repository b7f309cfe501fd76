"""Runs of the bad-input benchmark: one case, the process that runs many, and what each of them violates."""

from __future__ import annotations

import contextlib
import hashlib
import io
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .bad_input_cases import Case
from .bad_processes import run_in

LIMIT_S, LIMIT_MB = 30.0, 2500.0  # without the time in which other processes have the processor
HANGS = 4  # times that limit, whoever has the processor
ALLOWED = (0, 2, 3)
OUT = "out"  # the folder of results, emptied before each case


@dataclass
class Result:
    """How a case ended."""

    code: int | None
    text: str
    seconds: float
    peak_mb: float
    violations: list[str] = field(default_factory=list)


class Digests:
    """SHA-256 of files; of those that the system calls unchanged, as it was."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, ...], str]] = {}

    def __call__(self, path: Path) -> str:
        """The digest of a file now."""
        status = path.stat()
        # the time of the last change of status cannot be set back, unlike that of the content
        mark = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._known.get(path, (None,))[0] != mark:
            self._known[path] = mark, hashlib.sha256(path.read_bytes()).hexdigest()
        return self._known[path][1]


def digests(folder: Path, digest: Callable[[Path], str] | None = None) -> dict[str, str]:
    """What lies in a folder without its results: SHA-256 of files, where links lead, kinds of all else."""
    found, digest = {}, digest or Digests()
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(root, name) != folder / OUT]
        for name in (*folders, *files):
            path = Path(root, name)
            if path.is_symlink():
                found[str(path.relative_to(folder))] = f"link to {os.readlink(path)}"
            elif path.is_file():
                found[str(path.relative_to(folder))] = digest(path)
            else:
                found[str(path.relative_to(folder))] = "no file"
    return found


def results(folder: Path) -> list[str]:
    """What lies in the folder of results."""
    return sorted(str(path.relative_to(folder)) for path in (folder / OUT).rglob("*"))


def reset(folder: Path) -> None:
    """Empty the folder of results; a link in it leads to itself."""
    import shutil

    shutil.rmtree(folder / OUT, ignore_errors=True)
    (folder / OUT).mkdir()
    for suffix in (".mp4", ".safetensors", ".png"):
        (folder / OUT / f"loop{suffix}").symlink_to(f"loop{suffix}")


def run_case(case: Case, folder: Path) -> Result:
    """Run a command in this process, in the folder."""
    from portraittalk_core.cli.main import main

    reset(folder)
    before = results(folder)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew
    said, started, code = io.StringIO(), time.perf_counter() - queued_s(), None
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            if case.surroundings:
                code, text = run_in(case.surroundings, case.words, folder)
                said.write(text)
            else:
                code = main(case.words)
        except BaseException as error:  # noqa: BLE001 - whatever comes out is what is looked for
            said.write(f"Traceback: {type(error).__name__}: {error}")
    seconds = time.perf_counter() - queued_s() - started
    result = Result(code, said.getvalue(), seconds, peak_mb())
    result.violations = violations(case, result, before, results(folder))
    return result


def violations(case: Case, result: Result, before: Sequence[str], after: Sequence[str]) -> list[str]:
    """What does not hold of a case that has ended."""
    found = []
    if result.code not in ALLOWED:
        found.append(f"ended with {result.code}")
    if case.taken and result.code != 2:
        found.append(f"took {case.taken}, which it reads, for its output")
    if "Traceback" in result.text or "internal error" in result.text:
        found.append("ended in a fault")
    if result.code == 2 and not ("portraittalk: " in result.text or "error: " in result.text):
        found.append("said nothing")
    new = [name for name in after if name not in before]
    if result.code == 2 and new and case.surroundings != "full standard output":  # the work is done by then
        found.append(f"left {', '.join(new[:3])}")
    if parts := [name for name in new if ".part" in name]:
        found.append(f"left the part {parts[0]}")
    if result.seconds > LIMIT_S and not case.surroundings:  # which imports all anew, and has a limit of its own
        found.append(f"took {result.seconds:.0f} s")
    if result.peak_mb > LIMIT_MB:
        found.append(f"took {result.peak_mb:.0f} MB")
    return found


def queued_s() -> float:
    """How long this process has been ready, but others had the processor; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def peak_mb() -> float:
    """The most memory that this process has held since the peak was reset; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def _serve(folder: str, pipe: object) -> None:
    """Run cases of a pipe in a process of its own, until None comes."""
    os.chdir(folder)
    os.environ.pop("PORTRAITTALK_DEBUG", None)
    while (case := pipe.recv()) is not None:
        pipe.send(run_case(case, Path()))


class Worker:
    """A process that runs cases; one that hangs or dies is replaced.

    Args:
        folder: of its own copy of all files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._process = folder, None
        self._digest = Digests()
        self.digests = digests(folder, self._digest)

    def run(self, case: Case) -> Result:
        """Run a case; hanging and dying are violations."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(str(self.folder), theirs), daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._pipe.send(case)
            result = self._pipe.recv() if self._pipe.poll(HANGS * LIMIT_S) else None
        except (EOFError, OSError):
            result = Result(None, "", 0.0, 0.0, ["ended its process"])
        if result is None:
            result = Result(None, "", HANGS * LIMIT_S, 0.0, [f"did not end within {HANGS * LIMIT_S:.0f} s"])
        if result.code is None:
            self.close()
        now = digests(self.folder, self._digest)
        if changed := sorted(
            name for name in now.keys() | self.digests.keys() if now.get(name) != self.digests.get(name)
        ):
            result.violations.append(f"changed {', '.join(changed[:3])}")
            self.digests = now
        return result

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
