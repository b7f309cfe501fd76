"""Bad surroundings of a process, for the bad-input benchmark: closed and full streams, a folder that is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# the command line that runs "$@", by what is bad about it
SURROUNDINGS = {
    "no standard output": '"$@" >&-',
    "no standard error": '"$@" 2>&-',
    "no standard streams": '"$@" <&- >&- 2>&-',
    "full standard output": '"$@" >/dev/full',
    "folder that is gone": 'mkdir out/gone && cd out/gone && rmdir ../gone && "$@"',
    "no temporary folder": 'TMPDIR=/nonexistent "$@"',
    "no home": 'HOME=/nonexistent XDG_CACHE_HOME=/proc/none "$@"',
}
LIMIT_S = 120.0  # torch is imported anew


def run_in(surroundings: str, words: Sequence[str], folder: Path) -> tuple[int, str]:
    """Exit code of a command in bad surroundings, and what it said.

    Args:
        surroundings: one of SURROUNDINGS.
        words: of the command; what ends in the name of a file of the folder is told to it by its whole path.
        folder: with the files.
    """
    folder = folder.resolve()
    words = [_absolute(word, folder) for word in words]
    command = ["sh", "-c", SURROUNDINGS[surroundings], "sh", sys.executable, "-m", "portraittalk_core", *words]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(errors="backslashreplace")


def _absolute(word: str, folder: Path) -> str:
    flag, equals, value = word.partition("=")
    return f"{flag}={folder / value}" if equals and "." in value else word
