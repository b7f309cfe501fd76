"""A kind of weight file, known by the names and shapes of its tensors."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .headers import Shapes

Needs = tuple[tuple[str, tuple[int | None, ...] | None], ...]


@dataclass(frozen=True)
class WeightFile:
    """One kind of weight file that users may have."""

    role: str  # what it does here
    source: str  # where it comes from
    licence: str
    folder: str  # of ComfyUI's models folder
    size: str  # about, of the published file
    needs: Needs  # regular expression of a name, its shape; None fits any size or shape
    forbidden: tuple[str, ...] = ()  # regular expressions of names that must not occur
    num_tensors: int | None = None  # exactly, if it matters
    used: bool = False  # by this version; others are known but wait for their engine
    engine: str = ""  # name of the motion engine whose network it is
    flag: str = ""  # of the command line, that names such a file
    note: str = ""  # what it needs besides, for the table of docs/weights.md

    def fits(self, shapes: Shapes) -> bool:
        """Whether a file with these tensors is one of this kind."""
        return (
            self.num_tensors in (None, len(shapes))
            and all(_holds(shapes, name, shape) for name, shape in self.needs)
            and not any(_holds(shapes, name, None) for name in self.forbidden)
        )


def _holds(shapes: Shapes, name: str, shape: tuple[int | None, ...] | None) -> bool:
    return any(re.search(name, key) and (shape is None or _equal(size, shape)) for key, size in shapes.items())


def _equal(size: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(size) == len(expected) and all(e in (None, f) for f, e in zip(size, expected, strict=True))
