"""Where `talk --renderer identitynet` keeps finished sections, so that the same command, given again, goes on."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__

if TYPE_CHECKING:
    from ..renderers.sections import Sections

SUFFIX = ".unfinished"
READ_BYTES = 2**22
# what the painted frames do not depend on
NOT_PAINTED = ("run", "debug", "out", "crf", "no_resume", "batch_size", "mesh_backend")


def add_resume(parser: argparse.ArgumentParser) -> None:
    """The option of the command."""
    parser.add_argument(
        "--no-resume",
        action="store_true",
        help=f"keep no finished sections in OUT{SUFFIX}; with them, a job that was stopped goes on where it was",
    )


@contextlib.contextmanager
def resumed(args: argparse.Namespace) -> Iterator[Sections | None]:
    """The finished sections of the command at hand; None where none are wanted. Tells what was found, once all is done.

    What is left of other commands with the same output is removed.
    """
    if args.no_resume or args.denoise == 0:
        yield None
        return
    from ..renderers.sections import Sections, prune

    root = Path(f"{args.out}{SUFFIX}")
    sections = Sections(root, job_key(args))
    prune(root, sections.key, days=0)
    yield sections
    with contextlib.suppress(OSError):
        root.rmdir()
    if sections.told:
        print(sections.told)


def job_key(args: argparse.Namespace) -> str:
    """64 digits: the same for commands that paint the same frames; files count by their content, not by their names."""
    told = {name: _told(value) for name, value in vars(args).items() if name not in NOT_PAINTED}
    told["lora"] = [_told_lora(given) for given in args.lora]
    return hashlib.sha256(json.dumps([__version__, told], sort_keys=True, default=str).encode()).hexdigest()


def _told_lora(given: str) -> object:
    name, _, strength = given.rpartition(":")
    path = next((Path(p) for p in (given, name) if p and Path(p).is_file()), None)
    return given if path is None else [_told(path), strength if str(path) == name else "1"]


def _told(value: object) -> object:
    if isinstance(value, list):
        return [_told(one) for one in value]
    if not isinstance(value, Path):
        return value
    if value.is_dir():
        return [[str(file.relative_to(value)), _told(file)] for file in sorted(value.rglob("*")) if file.is_file()]
    if not value.is_file():
        return str(value)  # which is told as missing where it is read
    read, found = bytearray(READ_BYTES), hashlib.sha256()
    with value.open("rb", buffering=0) as file:
        while count := file.readinto(read):
            found.update(memoryview(read)[:count])
    return found.hexdigest()
