"""Where `talk --renderer identitynet` keeps finished sections, so that the same command, given again, goes on."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..cache_key import cache_key, file_digest

if TYPE_CHECKING:
    from ..renderers.sections import Sections

SUFFIX = ".unfinished"
# what the painted frames do not depend on
NOT_PAINTED = ("run", "debug", "out", "crf", "no_resume", "batch_size", "mesh_backend")


def add_resume(parser: argparse._ActionsContainer) -> None:
    """The option of commands whose renderer may take long."""
    parser.add_argument(
        "--no-resume",
        action="store_true",
        help=f"keep no finished sections in OUT{SUFFIX}; with them, a job that was stopped goes on where it was",
    )


@contextlib.contextmanager
def resumed(args: argparse.Namespace, options: object) -> Iterator[Sections | None]:
    """The finished sections of the command at hand; None where none are kept. Prints what was found, once all is done.

    What is left of other commands with the same output is removed.

    Args:
        args: parsed.
        options: of the renderer; without `denoise`, or with 0, nothing takes long enough to be kept.
    """
    if args.no_resume or not getattr(options, "denoise", 0):
        yield None
        return
    from ..renderers.sections import Sections, prune

    root = Path(f"{args.out}{SUFFIX}")
    sections = Sections(root, job_key(args))
    prune(root, sections.key, days=0)
    yield sections
    with contextlib.suppress(OSError):
        root.rmdir()
    if sections.summary:
        print(sections.summary)


def job_key(args: argparse.Namespace) -> str:
    """64 digits: the same for commands that paint the same frames; files count by their content, not by their names."""
    told = {name: _told(value) for name, value in vars(args).items() if name not in NOT_PAINTED}
    told["lora"] = [_told_lora(given) for given in args.lora or ()]
    return cache_key([__version__, told])


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
    return file_digest(value)
