"""Resuming of long renders: finished sections are cached, and the same command continues from them."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..cache_key import cache_key, file_digest
from .process import goes_on_from

if TYPE_CHECKING:
    from ..renderers.sections import Sections

SUFFIX = ".unfinished"
# arguments that the frames do not depend on
NOT_PAINTED = ("run", "debug", "out", "crf", "ai_mark", "no_resume", "batch_size", "mesh_backend")


def add_resume(parser: argparse._ActionsContainer) -> None:
    """Add --no-resume."""
    parser.add_argument(
        "--no-resume",
        action="store_true",
        help=f"keep no finished sections in OUT{SUFFIX}; with them, a job that was stopped goes on where it was",
    )


@contextlib.contextmanager
def resumed(args: argparse.Namespace, options: object) -> Iterator[Sections | None]:
    """Cached sections of this command; None where nothing is cached. Prints their reuse when all is done.

    Cached sections of other commands with the same output are removed.

    Args:
        args: parsed.
        options: of the renderer; without `resumable`, and without `denoise` or with 0, nothing takes long enough to be
            kept.
    """
    if args.no_resume or not (getattr(options, "denoise", 0) or getattr(options, "resumable", False)):
        yield None
        return
    from ..renderers.sections import Sections, prune

    root = Path(f"{args.out}{SUFFIX}")
    sections = Sections(root, job_key(args))
    prune(root, sections.key, days=0)
    with goes_on_from(root, "finished sections"):
        yield sections
    with contextlib.suppress(OSError):
        root.rmdir()
    if sections.summary:
        print(sections.summary)


def job_key(args: argparse.Namespace) -> str:
    """Cache key of 64 hex digits: equal for commands that render equal frames; files count by content."""
    arguments = {name: _fingerprint(value) for name, value in vars(args).items() if name not in NOT_PAINTED}
    arguments["face"] = _face_fingerprint(getattr(args, "face", None))
    arguments["also"] = [
        [_face_fingerprint(face), _fingerprint(speech)] for face, speech in getattr(args, "also", None) or ()
    ]
    arguments["lora"] = [_lora_fingerprint(lora) for lora in getattr(args, "lora", None) or ()]
    return cache_key([__version__, arguments])


def _face_fingerprint(face: str | None) -> object:
    """Of a face that is meant: a mask's file counts by its content."""
    return _fingerprint(Path(face)) if face and os.path.isfile(face) else face


def _lora_fingerprint(lora: str) -> object:
    name, _, strength = lora.rpartition(":")
    path = next((Path(p) for p in (lora, name) if p and Path(p).is_file()), None)
    return lora if path is None else [_fingerprint(path), strength if str(path) == name else "1"]


def _fingerprint(value: object) -> object:
    if isinstance(value, list):
        return [_fingerprint(item) for item in value]
    if not isinstance(value, Path):
        return value
    if value.is_dir():
        files = [file for file in sorted(value.rglob("*")) if file.is_file()]
        return [[str(file.relative_to(value)), _fingerprint(file)] for file in files]
    if not value.is_file():
        return str(value)  # reading it raises the error
    return file_digest(value)
