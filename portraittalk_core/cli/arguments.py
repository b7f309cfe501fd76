"""What several commands ask for or show alike: files to write, device, face mesh, tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..face.mesh.landmarks import MeshBackend

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
TRACK_SUFFIXES = (".safetensors",)
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def check_output(out: Path, inputs: Iterable[Path], suffixes: tuple[str, ...]) -> Path:
    """Check before long work starts that a result can be written to `out`, and return it.

    Args:
        out: file to write.
        inputs: files that are read and must not be overwritten.
        suffixes: endings that are known, in lower case; empty allows any.

    Raises:
        InputError: unknown ending, or the same file as an input.
        OutputError: a folder, or in a folder that does not exist or cannot be written to.
    """
    from ..media.atomic import check_writable

    if suffixes and out.suffix.lower() not in suffixes:
        raise InputError(f"the output {out} must end in {' or '.join(suffixes)}.")
    check_writable(out)
    for path in inputs:
        if path.resolve() == out.resolve() or (out.exists() and path.exists() and path.samefile(out)):
            raise InputError(f"the output {out} is also the input {path}; choose another name, for it would be lost.")
    return out


def check_crf(crf: int) -> int:
    """Check an H.264 quality number, 0..51, and return it."""
    from ..checks import check_range

    return int(check_range(crf, 0, 51, "crf"))


def chosen_place(args: argparse.Namespace) -> tuple[str, object]:
    """Device and dtype of --device and --precision.

    Raises:
        InputError: no such device here.
    """
    import torch

    fastest = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = args.device or fastest
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"--device {device} cannot be used here ({reason}); try cpu.") from error
    chosen = args.precision if args.precision != "auto" else "fp32" if device == "cpu" else "fp16"
    return device, {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[chosen]


@contextmanager
def open_asked_mesh(args: argparse.Namespace) -> Iterator[MeshBackend]:
    """The mesh back end that is asked for, open."""
    from ..face.mesh.landmarks import open_mesh

    with open_mesh(args.mesh_backend, model_path=args.mesh_model) as mesh:
        yield mesh


def print_table(title: str, rows: list[tuple[str, ...]]) -> None:
    """Show rows of cells under a title."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:  # the doctor must be able to tell what is missing even where rich is
        print(f"\n{title}", *("  ".join(row) for row in rows), sep="\n  ")
        return
    table = Table(title=title, title_justify="left", show_header=False)
    for row in rows:
        table.add_row(*map(Text, row))  # as it stands: a path with [brackets] is no markup
    # A pipe or a log file has no width of its own; 80 columns would break paths and advice apart.
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160).print(table)
