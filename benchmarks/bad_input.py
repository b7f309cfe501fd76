"""Bad input of every kind for every option of every command, and what must hold for each.

The cases follow from the parsers: every flag that takes a file is given every bad file, every number every bad number,
every text every bad text, and every output the names that would destroy something. For each case the command must

- end with 0, or 2 (something given cannot be used), or 3 (some of many failed), and say so without a traceback,
- leave nothing new where it writes unless it ends with 0 or 3, and never a part of a file,
- leave every input as it was, and run no code of any file,
- end within a time and a size of memory.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from .bad_films import odd_films, odd_sounds, odd_weights
from .bad_input_cases import Case, cases
from .bad_input_files import bad_files, make_good
from .bad_input_run import ALLOWED, Result, Worker
from .bad_portraits import keypoint_files, odd_portraits

PURPOSE = "bad input of every kind in every command: none may end in a fault, a half-written file or a lost input"
SHOWN = 400  # letters of what a case said
REPORT_EVERY_S = 10.0  # between two lines that say how far it is


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--only", metavar="PATTERN", default="*", help="names of cases, with * and ?")
    parser.add_argument("--workers", metavar="N", type=int, default=2, help="processes")
    parser.add_argument("--said", action="store_true", help="print how every case ended, and what it said last")
    parser.add_argument("--list", action="store_true", help="only print the names of the cases")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run all cases; 1 if anything is violated."""
    sys.stdout.reconfigure(errors="backslashreplace")  # what commands say may hold bytes that are no letters
    listed = [case for case in cases() if fnmatch.fnmatch(case.name, args.only)]
    if args.list:
        print(*(case.name for case in listed), sep="\n")
        return 0
    waiting, ended = queue.Queue(), []
    for case in listed:
        waiting.put(case)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is stopped reports too
    with tempfile.TemporaryDirectory() as name:
        workers = [Worker(folder) for folder in _folders(Path(name), args.workers)]
        started = time.perf_counter()
        threads = [threading.Thread(target=_work, args=(w, waiting, ended, args.said), daemon=True) for w in workers]
        for thread in threads:
            thread.start()
        try:
            _watch(threads, ended, len(listed), started)
        except KeyboardInterrupt:
            print("stopped; what has ended until now:")
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.get_nowait()
            for worker in workers:
                worker.close()
            ended = [(case, result) for case, result in list(ended) if result.code in ALLOWED]  # not those it stopped
        return _report(list(ended), time.perf_counter() - started, len(listed))


def prepare_folder(folder: Path) -> None:
    """Make every file."""
    make_good(folder)
    odd = odd_films(), odd_sounds(), odd_weights(), odd_portraits(), keypoint_files()
    for makes in (*bad_files().values(), *odd):
        for name, make in makes.items():
            make(folder / name)
    for suffix, name in ((".mp4", "film.mp4"), (".safetensors", "engine.safetensors"), (".png", "portrait.png"),
                         (".json", "gain.json")):  # fmt: skip
        (folder / f"link{suffix}").symlink_to(name)
        os.link(folder / name, folder / f"hard{suffix}")


def _folders(root: Path, count: int) -> list[Path]:
    """So many folders with every file, which take seconds to make and a moment to copy."""
    folders = [root / str(number) for number in range(count)]
    for folder in folders:
        copied = folder != folders[0] and subprocess.run(["cp", "-a", folders[0], folder], check=False).returncode == 0
        if not copied:
            folder.mkdir(exist_ok=True)
            prepare_folder(folder)
    return folders


def _watch(threads: Sequence[threading.Thread], ended: Sequence, total: int, started: float) -> None:
    """Say every REPORT_EVERY_S seconds how far it is, until all threads end."""
    reported_at = started
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.2)
        now = time.perf_counter()
        if now - reported_at >= REPORT_EVERY_S and ended:
            reported_at, done = now, list(ended)
            broken = sum(bool(result.violations) for _, result in done)
            remaining_s = (now - started) / len(done) * (total - len(done))
            print(f"{len(done)} of {total} cases, {broken} violations, about {remaining_s:.0f} s left", flush=True)


def _work(worker: Worker, waiting: queue.Queue, ended: list[tuple[Case, Result]], said: bool) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            case = waiting.get_nowait()
            result = worker.run(case)
            ended.append((case, result))
            last = (result.text.strip().splitlines() or [""])[-1][:SHOWN]
            if said:
                print(f"{case.name} | {result.code} | {result.seconds:.1f} s | {last}", flush=True)
            if result.violations:
                print(f"{case.name}: {'; '.join(result.violations)} | {last}", flush=True)
    worker.close()


def _report(ended: Sequence[tuple[Case, Result]], seconds: float, total: int) -> int:
    codes = {code: sum(result.code == code for _, result in ended) for code in ALLOWED}
    broken = [case for case, result in ended if result.violations]
    slowest = max(ended, key=lambda pair: pair[1].seconds, default=None)
    largest = max((result.peak_mb for _, result in ended), default=0.0)
    by_code = ", ".join(f"{count} ended with {code}" for code, count in codes.items())
    print(f"{len(ended)} of {total} cases in {seconds:.0f} s: {by_code}; {len(broken)} violations")
    if slowest:
        print(f"the slowest took {slowest[1].seconds:.1f} s ({slowest[0].name}); the most memory was {largest:.0f} MB")
    return 1 if broken or len(ended) < total else 0
