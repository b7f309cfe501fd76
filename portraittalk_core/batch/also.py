"""The manifest column `also`: further faces of a source, and what each of them says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..checks import abbreviated
from ..errors import InputError

COLUMN = "also"
SILENCE = "silence"  # as of `media.several_sounds`, which imports torch
SEPARATOR = "|"  # between pairs; no file name of Windows holds it
BOX_NUMBERS = 4
FORM = "FACE SOUND pairs with | between them, such as 1 right.wav | 2 last.wav"


@dataclass(frozen=True)
class AlsoPair:
    """One face besides the first, and the file of what it says, as they stand in the cell."""

    number: int  # from 1
    face: str  # a number, a box, or the file of a mask
    sound: str  # or the word silence: the face listens

    @property
    def face_key(self) -> str:
        """What a job's files call the mask."""
        return face_key(self.number)

    @property
    def sound_key(self) -> str:
        """What a job's files call the sound."""
        return sound_key(self.number)


def names_mask(face: object) -> bool:
    """Whether a face that is meant is the file of a mask; else it is a number or a box."""
    return isinstance(face, str) and bool(Path(face).suffix) and len(face.split(",")) != BOX_NUMBERS


def face_key(number: int) -> str:
    """What a job's files call the mask of a pair, counted from 1."""
    return f"face {number} of {COLUMN}"


def sound_key(number: int) -> str:
    """What a job's files call the sound of a pair, counted from 1."""
    return f"sound {number} of {COLUMN}"


def also_pairs(cell: str) -> list[AlsoPair]:
    """The pairs of a cell; none of an empty one.

    Raises:
        InputError: a pair without a face or without a sound.
    """
    pairs = []
    for number, text in enumerate(cell.split(SEPARATOR) if cell.strip() else (), 1):
        face, _, sound = text.strip().partition(" ")
        if not face or not sound.strip():
            raise InputError(f"{COLUMN} must be {FORM}, not {abbreviated(cell)}")
        pairs.append(AlsoPair(number, face, sound.strip()))
    return pairs
