"""Command line of the parity scripts, which compare an engine or a renderer with its public code: ``parity_*.py``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    from torch import Tensor

INSTALL = 'pip install -e ".[parity]"'


@dataclass(frozen=True)
class PublicCode:
    """A public repository to compare with."""

    url: str  # what to clone
    file: str  # a file of it that is imported, by which a copy is known
    packages: Mapping[str, str] = field(
        default_factory=dict
    )  # what it imports beyond PortraitTalk: module → pip's name


def run(public: PublicCode, measure: Callable[[Path], dict[str, float]], args: Sequence[str] | None = None) -> int:
    """Print the differences that `measure` finds in the copy of the public code which the command line names.

    Args:
        public: the repository.
        measure: folder of the copy → largest differences and sizes, by name. Its docstring is the command's help.
        args: the command line; None takes the program's own.

    Returns:
        0.

    Raises:
        SystemExit: 2, with what to do, if the copy or a package is missing.
    """
    name = Path(public.url).name
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{Path(sys.argv[0]).stem}",
        description=(measure.__doc__ or "").split("\n")[0].replace("`repo`", name),
        epilog=f"needs:\n  git clone {public.url}\n  {INSTALL}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("repo", type=Path, metavar=name.upper(), help=f"folder of a copy of {public.url}")
    repo: Path = parser.parse_args(args).repo
    if not (repo / public.file).is_file():
        parser.error(f"{repo} is no copy of {name}, for it has no {public.file}: git clone {public.url}")
    missing = [package for module, package in public.packages.items() if not _is_installed(module)]
    if missing:
        parser.error(f"{name} imports {', '.join(missing)}: {INSTALL}, or pip install {' '.join(missing)}")
    import torch

    torch.set_num_threads(1)
    print(json.dumps(measure(repo), indent=2))
    return 0


Measured = tuple[PublicCode, Callable[[Path], dict[str, float]]]


def run_all(rows: Sequence[Measured], args: Sequence[str] | None = None) -> int:
    """`run` for every copy that the command line names, of whichever of several repositories it is."""
    for one in list(sys.argv[1:] if args is None else args) or ["--help"]:
        public, measure = next((row for row in rows if (Path(one) / row[0].file).is_file()), rows[0])
        run(public, measure, [one])
    return 0


class StandIn(ModuleType):
    """A module that has every name."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return SimpleNamespace


@contextmanager
def imported(repo: Path, package: str, absent: Sequence[str]) -> Iterator[None]:
    """The public code in the path, and what it imports without use here replaced.

    Args:
        repo: the copy.
        package: of its modules, which are imported anew.
        absent: names of modules that are replaced.
    """
    stand_ins = {name: StandIn(name) for name in absent}
    for name in [n for n in sys.modules if n.split(".")[0] == package]:
        del sys.modules[name]
    with patch.object(sys, "path", [str(repo), *sys.path]), patch.dict(sys.modules, stand_ins):
        yield


def compared(what: str, actual: Tensor, expected: Tensor) -> dict[str, float]:
    """Largest difference of two tensors, and the largest number in what was expected."""
    difference = float((actual - expected).abs().max())
    return {f"{what}: difference": difference, f"{what}: size": float(expected.abs().max())}


def timed(whose: str, work: Callable[[], Tensor], pictures: int) -> tuple[Tensor, dict[str, float]]:
    """What some work returns, and its processor seconds a picture."""
    start = time.process_time()
    result = work()
    return result, {f"processor seconds a picture, {whose}": (time.process_time() - start) / pictures}


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # in sys.modules as None, which forbids its import
        return False
